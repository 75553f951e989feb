//! Measures the throughput of nginx: without authentication, with an authentication server that
//! permits everything, and with logto-forward-auth. In the last two cases, nginx uses the
//! documented configuration. This program also measures logto-forward-auth without nginx. This
//! program needs nginx and wrk.
//!
//! Run it with `cargo bench -p logto-forward-auth`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that fails may panic")]

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tower_logto::testing::TestIssuer;

const SITE: &str = include_str!("../docs/nginx.conf");
const RESOURCE: &str = "https://shopping.api";

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // nginx stops its worker processes on SIGTERM, but not on SIGKILL.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let logto = runtime.block_on(TestIssuer::start()).unwrap();
    let token = logto.token().audience(RESOURCE).subject("alice").scopes(["read:products"]).build();
    let folder = std::env::temp_dir().join(format!("forward-auth-bench-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let [plain, no_op, this, service, permits, server] = free_addresses();
    let rules = format!(
        "listen = \"{server}\"\nproxy = \"nginx\"\n[logto]\nendpoint = \"{}\"\n\
         resource = [\"{RESOURCE}\"]\n[[rule]]\nmethods = [\"GET\"]\n\
         path = \"/products/{{id}}\"\nscopes = [\"read:products\"]\n",
        logto.endpoint()
    );
    let rule_file = write(&folder, "rules.toml", &rules);
    let _server = start(env!("CARGO_BIN_EXE_logto-forward-auth"), &["--config", &rule_file]);
    let site = |listen: SocketAddr, auth: SocketAddr, name: &str| {
        SITE.replace("127.0.0.1:8080", &listen.to_string())
            .replace("127.0.0.1:9180", &auth.to_string())
            .replace("127.0.0.1:3000", &service.to_string())
            .replace("logto_forward_auth", name)
    };
    let proxy = format!(
        "server {{ listen {plain}; location / {{ proxy_pass http://{service}; }} }}\n{}\n{}",
        site(no_op, permits, "no_op"),
        site(this, server, "this"),
    );
    // A second nginx process runs two servers: `service`, and the authentication server `permits`,
    // which permits everything. logto-forward-auth also runs in its own process. With either
    // authentication server, nginx calls another process, so the results are comparable.
    let services = format!(
        "server {{ listen {service}; location / {{ return 200 ok; }} }}\n\
         server {{ listen {permits}; keepalive_requests 1000000; \
         add_header X-Auth-Subject alice; location / {{ return 200; }} }}"
    );
    let _nginx = [("proxy", proxy), ("services", services)].map(|(name, servers)| {
        let text = format!(
            "events {{ worker_connections 4096; }}\nhttp {{\naccess_log off;\n{servers}\n}}\n"
        );
        let file = write(&folder, &format!("{name}.conf"), &text);
        let pid = folder.join(format!("{name}.pid"));
        let globals =
            format!("daemon off; worker_processes 1; pid {}; error_log stderr;", pid.display());
        start("/usr/sbin/nginx", &["-c", &file, "-g", &globals])
    });
    for address in [plain, no_op, this, server] {
        while TcpStream::connect(address).is_err() {
            thread::sleep(Duration::from_millis(10));
        }
    }
    let authorization = format!("Authorization: Bearer {token}");
    let original = ["X-Original-Method: GET", "X-Original-URI: /products/1"];
    for (name, address, path, headers) in [
        ("nginx → service", plain, "/products/1", &[][..]),
        ("nginx → auth that permits everything → service", no_op, "/products/1", &[]),
        ("nginx → logto-forward-auth → service", this, "/products/1", &[]),
        ("logto-forward-auth alone", server, "/auth", &original),
    ] {
        let url = format!("http://{address}{path}");
        let mut command = Command::new("wrk");
        command.args(["-t1", "-c32", "-d8s", "--latency", "-H", &authorization]);
        for header in headers {
            command.args(["-H", header]);
        }
        let output = command.arg(&url).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains("Non-2xx"), "{name}: {text}");
        let value = |start: &str| {
            let mut lines = text.lines().filter_map(|line| line.trim().strip_prefix(start));
            lines.next().unwrap_or_default().trim().to_owned()
        };
        let (rate, median, slow) = (value("Requests/sec:"), value("50%"), value("99%"));
        println!("{name:<48} {rate:>10} requests/s   50 %: {median}   99 %: {slow}");
    }
    fs::remove_dir_all(folder).unwrap();
}

fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.each_ref().map(|listener| listener.local_addr().unwrap())
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn start(program: &str, arguments: &[&str]) -> Running {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().unwrap())
}
