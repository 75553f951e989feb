//! Simulates a day of 1,000 instances, and counts the JWKS and token requests per minute that Logto
//! receives.
//!
//! `cargo bench --bench fleet [-- INSTANCES]` prints the table that `ARCHITECTURE.md` contains.
//! Each instance has its own validator and token client. Every 5 s of the manual clock, each
//! instance serves one request and asks its token client for a token. The requests to the test
//! issuer go over loopback.

#![allow(missing_docs, clippy::unwrap_used, reason = "a program without a library")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use tower_logto::{
    Validator,
    m2m::{ClientSecret, TokenClient, TokenRequest},
    testing::{Fault, ManualClock, TestApp, TestIssuer},
};

use crate::support::{SHOPPING_API, background_tasks_done, base64url, poll_once};

fn main() {
    let mut arguments = std::env::args().skip(1);
    // `cargo test --benches` runs this program without `--bench`. In this case, the program does
    // nothing.
    if !arguments.any(|argument| argument == "--bench") {
        return;
    }
    let instances = std::env::args().find_map(|argument| argument.parse().ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(simulate(instances.unwrap_or(1_000)));
}

async fn simulate(instances: usize) {
    println!(
        "| phase | duration in minutes | JWKS requests per minute, mean \
         | JWKS requests per minute, peak | token requests per minute, mean \
         | token requests per minute, peak |"
    );
    println!("|---|---|---|---|---|---|");
    let mut fleet = Fleet::start(instances).await;
    fleet.run("deployment of all instances", 1, false).await;
    fleet.run("at rest", 6 * 60, false).await;
    fleet.logto.fault_jwks(Fault::Status(503, String::new()));
    fleet.logto.fault_token(Fault::Status(503, String::new()));
    fleet.run("Logto outage", 60, false).await;
    fleet.logto.recover();
    fleet.run("after the outage", 10, false).await;
    fleet.logto.rotate();
    fleet.run("after a key rotation", 10, false).await;
    fleet.run("one made-up key id per request", 10, true).await;
    fleet.run("at rest", 16 * 60, false).await;
}

struct Fleet {
    logto: TestIssuer,
    clock: ManualClock,
    instances: Vec<Instance>,
    /// A valid token, which is replaced every 30 minutes.
    token: String,
    /// The number of key ids that have been made up so far.
    made_up: u64,
}

struct Instance {
    validator: Validator,
    tokens: TokenClient,
    /// The number of the step in which this instance serves a request. Each period of 5 s consists
    /// of the steps 0 to `STEPS - 1`.
    phase: usize,
}

/// The requests that Logto has received so far.
#[derive(Clone, Copy)]
struct Requests {
    jwks: u64,
    token: u64,
}

impl Fleet {
    async fn start(instances: usize) -> Self {
        let clock = ManualClock::default();
        let app = TestApp::new("app", "secret").grant(SHOPPING_API, ["read:products"]);
        let logto = TestIssuer::builder().clock(clock.clone()).app(app).start().await.unwrap();
        let instance = |number| {
            let trusted = logto.trusted(SHOPPING_API);
            // With this setting, a request with a made-up key id does not wait for the rate limit
            // to permit another fetch. The wait would use a tokio timer, which ignores the manual
            // clock.
            let builder = Validator::builder().trust(trusted).max_waiting_unknown(0);
            let secret = ClientSecret::new("secret");
            let tokens = TokenClient::builder(&logto.issuer(), "app", secret);
            Instance {
                validator: builder.clock(clock.clone()).build().unwrap(),
                tokens: tokens.clock(clock.clone()).build().unwrap(),
                phase: number % STEPS,
            }
        };
        let instances = (0..instances).map(instance).collect();
        Self { logto, clock, instances, token: String::new(), made_up: 0 }
    }

    /// Simulates the given number of minutes, and prints one row of the table. If `attack` is set,
    /// each instance also receives a token with a made-up key id every 5 s.
    async fn run(&mut self, name: &str, minutes: usize, attack: bool) {
        let (first, mut before) = (self.requests(), self.requests());
        let mut peak = Requests { jwks: 0, token: 0 };
        for minute in 0..minutes {
            if minute % 30 == 0 {
                self.token = self.logto.token().audience(SHOPPING_API).build();
            }
            for _ in 0..12 {
                self.serve_for_5_seconds(attack).await;
            }
            let now = self.requests();
            peak.jwks = peak.jwks.max(now.jwks - before.jwks);
            peak.token = peak.token.max(now.token - before.token);
            before = now;
        }
        let mean = |total: u64| total as f64 / minutes as f64;
        let (jwks, token) = (before.jwks - first.jwks, before.token - first.token);
        println!(
            "| {name} | {minutes} | {:.1} | {} | {:.1} | {} |",
            mean(jwks),
            peak.jwks,
            mean(token),
            peak.token
        );
    }

    async fn serve_for_5_seconds(&mut self, attack: bool) {
        let request = TokenRequest::resource(SHOPPING_API).scopes(["read:products"]);
        for step in 0..STEPS {
            self.clock.advance(Duration::from_secs(5) / STEPS as u32);
            for instance in self.instances.iter().filter(|instance| instance.phase == step) {
                // A single poll starts the tasks that send requests to Logto. Below,
                // `background_tasks_done` waits for these tasks.
                poll_once(instance.validator.validate(&self.token));
                poll_once(instance.tokens.token(&request));
                if attack {
                    self.made_up += 1;
                    let token = with_kid(&self.token, self.made_up);
                    poll_once(instance.validator.validate(&token));
                }
            }
            background_tasks_done().await;
        }
    }

    fn requests(&self) -> Requests {
        Requests { jwks: self.logto.jwks_requests(), token: self.logto.token_requests() }
    }
}

/// Returns a copy of the token with a made-up key id in the header. The signature of the copy is
/// invalid. The validator never checks this signature, because the key id is unknown.
fn with_kid(token: &str, number: u64) -> String {
    let (_, rest) = token.split_once('.').unwrap();
    let header = format!(r#"{{"alg":"ES384","typ":"at+jwt","kid":"made-up-{number}"}}"#);
    format!("{}.{rest}", base64url(header))
}

/// The number of steps in each period of 5 s. The requests of the instances are spread over the
/// steps.
const STEPS: usize = 10;
