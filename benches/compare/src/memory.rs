//! Measures the resident memory of a server with many connections.
//!
//! `cargo run --release --manifest-path benches/compare/Cargo.toml --bin memory`
//!
//! The program needs Linux and a limit of at least 10,000 open files (`ulimit -n`). The server is a
//! separate process.

#[allow(dead_code, reason = "shared with the comparison")]
mod subjects;
#[allow(dead_code, reason = "shared with the comparison")]
mod tokens;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tower_logto::{Issuer, TrustedIssuer, Validator};

use crate::tokens::{AUDIENCE, Content, ISSUER, Kind, Signer};

fn main() {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [jwks_uri, layer] => serve(jwks_uri, *layer == "layer"),
        _ => drive(),
    }
}

fn drive() {
    let signer = Signer::new();
    let token = signer.token(Kind::Es384, Content::default());
    let jwks = signer.jwks_es384();
    for (layer, name) in
        [("no layer", "9,000 idle connections, no layer"), ("layer", "9,000 idle connections")]
    {
        let server = Server::start(jwks.clone(), layer);
        let idle: Vec<_> = (0..9_000).map(|_| server.connect(&token, true)).collect();
        println!("{name:<40}{:>6} MB", server.resident_mb());
        drop(idle);
    }
    let server = Server::start(jwks, "layer");
    drop(server.connect(&token, true));
    // The server has fetched its keys. The JWKS endpoint never responds to the next fetch, so the
    // requests wait up to 6 s for this fetch.
    let waiting: Vec<_> =
        (0..1_500).map(|number| server.connect(&with_kid(&token, number), false)).collect();
    thread::sleep(Duration::from_secs(1));
    println!("{:<40}{:>6} MB", "1,500 unknown key ids, hanging JWKS", server.resident_mb());
    drop(waiting);
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(jwks: String, layer: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([&serve_jwks_once(jwks), layer])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().unwrap() }
    }

    /// Sends a request on a new connection. If `responds` is true, the function waits for the
    /// response.
    fn connect(&self, token: &str, responds: bool) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n")
            .unwrap();
        if responds {
            let mut response = [0; 512];
            let length = stream.read(&mut response).unwrap();
            assert!(response[..length].starts_with(b"HTTP/1.1 200"));
        }
        stream
    }

    fn resident_mb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(jwks_uri: &str, layer: bool) {
    let issuer = Issuer::new(ISSUER).unwrap();
    let trusted = TrustedIssuer::new(&issuer).audience(AUDIENCE).jwks_uri(jwks_uri);
    let app = match layer {
        true => subjects::ours(Validator::builder().trust(trusted).build().unwrap()),
        false => subjects::bare(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        axum::serve(listener, app).await.unwrap();
    });
}

/// Starts a server that sends the keys in response to the first request. The server never responds
/// to later requests. Returns the URL of the keys.
fn serve_jwks_once(jwks: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}/oidc/jwks", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        let _ = first.read(&mut [0; 4096]);
        let length = jwks.len();
        let _ = write!(
            first,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{jwks}"
        );
        let _held: Vec<_> = listener.incoming().collect();
    });
    uri
}

fn with_kid(token: &str, number: usize) -> String {
    let (_, rest) = token.split_once('.').unwrap();
    let header = format!(r#"{{"alg":"ES384","typ":"at+jwt","kid":"random-{number}"}}"#);
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header))
}
