//! A server whose responses a test sets byte for byte, and what the tests of tokens share.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Handle,
};
use tower_logto::{
    Issuer,
    m2m::{ClientSecret, TokenClient, TokenClientBuilder, TokenRequest},
    testing::{ManualClock, TestApp, TestIssuer},
};

pub(super) const SHOPPING: &str = "https://shopping.api";
pub(super) const SECRET: &str = "Y29ycmVjdCBob3JzZSBiYXR0ZXJ5";

pub(super) fn secret() -> ClientSecret {
    ClientSecret::new(SECRET)
}

pub(super) fn read() -> TokenRequest {
    TokenRequest::resource(SHOPPING).scopes(["read:products"])
}

/// A Logto with an application that has every permission the tests need.
pub(super) async fn logto(clock: &ManualClock) -> TestIssuer {
    let app = TestApp::new("app", SECRET)
        .grant(SHOPPING, ["read:products", "write:products"])
        .grant(TestIssuer::MANAGEMENT_API, ["all"])
        .organization("acme", ["invite:member"])
        .organization_grant("acme", SHOPPING, ["read:orders"]);
    TestIssuer::builder().clock(clock.clone()).app(app).start().await.unwrap()
}

pub(super) fn client_of(issuer: &TestIssuer, clock: &ManualClock) -> TokenClient {
    TokenClient::builder(&issuer.issuer(), "app", secret()).clock(clock.clone()).build().unwrap()
}

/// The output of a future that is ready on its first poll.
pub(super) fn immediately<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Waits until all background tasks have ended: a refresh, and the connection it used.
pub(super) async fn background_tasks_done() {
    while Handle::current().metrics().num_alive_tasks() > 0 {
        tokio::task::yield_now().await;
    }
}

/// Serves a router on a loopback port.
pub(super) async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// One request as the server received it.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) connection: usize,
    pub(super) head: String,
    pub(super) body: String,
}

/// Responds to the n-th request (from 0) with the bytes of a function. No bytes close the
/// connection.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    pub(super) async fn start(
        respond: impl Fn(usize, &Received) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (log, respond) = (Arc::clone(&received), Arc::new(respond));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let listener = listener.into_std().unwrap();
            runtime.unwrap().block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                for connection in 0.. {
                    let Ok((stream, _)) = listener.accept().await else { return };
                    tokio::spawn(serve_connection(
                        stream,
                        connection,
                        Arc::clone(&log),
                        respond.clone(),
                    ));
                }
            });
        });
        Self { address, received }
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn client(&self) -> TokenClientBuilder {
        TokenClient::builder(&Issuer::logto(&self.endpoint()).unwrap(), "app", secret())
    }
}

async fn serve_connection(
    mut stream: TcpStream,
    connection: usize,
    log: Arc<Mutex<Vec<Received>>>,
    respond: Arc<impl Fn(usize, &Received) -> Vec<u8>>,
) {
    let mut buffer = Vec::new();
    loop {
        let request = loop {
            if let Some(request) = parse(&mut buffer, connection) {
                break request;
            }
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk).await {
                Ok(length) if length > 0 => buffer.extend_from_slice(&chunk[..length]),
                _ => return,
            }
        };
        let number = {
            let mut log = log.lock().unwrap();
            log.push(request.clone());
            log.len() - 1
        };
        let bytes = respond(number, &request);
        if bytes.is_empty() || stream.write_all(&bytes).await.is_err() {
            return;
        }
        if !is_complete(&bytes) {
            return;
        }
    }
}

/// Whether a response has its full length. Any other response ends with its connection.
fn is_complete(bytes: &[u8]) -> bool {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| length.parse() == Ok(bytes.len() - head - 4))
}

fn parse(buffer: &mut Vec<u8>, connection: usize) -> Option<Received> {
    let end = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    let length = length.unwrap_or(0);
    if buffer.len() < end + length {
        return None;
    }
    let body = String::from_utf8(buffer[end..end + length].to_vec()).unwrap();
    buffer.drain(..end + length);
    Some(Received { connection, head, body })
}

/// A response with a body and its length.
pub(super) fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes()
}

pub(super) fn json(status: &str, body: &str) -> Vec<u8> {
    response(status, "content-type: application/json; charset=utf-8\r\n", body)
}

/// A token response with this token and the scope `read:products`.
pub(super) fn granted(token: &str) -> Vec<u8> {
    let members = "\"expires_in\":3600,\"token_type\":\"Bearer\",\"scope\":\"read:products\"";
    json("200 OK", &format!("{{\"access_token\":\"{token}\",{members}}}"))
}

/// A response of a real Logto. The first line of the file is the command that requested it.
pub(super) fn captured(file: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/logto-captures/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap().replace("\r\n", "\n");
    let text = &text[text.find("HTTP/1.1").unwrap()..];
    let (head, body) = text.split_once("\n\n").unwrap();
    let mut bytes = head.replace('\n', "\r\n").into_bytes();
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes.extend_from_slice(body.strip_suffix('\n').unwrap_or(body).as_bytes());
    bytes
}
