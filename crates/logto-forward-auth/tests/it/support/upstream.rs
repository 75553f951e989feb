//! The protected service. It records the head of every request without normalizing the head.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::http::values;

#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    /// Starts a service that responds with 200 to every request.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let upstream = Self { address: listener.local_addr().unwrap(), heads: Arc::clone(&heads) };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let heads = Arc::clone(&heads);
                tokio::spawn(async move {
                    let Some(head) = read_until(&mut stream, b"\r\n\r\n").await else { return };
                    // Reads the body. Closing a connection with unread data would reset the
                    // connection.
                    if !values(&head, "transfer-encoding").is_empty() {
                        read_until(&mut stream, b"0\r\n\r\n").await;
                    }
                    let length =
                        values(&head, "content-length").first().map(|n| n.parse().unwrap());
                    let _ = stream.read_exact(&mut vec![0; length.unwrap_or(0)]).await;
                    heads.lock().unwrap().push(head);
                    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\
                                     X-Upstream: yes\r\n\r\nok";
                    let _ = stream.write_all(response).await;
                });
            }
        });
        upstream
    }

    /// Returns the targets of the recorded requests, and clears the record.
    pub(crate) fn take_targets(&self) -> Vec<String> {
        let heads = std::mem::take(&mut *self.heads.lock().unwrap());
        heads.iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect()
    }

    /// Returns the head of the only recorded request, or `None` if no request was recorded. Clears
    /// the record. Panics if several requests were recorded.
    pub(crate) fn take_head(&self) -> Option<String> {
        let mut heads = std::mem::take(&mut *self.heads.lock().unwrap());
        assert!(heads.len() < 2, "{heads:?}");
        heads.pop()
    }
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        bytes.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns all values of a header. A name with underscores in place of hyphens counts as the same
/// header.
pub(crate) fn all_variants(head: &str, name: &str) -> Vec<String> {
    let names = head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name);
    let mut names: Vec<_> = names
        .filter(|one| one.replace('_', "-").eq_ignore_ascii_case(name))
        .map(str::to_ascii_lowercase)
        .collect();
    names.sort_unstable();
    names.dedup();
    names.iter().flat_map(|name| values(head, name)).map(str::to_owned).collect()
}
