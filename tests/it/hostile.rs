//! A key server that says whatever bytes it likes; on threads of its own, so that it neither shares
//! a test's runtime nor its stopped time.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::watch;

/// What is done with a connection whose request has been read.
type Behaviour = dyn Fn(&mut Connection) -> io::Result<()> + Send + Sync;

pub(crate) struct Hostile {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    behaviour: Mutex<Arc<Behaviour>>,
    /// How many behaviours there have been: a silence ends with the one it belongs to.
    generation: AtomicU64,
    requests: Mutex<Vec<String>>,
    stalls: watch::Sender<u64>,
    stopped: AtomicBool,
}

pub(crate) struct Connection {
    stream: TcpStream,
    shared: Arc<Shared>,
}

impl Hostile {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Arc::new(|_: &mut Connection| Ok(()))),
            generation: AtomicU64::new(0),
            requests: Mutex::default(),
            stalls: watch::Sender::new(0),
            stopped: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let mut connection = Connection { stream, shared: Arc::clone(&serving) };
                // Who is cut off in the middle of an answer is no error here.
                thread::spawn(move || drop(connection.serve()));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/oidc/jwks", self.address)
    }

    /// Sends these bytes and closes the connection.
    pub(crate) fn answer(&self, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.behave(move |connection| connection.send(&bytes));
    }

    pub(crate) fn behave(
        &self,
        behaviour: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    ) {
        *self.shared.behaviour.lock().unwrap() = Arc::new(behaviour);
        self.shared.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// The heads of the requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How often it has fallen silent.
    pub(crate) fn stalls(&self) -> u64 {
        *self.shared.stalls.borrow()
    }

    /// Waits until it has fallen silent so many times.
    pub(crate) async fn stalled(&self, times: u64) {
        let mut stalls = self.shared.stalls.subscribe();
        stalls.wait_for(|stalls| *stalls >= times).await.unwrap();
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

impl Connection {
    fn serve(&mut self) -> io::Result<()> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        self.shared.requests.lock().unwrap().push(head);
        let behaviour = Arc::clone(&self.shared.behaviour.lock().unwrap());
        behaviour(self)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says nothing more, for as long as the other side stays and this behaviour lasts.
    pub(crate) fn stall(&mut self) -> io::Result<()> {
        self.drip(b"", 100)
    }

    /// Sends these bytes again and again, so often in a second.
    pub(crate) fn drip(&mut self, bytes: &[u8], times_a_second: u32) -> io::Result<()> {
        let generation = self.shared.generation.load(Ordering::Relaxed);
        self.shared.stalls.send_modify(|stalls| *stalls += 1);
        // The pace is that of a read that nobody answers.
        self.stream.set_read_timeout(Some(Duration::from_secs(1) / times_a_second))?;
        while self.shared.generation.load(Ordering::Relaxed) == generation {
            match self.stream.read(&mut [0; 64]) {
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

    /// Sends these bytes again and again, as fast as they are taken.
    pub(crate) fn flood(&mut self, bytes: &[u8]) -> io::Result<()> {
        loop {
            self.send(bytes)?;
        }
    }
}

/// An answer with its length.
pub(crate) fn response(head: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = body.len();
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A key set as Logto serves it.
pub(crate) fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    response("200 OK\r\nContent-Type: application/jwk-set+json", body)
}

/// 200 MB of spaces in 208 KB of gzip.
pub(crate) fn gzip_bomb() -> Vec<u8> {
    // A MB of them in a block of deflate that ends on a byte.
    let start =
        [0xec, 0xc1, 0x31, 1, 0, 0, 0, 0xc2, 0xa0, 0x2a, 0xeb, 0x9f, 0xd2, 0x10, 0xbe, 0x40, 1];
    let block = [&start[..], &[0; 1015], &[0x7c, 6, 0, 0, 0xff, 0xff]].concat();
    let end = [3, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x0c];
    [&GZIP[..], &block.repeat(200), &end].concat()
}

/// An honest gzip of less than 64 KiB, not compressed.
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
