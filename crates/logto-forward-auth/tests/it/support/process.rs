//! A child process. Its output is recorded, and the process is stopped at the end of the test.

use std::{
    env,
    io::{BufRead as _, BufReader, Read},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use tokio::{net::TcpStream, sync::watch, time};

pub(crate) struct Process {
    child: Child,
    lines: watch::Receiver<Vec<String>>,
}

impl Process {
    pub(crate) fn start(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).env("RUST_LOG", "info,logto_forward_auth=debug");
        command.envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = watch::channel(Vec::new());
        record(child.stdout.take().unwrap(), sender.clone());
        record(child.stderr.take().unwrap(), sender);
        Self { child, lines }
    }

    /// Waits until a line contains the text, and returns the line.
    pub(crate) async fn wait_for_line(&self, text: &str) -> String {
        let mut lines = self.lines.clone();
        let find = |lines: &Vec<String>| lines.iter().find(|line| line.contains(text)).cloned();
        let found = time::timeout(DEADLINE, lines.wait_for(|lines| find(lines).is_some())).await;
        match found {
            Ok(Ok(lines)) => find(&lines).unwrap(),
            _ => panic!("no line with {text:?}:\n{}", self.output()),
        }
    }

    pub(crate) fn output(&self) -> String {
        self.lines.borrow().join("\n")
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until the process exits.
    pub(crate) async fn exit(mut self) -> ExitStatus {
        // The output ends when the process exits.
        let mut lines = self.lines.clone();
        let ended = async { while lines.changed().await.is_ok() {} };
        time::timeout(DEADLINE, ended).await.unwrap_or_else(|_| panic!("{}", self.output()));
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // nginx stops its worker processes on SIGTERM, but not on SIGKILL.
        if let Ok(None) = self.child.try_wait() {
            self.signal("TERM");
        }
        let _ = self.child.wait();
    }
}

fn record(output: impl Read + Send + 'static, lines: watch::Sender<Vec<String>>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            lines.send_modify(|lines| lines.push(line));
        }
    });
}

/// Returns `path` if a proxy is installed at this path. Otherwise, returns `None`, and the caller
/// skips the test. In CI, the function panics if the proxy is not installed, because CI must not
/// skip the test.
pub(crate) fn installed(path: &'static str) -> Option<&'static str> {
    if Path::new(path).exists() {
        return Some(path);
    }
    assert!(env::var_os("CI").is_none(), "{path} is not installed");
    println!("skipped: {path} is not installed");
    None
}

pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Waits until a server accepts connections.
pub(crate) async fn wait_for(address: SocketAddr, process: &Process) {
    let connected = async {
        while TcpStream::connect(address).await.is_err() {
            time::sleep(POLL).await;
        }
    };
    let connected = time::timeout(DEADLINE, connected).await;
    assert!(connected.is_ok(), "{address} does not listen:\n{}", process.output());
}

/// The longest time that a test waits for a process or a server.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// The interval between two attempts to connect. Only a successful attempt shows that a server has
/// opened its port.
const POLL: Duration = Duration::from_millis(10);
