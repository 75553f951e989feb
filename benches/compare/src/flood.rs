//! Measures the latency of requests during a flood of forged tokens. For comparison, the program
//! also measures the latency during an equally large flood of requests to a public route.
//!
//! `cargo run --release --manifest-path benches/compare/Cargo.toml --bin load -- flood`
//!
//! The server is a separate process. In each scenario, the program sends the two floods one after
//! the other, each for a few seconds. During each flood, the program also sends four kinds of
//! probes, and measures the latency of the probes.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use axum::{Router, routing::get};
use tokio::{net::TcpListener, runtime};

use crate::{
    flood_client::{self, Flood, Probe, Reply},
    subjects,
    tokens::{Content, Kind, Signer, forged},
};

struct Scenario {
    name: &'static str,
    /// The number of worker threads of the server's runtime.
    workers: usize,
    /// The capacity of the cache of validated tokens.
    cache_capacity: usize,
    flood: Flood,
    /// Whether the server has an additional runtime, which is blocked for 500 ms every second.
    blocked_runtime: bool,
}

const CLOSED_64: Flood = Flood { connections: 64, pipelined: 1, interval: None };
const BASE: Scenario = Scenario {
    name: "64 connections",
    workers: 2,
    cache_capacity: 10_000,
    flood: CLOSED_64,
    blocked_runtime: false,
};

fn scenarios() -> [Scenario; 10] {
    let closed = |connections| Flood { connections, ..CLOSED_64 };
    let interval = Some(Duration::from_millis(100));
    [
        BASE,
        Scenario { name: "400 connections", flood: closed(400), ..BASE },
        Scenario { name: "4,000 connections", flood: closed(4_000), ..BASE },
        Scenario { name: "64 connections, 1 worker", workers: 1, ..BASE },
        Scenario { name: "400 connections, 1 worker", workers: 1, flood: closed(400), ..BASE },
        Scenario { name: "4,000 connections, 1 worker", workers: 1, flood: closed(4_000), ..BASE },
        Scenario {
            name: "4,000 requests/s, open loop",
            flood: Flood { interval, ..closed(400) },
            ..BASE
        },
        Scenario {
            name: "64 connections, 32 pipelined",
            flood: Flood { pipelined: 32, ..CLOSED_64 },
            ..BASE
        },
        Scenario { name: "64 connections, cache off", cache_capacity: 0, ..BASE },
        Scenario { name: "64 connections, blocked runtime", blocked_runtime: true, ..BASE },
    ]
}

/// Runs the scenarios whose names contain the filter. An empty filter selects all scenarios.
pub fn drive(filter: &str) {
    println!("latency in ms, p50 / p99 (public flood: probe `known` during a flood to /public)");
    print!("{:<34}{:>16}", "flood of forged tokens", "public flood");
    Probe::ALL.iter().for_each(|probe| print!("{:>16}", probe.name()));
    println!("{:>12}{:>8}", "forged/s", "503");
    let chosen = scenarios().into_iter().filter(|scenario| scenario.name.contains(filter));
    chosen.for_each(|scenario| scenario.run());
}

impl Scenario {
    fn run(&self) {
        let signer = Signer::new();
        let public = self.measure(&signer, true);
        let forged = self.measure(&signer, false);
        print!("{:<34}{:>16}", self.name, public.quantiles(Probe::Known));
        Probe::ALL.iter().for_each(|probe| print!("{:>16}", forged.quantiles(*probe)));
        println!("{:>12.0}{:>8}", forged.flood_rate, forged.unavailable);
    }

    /// Measures a flood of forged tokens. If `public_flood` is set, measures a flood of requests to
    /// the public route instead. These requests contain no token.
    fn measure(&self, signer: &Signer, public_flood: bool) -> Reply {
        let server = Server::start(self, signer);
        let token = |number, subject: &str| {
            signer.token(Kind::Es384, Content { number, subject, ..Content::default() })
        };
        let forged_tokens =
            (0..64).map(|number| forged(&token(number, &format!("nobody-{number}"))));
        let flood_tokens = match public_flood {
            true => vec![String::new()],
            false => forged_tokens.collect(),
        };
        let known = token(0, &probe_subject(Probe::Known, 0));
        let probe_token = |probe, number| match probe {
            Probe::Known => known.clone(),
            _ => token(1_000_000 + number, &probe_subject(probe, number)),
        };
        flood_client::run(&self.flood, &server.addresses, &flood_tokens, probe_token)
    }
}

/// Returns the subject (`sub`) of a probe's token. The probe `SeenSubject` uses a fixed set of
/// subjects. Before the flood starts, the server accepts one token of each of these subjects.
/// During the flood, the probe sends only new tokens of these subjects.
fn probe_subject(probe: Probe, number: usize) -> String {
    match probe {
        Probe::Known | Probe::Public => "known".into(),
        Probe::SeenSubject => format!("seen-{}", number % SEEN_SUBJECTS),
        Probe::NewSubject => format!("new-{number}"),
    }
}

struct Server {
    child: Child,
    addresses: Vec<SocketAddr>,
}

impl Server {
    fn start(scenario: &Scenario, signer: &Signer) -> Self {
        let file = std::env::temp_dir().join(format!("flood-{}.jwks", std::process::id()));
        std::fs::write(&file, signer.jwks_es384()).unwrap();
        let known = (0..SEEN_SUBJECTS).map(|number| probe_subject(Probe::SeenSubject, number));
        let tokens = known.chain(["known".into()]).map(|subject| {
            let content = Content { subject: &subject, ..Content::default() };
            signer.token(Kind::Es384, content)
        });
        std::fs::write(file.with_extension("tokens"), tokens.collect::<Vec<_>>().join("\n"))
            .unwrap();
        let settings = format!(
            "{},{},{}",
            scenario.workers,
            scenario.cache_capacity,
            usize::from(scenario.blocked_runtime)
        );
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve-flood", &settings])
            .arg(&file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addresses = lines.take(1 + usize::from(scenario.blocked_runtime));
        let addresses = addresses.map(|line| line.unwrap().parse().unwrap()).collect();
        Self { child, addresses }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the server until its process is killed, but at most for one minute.
pub fn serve(settings: &str, jwks: &Path) {
    let settings: Vec<usize> = settings.split(',').map(|n| n.parse().unwrap()).collect();
    let [workers, cache_capacity, blocked_runtime] = settings[..] else { panic!("{settings:?}") };
    let keys = std::fs::read_to_string(jwks).unwrap();
    let validator = subjects::validator(&keys, cache_capacity);
    let tokens = std::fs::read_to_string(jwks.with_extension("tokens")).unwrap();
    tokens.lines().for_each(|token| drop(validator.try_validate(token)));
    let app = || {
        let public = Router::new().route("/public", get(async || "public"));
        public.merge(subjects::ours(validator.clone()))
    };
    let first =
        runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap();
    first.spawn(listen(app()));
    if blocked_runtime == 1 {
        let app = app();
        thread::spawn(move || {
            let second = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            second.spawn(async {
                loop {
                    thread::sleep(Duration::from_millis(500));
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            });
            second.block_on(listen(app));
        });
    }
    thread::sleep(Duration::from_secs(60));
}

async fn listen(app: Router) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    axum::serve(listener, app).await.unwrap();
}

/// The number of subjects that the probe `SeenSubject` uses in turn.
const SEEN_SUBJECTS: usize = 100;
