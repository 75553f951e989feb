//! Measures the CPU time per request with and without the layer. The server listens on loopback,
//! and wrk sends the requests.
//!
//! `cargo run --release --manifest-path benches/compare/Cargo.toml --bin load`
//!
//! With `-- flood [NAME]`, the program measures floods of forged tokens instead. See `flood.rs`.
//!
//! The program requires `wrk` and `taskset`. The server runs on core 0, and wrk runs on core 1. In
//! each run, the program starts the server, sends requests for a few seconds, and stops the server.
//! The program measures only the CPU time of the server process. The kernel uses most of this time
//! to send and receive data over loopback.
//!
//! The program measures pairs of runs: one run without the layer, and one run with the layer. The
//! ratio of a pair is the CPU time with the layer, divided by the CPU time without the layer.
//! `load_…_vs_no_layer` is the median of these ratios.

mod flood;
mod flood_client;
#[allow(dead_code, reason = "shared with the comparison")]
mod subjects;
#[allow(dead_code, reason = "shared with the comparison")]
mod tokens;

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use axum::Router;
use tower_logto::{Issuer, TrustedIssuer, Validator};

use crate::tokens::{AUDIENCE, Content, ISSUER, Kind, Signer};

fn main() {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", scenario, file] => serve(&Scenario::parse(scenario), Path::new(file)),
        ["serve-flood", settings, jwks] => flood::serve(settings, Path::new(jwks)),
        ["flood"] => flood::drive(""),
        ["flood", filter] => flood::drive(filter),
        [] => drive(),
        _ => eprintln!("usage: load [flood [NAME]]"),
    }
}

/// The configuration of the server, and the requests that wrk sends to the server.
#[derive(Clone, Copy, PartialEq)]
struct Scenario {
    /// Whether the router has the layer.
    layer: bool,
    /// The capacity of the cache of validated tokens.
    cache_capacity: usize,
    /// The number of issuers that the validator trusts.
    issuers: usize,
    /// The number of different tokens that wrk sends.
    live_tokens: usize,
    /// Whether the tokens that wrk sends have expired.
    expired: bool,
}

impl Scenario {
    const NO_LAYER: Self =
        Self { layer: false, cache_capacity: 0, issuers: 1, live_tokens: 1, expired: false };
    const HIT: Self = Self { layer: true, cache_capacity: 10_000, ..Self::NO_LAYER };

    fn parse(text: &str) -> Self {
        let numbers = text.split(',').map(|number| number.parse().unwrap()).collect::<Vec<usize>>();
        let [layer, cache_capacity, issuers, live_tokens, expired] = numbers[..] else {
            panic!("{text}")
        };
        Self { layer: layer == 1, cache_capacity, issuers, live_tokens, expired: expired == 1 }
    }

    fn text(self) -> String {
        let Self { layer, cache_capacity, issuers, live_tokens, expired } = self;
        format!(
            "{},{cache_capacity},{issuers},{live_tokens},{}",
            u8::from(layer),
            u8::from(expired)
        )
    }
}

fn drive() {
    let hit = Scenario::HIT;
    println!("{:<34}{:>16}{:>14}{:>13}", "", "requests/s", "CPU µs each", "no layer = 1");
    let scenarios = [
        ("hit", hit),
        ("first_sight", Scenario { cache_capacity: 0, ..hit }),
        ("expired", Scenario { expired: true, ..hit }),
        ("live_tokens_10", Scenario { live_tokens: 10, ..hit }),
        ("live_tokens_1000", Scenario { live_tokens: 1000, ..hit }),
        ("live_tokens_100000", Scenario { live_tokens: 100_000, cache_capacity: 110_000, ..hit }),
        ("live_tokens_100000_room_10000", Scenario { live_tokens: 100_000, ..hit }),
        ("issuers_2", Scenario { issuers: 2, ..hit }),
        ("issuers_4", Scenario { issuers: 4, ..hit }),
        ("issuers_8", Scenario { issuers: 8, ..hit }),
        ("issuers_8_expired", Scenario { issuers: 8, expired: true, ..hit }),
    ];
    for (name, scenario) in scenarios {
        let rounds = match scenario.live_tokens {
            1 if scenario == hit => 5,
            100_000 => 1,
            _ => 3,
        };
        let mut runs = (0..rounds)
            .map(|_| {
                let (bare, _) = run(Scenario { layer: false, ..scenario });
                let (cpu, rate) = run(scenario);
                (cpu / bare, cpu, rate)
            })
            .collect::<Vec<_>>();
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, cpu, rate) = runs[runs.len() / 2];
        println!("{name:<34}{rate:>16.0}{cpu:>14.2}{ratio:>13.3}");
        println!("ratio load_{name}_vs_no_layer {ratio:.3}");
    }
}

