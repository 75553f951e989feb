//! Servers for the tests: the program, nginx, Caddy, and a service behind them.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    net::Ipv4Addr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tower_logto::testing::TestIssuer;

pub(crate) const RESOURCE: &str = "https://shopping.api";

/// Spellings that some server could take for `/admin`, and that no rule allows.
pub(crate) const SMUGGLED: [&str; 33] = [
    "/admin",
    "//admin",
    "/public//admin",
    "/public/../admin",
    "/public/./../admin",
    "/public/..",
    "/public/../admin?x=/public/y",
    "/public/..;/admin",
    "/public/x;/../../admin",
    "/public/%2e%2e/admin",
    "/public/%2E%2E/admin",
    "/public/.%2e/admin",
    "/public/%2e./admin",
    "/public%2f..%2fadmin",
    "/public/..%2fadmin",
    "/public/%2f../admin",
    "/public/..%5cadmin",
    "/public/..\\admin",
    "/public\\..\\admin",
    "/public/%252e%252e/admin",
    "/public/%25%32%65%25%32%65/admin",
    "/public/%c0%ae%c0%ae/admin",
    "/public/%00/../admin",
    "/public/%0d%0aX-Auth-Subject:%20admin",
    "/public/x%23/../../admin",
    "/public/x#/../../admin",
    "/public/%3f/../admin",
    "/Public/../admin",
    "/products/../admin",
    "/products/",
    "http://shop/admin",
    "/./admin",
    "/%61dmin",
];

/// A process that is killed when the test ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A response, as it was received.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    text: String,
}

/// A request that reached the service behind the proxy.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) text: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        header(&self.text, name)
    }
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let found = header(&self.text, name);
        // nginx does not send a header whose value is empty.
        if found.is_empty() { vec![""] } else { found }
    }
}

fn header<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let fields = text.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect()
}

/// Sends a request whose target is not normalized, and reads the response.
pub(crate) async fn send(port: u16, line: &str, token: Option<&String>, headers: &str) -> Response {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request =
        format!("{line} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n{token}{headers}\r\n");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    Response { status: status.unwrap_or_else(|| panic!("{request:?}: {text:?}")), text }
}

/// The service behind the proxy. It answers 200, and records each request.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let recorded = Arc::clone(&recorded);
                tokio::spawn(async move {
                    let mut bytes = Vec::new();
                    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
                        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    recorded.lock().unwrap().push(Request { text });
                    let response =
                        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                    let _ = stream.write_all(response.as_bytes()).await;
                });
            }
        });
        Self { port, requests }
    }

    /// Returns the requests since the last call.
    pub(crate) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// The program with the configuration of the README.
pub(crate) struct ForwardAuth {
    pub(crate) port: u16,
    pub(crate) config: String,
    path: PathBuf,
    process: Process,
    log: std::process::ChildStderr,
}

impl ForwardAuth {
    pub(crate) async fn start(issuer: &TestIssuer, proxy: &str) -> Self {
        let config = include_str!("../../config/rules.toml")
            .replace("https://tenant.logto.app", &issuer.endpoint())
            .replace("127.0.0.1:9000", "127.0.0.1:0")
            .replace("proxy = \"nginx\"", &format!("proxy = \"{proxy}\""));
        let path = folder().join("rules.toml");
        fs::write(&path, &config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_logto-forward-auth"))
            .arg(&path)
            .env("RUST_LOG", "info")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().unwrap().parse();
        let port = port.unwrap_or_else(|_| panic!("{line:?}"));
        let log = child.stderr.take().unwrap();
        Self { port, config, path, process: Process(child), log }
    }

    pub(crate) fn write(&self, config: &str) {
        fs::write(&self.path, config).unwrap();
    }

    /// Sends SIGHUP, and waits for a line of the log.
    pub(crate) async fn reload(&mut self, logged: &str) {
        let pid = self.process.0.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        let mut lines = BufReader::new(&mut self.log);
        let mut line = String::new();
        while !line.contains(logged) {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the program has stopped");
        }
    }
}

/// A proxy with its server, and the service behind it.
pub(crate) struct Proxied {
    pub(crate) name: &'static str,
    pub(crate) upstream: Upstream,
    port: u16,
    _server: ForwardAuth,
    _proxy: Process,
}

impl Proxied {
    pub(crate) async fn send(&self, line: &str, token: Option<&String>, headers: &str) -> Response {
        send(self.port, line, token, headers).await
    }
}

type Started<'a> = std::pin::Pin<Box<dyn Future<Output = Option<Proxied>> + 'a>>;

/// The configuration of the README.
pub(crate) fn nginx(issuer: &TestIssuer) -> Started<'_> {
    Box::pin(nginx_with(issuer, "nginx", |config| config))
}

