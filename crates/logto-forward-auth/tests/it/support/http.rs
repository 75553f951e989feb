//! Sends and reads HTTP/1.1 as raw bytes, because HTTP client libraries normalize request targets.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time,
};

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
}

impl Response {
    /// Returns all values of a header. The name is compared without regard to case.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        values(&self.head, name)
    }

    /// Returns the value of a header, or `None` if the header is absent. Panics if the response has
    /// the header more than once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name}: {self:?}");
        all.first().copied()
    }
}

/// Returns the values of a header in the head of a request or a response.
pub(crate) fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
}

/// Sends a request with this raw target. `headers` are lines that end with CRLF.
pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    target: &[u8],
    headers: &str,
) -> Response {
    let mut request = method.as_bytes().to_vec();
    request.push(b' ');
    request.extend(target);
    request.extend(format!(" HTTP/1.1\r\nHost: {address}\r\n{headers}").bytes());
    if !headers.to_ascii_lowercase().contains("connection:") {
        request.extend(b"Connection: close\r\n");
    }
    request.extend(b"\r\n");
    exchange(address, &request).await
}

pub(crate) async fn exchange(address: SocketAddr, request: &[u8]) -> Response {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        // Reads only to the end of the head, because some connections stay open.
        while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(length) => bytes.extend(&buffer[..length]),
            }
        }
        bytes
    };
    let shown = request.escape_ascii();
    let bytes = time::timeout(Duration::from_secs(20), exchange).await.expect("a response in time");
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Response { status: status.unwrap_or_else(|| panic!("{shown}: no response: {head:?}")), head }
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}
