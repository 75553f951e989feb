//! The client side of a flood: many connections that send the flood, and probes that measure the
//! latency.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime,
};

/// The size and the rate of a flood.
#[derive(Clone, Copy)]
pub struct Flood {
    pub connections: usize,
    /// The number of requests that a connection sends before it reads the responses.
    pub pipelined: usize,
    /// The minimum time between two batches of `pipelined` requests on a connection. With `None`,
    /// a connection sends the next batch as soon as it has received all responses to the last
    /// batch.
    pub interval: Option<Duration>,
}

/// A kind of request whose latency is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// A request with the same token every time. The server has cached this token, unless the
    /// server's cache is off.
    Known,
    /// A request with a new token. The server has already accepted another token of the same
    /// subject.
    SeenSubject,
    /// A request with the first token of a subject.
    NewSubject,
    /// A request to a route without a layer.
    Public,
}

impl Probe {
    pub const ALL: [Self; 4] = [Self::Known, Self::SeenSubject, Self::NewSubject, Self::Public];

    pub fn name(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::SeenSubject => "seen subject",
            Self::NewSubject => "new subject",
            Self::Public => "/public",
        }
    }
}

/// The results of one flood.
pub struct Reply {
    /// The sorted latencies of each kind of probe, in the order of [`Probe::ALL`].
    latencies: Vec<Vec<Duration>>,
    /// The number of responses per second that the flood received while the probes were sent.
    pub flood_rate: f64,
    /// The total number of 503 responses, both to the probes and to the flood.
    pub unavailable: u64,
}

impl Reply {
    pub fn quantiles(&self, probe: Probe) -> String {
        let position = Probe::ALL.iter().position(|other| *other == probe).unwrap();
        let sorted = &self.latencies[position];
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
        let ms = |latency: Duration| latency.as_secs_f64() * 1e3;
        format!("{:.2} / {:.1}", ms(at(0.5)), ms(at(0.99)))
    }
}

#[derive(Default)]
struct Counters {
    stop: AtomicBool,
    responses: AtomicU64,
    unavailable: AtomicU64,
}

/// Sends the flood to all addresses, and the probes to the first address. `probe_token` takes the
/// kind of the probe and the number of the request, and returns the token for that request. A
/// request with an empty token goes to the public route.
pub fn run(
    flood: &Flood,
    addresses: &[SocketAddr],
    flood_tokens: &[String],
    probe_token: impl Fn(Probe, usize) -> String,
) -> Reply {
    let counters = Arc::new(Counters::default());
    let batches: Vec<Arc<[u8]>> = flood_tokens
        .iter()
        .map(|token| request(token).repeat(flood.pipelined).into_bytes().into())
        .collect();
    let generator = thread::spawn({
        let (flood, addresses, counters) = (*flood, addresses.to_vec(), Arc::clone(&counters));
        move || current_thread().block_on(send_flood(flood, &addresses, &batches, &counters))
    });
    let requests = Probe::ALL.map(|probe| {
        let token = |number| match probe {
            Probe::Public => String::new(),
            _ => probe_token(probe, number),
        };
        (0..PROBES).map(|number| request(&token(number))).collect::<Vec<_>>()
    });
    thread::sleep(WARM_UP);
    let (before, started_at) = (counters.responses.load(Ordering::Relaxed), Instant::now());
    let latencies = current_thread().block_on(async {
        let tasks = requests.map(|requests| tokio::spawn(send_probes(addresses[0], requests)));
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.push(task.await.unwrap());
        }
        latencies
    });
    let responses = counters.responses.load(Ordering::Relaxed) - before;
    let flood_rate = responses as f64 / started_at.elapsed().as_secs_f64();
    counters.stop.store(true, Ordering::Relaxed);
    generator.join().unwrap();
    let (mut latencies, mut refused) = (latencies, 0);
    for (sorted, unavailable) in &mut latencies {
        sorted.sort();
        refused += *unavailable;
    }
    Reply {
        latencies: latencies.into_iter().map(|(sorted, _)| sorted).collect(),
        flood_rate,
        unavailable: refused + counters.unavailable.load(Ordering::Relaxed),
    }
}

async fn send_flood(
    flood: Flood,
    addresses: &[SocketAddr],
    batches: &[Arc<[u8]>],
    counters: &Arc<Counters>,
) {
    let tasks: Vec<_> = (0..flood.connections)
        .map(|number| {
            let address = addresses[number % addresses.len()];
            let (batch, counters) =
                (Arc::clone(&batches[number % batches.len()]), counters.clone());
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await?;
                while !counters.stop.load(Ordering::Relaxed) {
                    let next = tokio::time::sleep(flood.interval.unwrap_or_default());
                    stream.write_all(&batch).await?;
                    let unavailable = responses(&mut stream, flood.pipelined).await?;
                    counters.responses.fetch_add(flood.pipelined as u64, Ordering::Relaxed);
                    counters.unavailable.fetch_add(unavailable, Ordering::Relaxed);
                    if flood.interval.is_some() {
                        next.await;
                    }
                }
                std::io::Result::Ok(())
            })
        })
        .collect();
    while !counters.stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tasks.iter().for_each(|task| task.abort());
}

/// Returns the latencies of the requests, and the number of responses with status 503.
async fn send_probes(address: SocketAddr, requests: Vec<String>) -> (Vec<Duration>, u64) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut latencies, mut unavailable) = (Vec::new(), 0);
    let end = Instant::now() + MEASURED;
    for request in requests {
        if Instant::now() > end {
            break;
        }
        let started_at = Instant::now();
        stream.write_all(request.as_bytes()).await.unwrap();
        unavailable += responses(&mut stream, 1).await.unwrap();
        latencies.push(started_at.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (latencies, unavailable)
}

/// Reads `expected` responses, and returns how many of them have status 503. The bodies must be
/// short, because this function assumes that each body arrives together with its headers.
async fn responses(stream: &mut TcpStream, expected: usize) -> std::io::Result<u64> {
    let mut received = Vec::with_capacity(512);
    loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&received);
        if text.matches("\r\n\r\n").count() == expected {
            return Ok(text.matches("HTTP/1.1 503").count() as u64);
        }
    }
}

fn request(token: &str) -> String {
    match token {
        "" => "GET /public HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
        _ => format!("GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"),
    }
}

fn current_thread() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The time between the preparation of the probes and the first probe. The flood starts before the
/// preparation.
const WARM_UP: Duration = Duration::from_secs(1);
/// The time during which probes are sent.
const MEASURED: Duration = Duration::from_secs(5);
/// The number of prepared requests per kind of probe. `send_probes` waits 5 ms after each response,
/// so it cannot run out of requests before `MEASURED` has passed.
const PROBES: usize = 1_000;
