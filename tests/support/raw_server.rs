//! An HTTP server that sends any bytes that a test chooses.
//!
//! The server runs on its own threads, outside the runtime of the test. The server therefore works
//! even if the test's runtime is blocked, or if time is paused in that runtime.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::watch;

/// A function that handles one request.
type Handler = dyn Fn(&mut Connection, &ReceivedRequest) -> io::Result<()> + Send + Sync;

/// The server, which stops when this value is dropped. Until a test sets a handler, the server
/// closes every connection without a response.
pub(crate) struct RawServer {
    address: SocketAddr,
    shared: Arc<ServerState>,
}

struct ServerState {
    handler: Mutex<Arc<Handler>>,
    /// The number of times that the handler was replaced. A stall ends when this number changes.
    generation: AtomicU64,
    requests: Mutex<Vec<ReceivedRequest>>,
    responses: watch::Sender<u64>,
    stalls: watch::Sender<u64>,
    stopped: AtomicBool,
}

#[derive(Debug, Clone)]
pub(crate) struct ReceivedRequest {
    /// The index of this request. The first request to the server has the index 0.
    pub(crate) number: usize,
    /// The index of the connection that carried this request. The first connection has the index 0.
    pub(crate) connection: usize,
    /// The request line and the headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// A connection to a client. A handler gets the connection after the request has been read.
pub(crate) struct Connection {
    number: usize,
    stream: BufReader<TcpStream>,
    shared: Arc<ServerState>,
    keep_open: bool,
}

impl RawServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(ServerState {
            handler: Mutex::new(Arc::new(|_: &mut Connection, _: &ReceivedRequest| Ok(()))),
            generation: AtomicU64::new(0),
            requests: Mutex::default(),
            responses: watch::Sender::new(0),
            stalls: watch::Sender::new(0),
            stopped: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if serving.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (stream, shared) = (BufReader::new(stream), Arc::clone(&serving));
                let mut connection = Connection { number, stream, shared, keep_open: false };
                // Errors are ignored, because some clients close the connection in the middle of a
                // response.
                thread::spawn(move || drop(connection.serve()));
            }
        });
        Self { address, shared }
    }

    /// Starts a server with this handler. See [`respond_with`](Self::respond_with).
    pub(crate) fn responding_with(
        respond: impl Fn(&ReceivedRequest) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let server = Self::start();
        server.respond_with(respond);
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn jwks_uri(&self) -> String {
        format!("{}/oidc/jwks", self.url())
    }

    /// Responds to every request with these bytes, and then closes the connection.
    pub(crate) fn respond(&self, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.handle(move |connection| connection.send(&bytes));
    }

    /// Responds to every request with the bytes that the function returns. Afterwards, the
    /// connection stays open only if the response is complete and has no `Connection: close`. See
    /// [`keep_alive_response`].
    pub(crate) fn respond_with(
        &self,
        respond: impl Fn(&ReceivedRequest) -> Vec<u8> + Send + Sync + 'static,
    ) {
        self.set_handler(move |connection, request| {
            let bytes = respond(request);
            connection.keep_open = keeps_connection_open(&bytes);
            connection.send(&bytes)
        });
    }

    /// Handles every request with this function, which writes to the connection. Afterwards, the
    /// connection is closed.
    pub(crate) fn handle(
        &self,
        handler: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    ) {
        self.set_handler(move |connection, _| handler(connection));
    }

    fn set_handler<H>(&self, handler: H)
    where
        H: Fn(&mut Connection, &ReceivedRequest) -> io::Result<()> + Send + Sync + 'static,
    {
        *self.shared.handler.lock().unwrap() = Arc::new(handler);
        self.shared.generation.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Waits until the handler has handled this many requests. A request that ends with an I/O
    /// error does not count. When this method returns, the server has sent the responses, but the
    /// client might not have read them yet.
    pub(crate) async fn responded(&self, times: u64) {
        let mut responses = self.shared.responses.subscribe();
        responses.wait_for(|responses| *responses >= times).await.unwrap();
    }

    /// Returns how many responses have stalled so far. A response that [`drip`](Connection::drip)
    /// sends also counts as stalled.
    pub(crate) fn stalls(&self) -> u64 {
        *self.shared.stalls.borrow()
    }

    /// Waits until this many responses have stalled.
    pub(crate) async fn stalled(&self, times: u64) {
        let mut stalls = self.shared.stalls.subscribe();
        stalls.wait_for(|stalls| *stalls >= times).await.unwrap();
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts connections.
        drop(TcpStream::connect(self.address));
    }
}

impl Connection {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let (head, body) = self.read_request()?;
            let request = {
                let mut requests = self.shared.requests.lock().unwrap();
                let (number, connection) = (requests.len(), self.number);
                let request = ReceivedRequest { number, connection, head, body };
                requests.push(request.clone());
                request
            };
            let handler = Arc::clone(&self.shared.handler.lock().unwrap());
            self.keep_open = false;
            handler(self, &request)?;
            self.shared.responses.send_modify(|responses| *responses += 1);
            if !self.keep_open {
                return Ok(());
            }
        }
    }

    fn read_request(&mut self) -> io::Result<(String, String)> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut body = vec![0; content_length(&head).unwrap_or(0)];
        self.stream.read_exact(&mut body)?;
        Ok((head, String::from_utf8_lossy(&body).into_owned()))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends nothing more. Blocks until the client disconnects or the handler is replaced.
    pub(crate) fn stall(&mut self) -> io::Result<()> {
        self.drip(b"", 100)
    }

    /// Sends these bytes repeatedly at this rate. Blocks until the client disconnects or the
    /// handler is replaced.
    pub(crate) fn drip(&mut self, bytes: &[u8], times_per_second: u32) -> io::Result<()> {
        let generation = self.shared.generation.load(Ordering::Relaxed);
        self.shared.stalls.send_modify(|stalls| *stalls += 1);
        // After the client has disconnected, a read returns 0 bytes. Before that, each read times
        // out after `interval`, which is the time between two sends.
        let interval = Duration::from_secs(1) / times_per_second;
        self.stream.get_mut().set_read_timeout(Some(interval))?;
        while self.shared.generation.load(Ordering::Relaxed) == generation {
            match self.stream.get_mut().read(&mut [0; 64]) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
            self.send(bytes)?;
        }
        Ok(())
    }

    /// Sends these bytes repeatedly, as fast as the client reads them, until the connection breaks.
    pub(crate) fn flood(&mut self, bytes: &[u8]) -> io::Result<()> {
        loop {
            self.send(bytes)?;
        }
    }
}