/// Returns the CPU time of the server per request in microseconds, and the requests per second.
fn run(scenario: Scenario) -> (f64, f64) {
    let mut server = Server::start(scenario);
    server.wrk(1);
    let before = server.cpu();
    let (requests, rate) = server.wrk(SECONDS);
    let cpu = server.cpu() - before;
    (cpu.as_secs_f64() * 1e6 / requests, rate)
}

struct Server {
    child: Child,
    address: String,
    script: PathBuf,
}

impl Server {
    fn start(scenario: Scenario) -> Self {
        let file = std::env::temp_dir().join(format!("load-{}.lua", std::process::id()));
        let mut child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(std::env::current_exe().unwrap())
            .args(["serve", &scenario.text()])
            .arg(&file)
            .stdout(Stdio::piped())
            .spawn()
            .expect("taskset is installed");
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim().to_owned(), script: file }
    }

    /// Sends requests with wrk. Returns the number of responses, and the responses per second.
    fn wrk(&mut self, seconds: u64) -> (f64, f64) {
        let output = Command::new("taskset")
            .args(["-c", "1", "wrk", "-t1", "-c32", &format!("-d{seconds}s"), "-s"])
            .arg(&self.script)
            .arg(format!("http://{}/", self.address))
            .output()
            .expect("wrk is installed");
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find(|line| line.contains("requests in")).expect("wrk answers");
        let requests = line.split_whitespace().next().unwrap().parse::<f64>().unwrap();
        let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).unwrap();
        (requests, rate.trim().parse().unwrap())
    }

    /// Returns the CPU time that the server has used so far, in user mode and in the kernel. The
    /// kernel counts in steps of 10 ms.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.script);
        let _ = std::fs::remove_file(self.script.with_extension("tokens"));
    }
}

/// Prints the address of the server, and runs the server on one thread for at most one minute.
fn serve(scenario: &Scenario, script: &Path) {
    let signer = Signer::new();
    let jwks = signer.jwks_es384();
    let name = |number: usize| match number {
        0 => ISSUER.to_owned(),
        _ => format!("http://localhost:{}/oidc", 3001 + number),
    };
    let mut builder = Validator::builder().token_cache_capacity(scenario.cache_capacity);
    for number in 0..scenario.issuers {
        let issuer = Issuer::new(&name(number)).unwrap();
        let trusted = TrustedIssuer::new(&issuer).audience(AUDIENCE).static_jwks(jwks.clone());
        builder = builder.trust(trusted);
    }
    let validator = builder.build().unwrap();
    let token = |number: usize| {
        // The issuer of the token is the last issuer of the validator, so the search for the issuer
        // takes longest.
        let issuer = name(scenario.issuers - 1);
        let expires_in = if scenario.expired { -3600 } else { 3600 };
        let content = Content { number, issuer: &issuer, expires_in, ..Content::default() };
        signer.token(Kind::Es384, content)
    };
    let tokens = (0..scenario.live_tokens).map(token).collect::<Vec<_>>();
    if scenario.layer {
        tokens.iter().for_each(|token| drop(validator.try_validate(token)));
    }
    write_script(&tokens, script);
    let app = if scenario.layer { subjects::ours(validator) } else { subjects::bare() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _ = runtime.block_on(async { tokio::time::timeout(MOST, listen(app)).await });
}

async fn listen(app: Router) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    axum::serve(listener, app).await.unwrap();
}

/// Writes a script for wrk that sends the tokens in random order. The tokens are in a separate
/// file, because LuaJIT limits the number of constants.
fn write_script(tokens: &[String], script: &Path) {
    let list = script.with_extension("tokens");
    std::fs::write(&list, tokens.join("\n")).unwrap();
    let lua = format!(
        "local requests = {{}}\n\
         function init()\n\
           for token in io.lines(\"{}\") do\n\
             local headers = {{ [\"Authorization\"] = \"Bearer \" .. token }}\n\
             requests[#requests + 1] = wrk.format(\"GET\", \"/\", headers)\n\
           end\n\
         end\n\
         function request() return requests[math.random(#requests)] end\n",
        list.display()
    );
    std::fs::write(script, lua).unwrap();
}

/// The duration of a measurement.
const SECONDS: u64 = 3;
/// The time after which the server stops by itself.
const MOST: Duration = Duration::from_secs(60);
