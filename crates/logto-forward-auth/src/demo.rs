//! The demo (`--demo`): starts an issuer, a service and the server, and sends requests as a client.
//! The demo also acts as the proxy, in place of nginx or Caddy.

use std::{fmt, io, net::SocketAddr, path::PathBuf};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tower_logto::testing::TestIssuer;

use crate::server::Server;

/// One request of the client, and the expected status.
struct Step {
    method: &'static str,
    target: &'static str,
    /// Describes the client and its token, for the output.
    sender: &'static str,
    token: Option<String>,
    expected: u16,
}

/// The head of a response.
struct Head(String);

/// Runs the demo. Returns an error if a response has an unexpected status.
pub(crate) async fn run() -> Result<(), String> {
    let issuer = TestIssuer::start().await.map_err(failed("the issuer cannot start"))?;
    let service = TcpListener::bind("127.0.0.1:0").await;
    let service = service.map_err(failed("the service cannot start"))?;
    let service_address = service.local_addr().map_err(failed("the service has no address"))?;
    tokio::spawn(serve(service));
    let file = RuleFile::write(&issuer).map_err(failed("the rule file cannot be written"))?;
    let server = Server::open(file.0.clone()).await?;
    let address = server.address().map_err(failed("the server has no address"))?;
    tokio::spawn(server.run(std::future::pending()));
    println!("Issuer   {}", issuer.issuer());
    println!("Server   http://{address}/auth");
    println!("Service  http://{service_address}\n\nRules:\n{RULES}");
    println!(
        "The client's requests. The demo acts as the proxy: it asks /auth, and then forwards or \
         refuses each request."
    );
    let mut surprises = 0;
    for step in steps(&issuer) {
        let answer = step.send(address, service_address).await;
        let answer = answer.map_err(failed("a request failed"))?;
        let Step { method, target, sender, expected, .. } = &step;
        let status = answer.status();
        let is_expected = status == *expected;
        surprises += usize::from(!is_expected);
        let detail = match status {
            200 => answer.header("x-received").map(|value| format!("the service received {value}")),
            _ => answer.header("www-authenticate").map(str::to_owned),
        };
        let detail = detail.unwrap_or_default();
        let request = format!("{method} {target}");
        println!("  {request:<28} {sender:<28} {status}  {detail}");
        if !is_expected {
            println!("  expected {expected}");
        }
    }
    if surprises > 0 {
        return Err(format!("{surprises} requests had an unexpected status"));
    }
    println!("\nEvery request had the expected result.");
    Ok(())
}

fn steps(issuer: &TestIssuer) -> Vec<Step> {
    let token = || issuer.token().audience(RESOURCE).subject("alice").client_id("shop");
    let reader = || Some(token().scopes(["read:products"]).build());
    let member = || Some(token().organization_resource("acme").scopes(["read:members"]).build());
    let step =
        |method, target, sender, token, expected| Step { method, target, sender, token, expected };
    vec![
        step("GET", "/status", "without a token", None, 200),
        step("GET", "/products/1", "without a token", None, 401),
        step("GET", "/products/1", "with an expired token", Some(token().expired().build()), 401),
        step(
            "GET",
            "/products/1",
            "with a forged token",
            Some(token().bad_signature().build()),
            401,
        ),
        step("GET", "/products/1", "with read:products", reader(), 200),
        step("DELETE", "/products/1", "with read:products", reader(), 403),
        step("GET", "/orgs/acme/members", "member of acme", member(), 200),
        step("GET", "/orgs/other/members", "member of acme", member(), 403),
        step("GET", "/admin", "with read:products", reader(), 403),
        step("GET", "/products/../admin", "with read:products", reader(), 403),
        step("GET", "/products/%2e%2e/admin", "with read:products", reader(), 403),
        step("GET", "/products/..;/admin", "with read:products", reader(), 403),
        step("GET", "/products%2F..%2Fadmin", "with read:products", reader(), 403),
        step("GET", "//admin", "with read:products", reader(), 403),
    ]
}

impl Step {
    /// Asks the server whether the request is permitted. If the answer is 200, sends the request to
    /// the service.
    async fn send(&self, server: SocketAddr, service: SocketAddr) -> io::Result<Head> {
        let token = self.token.iter().map(|token| format!("Authorization: Bearer {token}\r\n"));
        let original = format!(
            "X-Original-Method: {}\r\nX-Original-URI: {}\r\n{}",
            self.method,
            self.target,
            token.collect::<String>()
        );
        let answer = exchange(server, "GET", "/auth", &original).await?;
        if answer.status() != 200 {
            return Ok(answer);
        }
        let identity = ["X-Auth-Subject", "X-Auth-Organization-Id", "X-Auth-Scopes"];
        let identity =
            identity.map(|name| format!("{name}: {}\r\n", answer.header(name).unwrap_or_default()));
        exchange(service, self.method, self.target, &identity.concat()).await
    }
}

impl Head {
    fn status(&self) -> u16 {
        self.0.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.0.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// Sends a request with exactly this target. An HTTP client library would normalize the target.
async fn exchange(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &str,
) -> io::Result<Head> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(Head(response))
}

/// Runs the service, which responds with the identity headers that it received.
async fn serve(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        let head = String::from_utf8_lossy(&head);
        let identity = head.lines().filter(|line| line.starts_with("X-Auth-"));
        let identity: Vec<_> = identity.filter(|line| !line.ends_with(": ")).collect();
        let identity = if identity.is_empty() { "no identity".into() } else { identity.join(", ") };
        let response = format!(
            "HTTP/1.1 200 OK\r\nX-Received: {identity}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let _ = stream.write_all(response.as_bytes()).await;
    }
}

/// The configuration file of the demo, which is deleted at the end of the demo.
struct RuleFile(PathBuf);

impl RuleFile {
    fn write(issuer: &TestIssuer) -> io::Result<Self> {
        let name = format!("logto-forward-auth-demo-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        let text = format!(
            "listen = \"127.0.0.1:0\"\nproxy = \"nginx\"\n\n[logto]\nendpoint = \"{}\"\n\
             resource = [\"{RESOURCE}\"]\n{RULES}",
            issuer.endpoint()
        );
        std::fs::write(&path, text)?;
        Ok(Self(path))
    }
}

impl Drop for RuleFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn failed<E: fmt::Display>(what: &str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}

const RESOURCE: &str = "https://shopping.api";

const RULES: &str = r#"
[[rule]]
methods = ["GET"]
path = "/status"
public = true

[[rule]]
methods = ["GET"]
path = "/products/{*rest}"
scopes = ["read:products"]

[[rule]]
methods = ["GET"]
path = "/orgs/{org_id}/members"
scopes = ["read:members"]
organization = "{org_id}"

[[rule]]
methods = ["GET", "POST"]
path = "/admin"
scopes = ["admin"]
"#;