fn keeps_connection_open(response: &[u8]) -> bool {
    let end = response.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else { return false };
    let head = String::from_utf8_lossy(&response[..end]);
    let is_complete = content_length(&head) == Some(response.len() - end - 4);
    is_complete && !head.to_ascii_lowercase().contains("\r\nconnection: close")
}

fn content_length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let value = value.trim().parse().ok();
        name.eq_ignore_ascii_case("content-length").then_some(value).flatten()
    })
}

/// Builds a response with `Content-Length` and `Connection: close`. `head` contains the status and,
/// optionally, more headers.
pub(crate) fn response(head: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    keep_alive_response(&format!("{head}\r\nConnection: close"), body)
}

/// Builds a response with `Content-Length`, but without `Connection: close`. After this response,
/// [`RawServer::respond_with`] leaves the connection open. `head` contains the status and,
/// optionally, more headers.
pub(crate) fn keep_alive_response(head: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Builds a JWKS response with the status and the media type that Logto sends.
pub(crate) fn jwks_response(body: impl AsRef<[u8]>) -> Vec<u8> {
    response("200 OK\r\nContent-Type: application/jwk-set+json", body)
}

/// Returns a gzip stream of 208 KB that decompresses to 200 MiB of spaces.
pub(crate) fn gzip_bomb() -> Vec<u8> {
    // A deflate block for 1 MiB of spaces. It ends at a byte boundary, so it can be repeated.
    let start =
        [0xec, 0xc1, 0x31, 1, 0, 0, 0, 0xc2, 0xa0, 0x2a, 0xeb, 0x9f, 0xd2, 0x10, 0xbe, 0x40, 1];
    let block = [&start[..], &[0; 1015], &[0x7c, 6, 0, 0, 0xff, 0xff]].concat();
    let end = [3, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x0c];
    [&GZIP[..], &block.repeat(200), &end].concat()
}

/// Wraps a body of less than 64 KiB in a valid gzip stream, without compressing it.
pub(crate) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut crc = u32::MAX;
    for byte in body {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    let length = u16::try_from(body.len()).unwrap();
    let stored = [&[1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), body].concat();
    let end = [(!crc).to_le_bytes(), u32::from(length).to_le_bytes()].concat();
    [&GZIP[..], &stored, &end].concat()
}

const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
