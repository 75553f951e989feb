//! A real redis-server on a free port on 127.0.0.1, and a proxy in front of the server. A test can
//! interrupt the traffic through the proxy.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::eventually;

pub(crate) struct RedisServer {
    port: u16,
    directory: PathBuf,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl RedisServer {
    /// Starts a server. If no `redis-server` is installed, the function panics in CI, and returns
    /// `None` everywhere else.
    pub(crate) async fn start(arguments: &[&str]) -> Option<Self> {
        let is_installed = Command::new(PROGRAM).arg("--version").output().is_ok();
        if !is_installed {
            assert!(std::env::var_os("CI").is_none(), "redis-server is not installed");
            println!("skipped: redis-server is not installed");
            return None;
        }
        let port = free_port();
        let directory = std::env::temp_dir().join(format!("redis-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let arguments = arguments.iter().map(|one| (*one).to_owned()).collect();
        let mut server = Self { port, directory, arguments, process: None };
        server.restart().await;
        Some(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Kills the process to simulate a crash.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts the process again, with the data that the previous process wrote to disk.
    pub(crate) async fn restart(&mut self) {
        let mut command = Command::new(PROGRAM);
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &self.port.to_string()]);
        command.arg("--dir").arg(&self.directory).args(&self.arguments);
        self.process = Some(command.stdout(Stdio::null()).spawn().unwrap());
        let address = self.address();
        eventually(|| std::net::TcpStream::connect(address).is_ok()).await;
    }

    /// Deletes the data that the killed process left on disk.
    pub(crate) fn lose_data(&self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
        std::fs::create_dir_all(&self.directory).unwrap();
    }

    /// Sends a Redis command, and returns the first line of the response.
    pub(crate) async fn command(&self, words: &[&str]) -> String {
        let mut stream = TcpStream::connect(self.address()).await.unwrap();
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = vec![0; 4096];
        let length = stream.read(&mut response).await.unwrap();
        let response = String::from_utf8_lossy(&response[..length]).into_owned();
        response.lines().next().unwrap_or_default().to_owned()
    }
}

/// Returns a free port below the range of ephemeral ports. If the port were ephemeral, the system
/// could give it to another process while the server restarts.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = 12_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if StdListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A proxy that forwards connections. Between [`cut`](Self::cut) and [`restore`](Self::restore), it
/// forwards no bytes, but keeps all connections open.
pub(crate) struct CutProxy {
    address: SocketAddr,
    passes: watch::Sender<bool>,
    /// The number of calls of [`lose_connections`](Self::lose_connections).
    losses: watch::Sender<usize>,
    _tasks: JoinSet<()>,
}

impl CutProxy {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let passes = watch::Sender::new(true);
        let gate = passes.subscribe();
        let losses = watch::Sender::new(0);
        let lost = losses.subscribe();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let mut gate = gate.clone();
                let mut lost = lost.clone();
                lost.mark_unchanged();
                connections.spawn(async move {
                    open(&mut gate).await;
                    let Ok(server) = TcpStream::connect(target).await else { return };
                    let (client_read, client_write) = client.into_split();
                    let (server_read, server_write) = server.into_split();
                    let copies = async {
                        tokio::join!(
                            copy(client_read, server_write, gate.clone()),
                            copy(server_read, client_write, gate),
                        );
                    };
                    tokio::pin!(copies);
                    tokio::select! {
                        () = &mut copies => {}
                        _ = lost.changed() => {
                            // The sockets stay open, but the proxy forwards no more bytes.
                            std::future::pending::<()>().await;
                        }
                    }
                });
            }
        });
        Self { address, passes, losses, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(crate) fn cut(&self) {
        self.passes.send_replace(false);
    }

    pub(crate) fn restore(&self) {
        self.passes.send_replace(true);
    }

    /// Stops forwarding bytes on the open connections without closing them. A firewall that drops
    /// the state of connections has the same effect. New connections work.
    pub(crate) fn lose_connections(&self) {
        self.losses.send_modify(|losses| *losses += 1);
    }
}

async fn open(gate: &mut watch::Receiver<bool>) {
    let _ = gate.wait_for(|passes| *passes).await;
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut gate: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        open(&mut gate).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

const PROGRAM: &str = "redis-server";