/// With a slash, nginx normalizes the path that it passes on.
pub(crate) fn nginx_with_slash(issuer: &TestIssuer) -> Started<'_> {
    let slash = |config: String| config.replace("127.0.0.1:3000;", "127.0.0.1:3000/;");
    Box::pin(nginx_with(issuer, "nginx with a slash", slash))
}

pub(crate) async fn nginx_with(
    issuer: &TestIssuer,
    name: &'static str,
    change: impl Fn(String) -> String,
) -> Option<Proxied> {
    let program = installed("/usr/sbin/nginx")?;
    let server = change(include_str!("../../config/nginx.conf").into());
    start(issuer, name, "nginx", &server, |folder, server| {
        let at = folder.display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|one| format!("{one}_temp_path {at}/{one};\n")).concat();
        let main = format!(
            "daemon off;\npid {at}/pid;\nerror_log stderr;\nworker_processes 1;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}{server}}}\n"
        );
        fs::write(folder.join("nginx.conf"), main).unwrap();
        let mut command = Command::new(program);
        command.arg("-c").arg(folder.join("nginx.conf"));
        command
    })
    .await
}

pub(crate) fn caddy(issuer: &TestIssuer) -> Started<'_> {
    Box::pin(async {
        let program = installed("/usr/bin/caddy")?;
        let server = include_str!("../../config/Caddyfile");
        start(issuer, "Caddy", "caddy", server, |folder, server| {
            fs::write(folder.join("Caddyfile"), format!("{{\n\tadmin off\n}}\n{server}")).unwrap();
            let mut command = Command::new(program);
            command.arg("run").arg("--adapter").arg("caddyfile").arg("--config");
            command.arg(folder.join("Caddyfile"));
            command.env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder);
            command
        })
        .await
    })
}

async fn start(
    issuer: &TestIssuer,
    name: &'static str,
    proxy: &str,
    config: &str,
    command: impl Fn(&PathBuf, &str) -> Command,
) -> Option<Proxied> {
    let (upstream, server) = (Upstream::start().await, ForwardAuth::start(issuer, proxy).await);
    let port = free_port();
    let config = config
        .replace(":8080", &format!(":{port}"))
        .replace("127.0.0.1:9000", &format!("127.0.0.1:{}", server.port))
        .replace("127.0.0.1:3000", &format!("127.0.0.1:{}", upstream.port));
    let mut command = command(&folder(), &config);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let proxy = Process(child);
    let listening = async {
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let started = tokio::time::timeout(Duration::from_secs(20), listening).await;
    started.unwrap_or_else(|_| panic!("{name} does not start"));
    Some(Proxied { name, upstream, port, _server: server, _proxy: proxy })
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn installed(program: &'static str) -> Option<&'static str> {
    if PathBuf::from(program).exists() {
        return Some(program);
    }
    assert!(env::var_os("CI").is_none(), "{program} is not installed");
    println!("skipped: {program} is not installed");
    None
}

/// A new folder for the files of one process.
fn folder() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("forward-auth-{}-{number}", std::process::id());
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}
