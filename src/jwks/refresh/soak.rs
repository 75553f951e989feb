//! Simulates several days with outages, key rotations, clock jumps and tokens. Every step is
//! compared with a model that does not use the code under test.
//!
//! `TOWER_LOGTO_SOAK_HOURS=1000` simulates 1,000 h instead of 240 h. `TOWER_LOGTO_SOAK_SEED=3` runs
//! only the simulation with the seed 3.

use std::{collections::BTreeSet, fmt, ops::Range};

use fastrand::Rng;
use serde_json::Value;
use tokio::runtime::Handle;

use super::*;
use crate::{
    Validator,
    jwks::refresh::soak_model::Model,
    testing::{Fault, ManualClock, SigningKey, TestIssuer},
};

const SHOP: &str = "https://shopping.api";
const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub(super) const COOLDOWN: Duration = Duration::from_secs(5);
const CACHE_CAPACITY: usize = 20;

#[derive(Clone)]
struct SimulatedToken {
    text: String,
    kid: String,
    /// The times between which the token is valid.
    times: Range<Duration>,
    forged: bool,
}

impl SimulatedToken {
    /// Returns whether the token is expired or not yet valid, even with the tolerance.
    fn is_untimely(&self, clock: &ManualClock) -> bool {
        let (now, tolerance) = (clock.unix_time(), 30 * SECOND);
        now + tolerance < self.times.start || now >= self.times.end + tolerance
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Up,
    Down,
}

#[derive(Debug, Default)]
struct Count {
    steps: u64,
    accepted: u64,
    refused: u64,
    unavailable: u64,
    rotations: u64,
    fetches: u64,
}

struct Simulation {
    seed: u64,
    rng: Rng,
    clock: ManualClock,
    logto: TestIssuer,
    validator: Validator,
    service: Service,
    /// The issuer does not recover before this time.
    outage_until: Duration,
    model: Model,
    tokens: Vec<SimulatedToken>,
    count: Count,
}

impl Simulation {
    async fn start(seed: u64) -> Self {
        let clock = ManualClock::default();
        let logto = TestIssuer::builder().clock(clock.clone()).start().await.unwrap();
        let builder = Validator::builder().trust(logto.trusted(SHOP)).clock(clock.clone());
        let client = || reqwest::Client::builder().tls_certs_only([]);
        // Every third simulation has no cache.
        let capacity = if seed.is_multiple_of(3) { 0 } else { CACHE_CAPACITY };
        let validator =
            builder.token_cache_capacity(capacity).http_client_builder(client).build().unwrap();
        let model = Model::new();
        // The seed also determines the jitter of the refresh times.
        fastrand::seed(seed);
        let rng = Rng::with_seed(seed);
        let service = Service::Up;
        let (tokens, count, outage_until) = (Vec::new(), Count::default(), Duration::ZERO);
        Self { seed, rng, clock, logto, validator, service, outage_until, model, tokens, count }
    }

    async fn step(&mut self) {
        self.count.steps += 1;
        self.pass_time();
        self.change_something();
        self.issue_token();
        match self.rng.u32(..20) {
            0 => self.hang().await,
            1 => self.flood().await,
            _ => {
                let newest = self.tokens.len() - 1;
                let chosen = if self.rng.bool() { newest } else { self.rng.usize(..=newest) };
                self.validate(chosen).await;
            }
        }
    }

    fn pass_time(&mut self) {
        let milliseconds = match self.rng.u32(..1000) {
            0..300 => 1..1_000,
            300..800 => 1_000..60_000,
            800..996 => 60_000..15 * 60_000,
            996..999 => 60 * 60_000..10 * 60 * 60_000,
            _ => 10 * 60 * 60_000..50 * 60 * 60_000,
        };
        self.clock.advance(Duration::from_millis(self.rng.u64(milliseconds)));
        let wall = self.clock.unix_time();
        let leap = match self.rng.u32(..400) {
            0 => SECOND,
            1 => Duration::from_secs(self.rng.u64(..600)),
            2 => Duration::from_secs(self.rng.u64(..200_000)),
            _ => return,
        };
        self.clock.set_unix_time(if self.rng.bool() { wall + leap } else { wall - leap });
    }

    fn change_something(&mut self) {
        match self.rng.u32(..60) {
            0 => {
                self.logto.rotate();
                self.count.rotations += 1;
            }
            1 => self.logto.delete_previous(),
            2 => self.logto.stage(Algorithm::ES384),
            3 => {
                self.logto.stage(Algorithm::ES256);
                self.logto.promote();
                self.count.rotations += 1;
            }
            // Simulates an outdated replica. Until the next recovery, the issuer publishes the same
            // key set, even if it rotates its keys.
            4 => self.logto.publish(self.logto.jwks()),
            5..8 => {
                let fault = match self.rng.u32(..6) {
                    0 => Fault::Status(404, "{}".into()),
                    1 => Fault::Status(200, "<html>".into()),
                    2 => Fault::Status(200, "{\"keys\":[]}".into()),
                    3 => Fault::Status(503, self.logto.jwks()),
                    4 => {
                        self.logto.stop();
                        Fault::None
                    }
                    _ => Fault::ServerError,
                };
                self.logto.fault_jwks(fault);
                // One in 20 outages has a minimum duration, which is random: from 12 h to 35 h.
                let has_failed = std::mem::replace(&mut self.service, Service::Down) == Service::Up;
                if has_failed && self.rng.u32(..20) == 0 {
                    let hours = self.rng.u32(12..36);
                    self.outage_until = self.clock.monotonic() + hours * HOUR;
                }
            }
            8..18 if self.clock.monotonic() >= self.outage_until => {
                self.logto.start_again();
                self.logto.recover();
                self.service = Service::Up;
            }
            _ => {}
        }
    }

    fn issue_token(&mut self) {
        let lifetime = [5 * MINUTE, HOUR, 12 * HOUR, 72 * HOUR][self.rng.usize(..4)];
        let token = self.logto.token().lifetime(lifetime);
        let current = self.logto.current_kid();
        let now = Duration::from_secs(self.clock.unix_time().as_secs());
        let times = Duration::ZERO..now + lifetime;
        let (token, kid, times, forged) = match self.rng.u32(..20) {
            0 => (token.bad_signature(), current, times, true),
            1 => {
                let other_key = SigningKey::generate(Algorithm::ES384);
                (token.signed_by(&other_key).kid(&current), current, times, true)
            }
            2 => {
                let kid = format!("random-{}", self.rng.u64(..));
                (token.kid(&kid), kid, times, true)
            }
            3 => (token.expired(), current, Duration::ZERO..now - HOUR, false),
            4..6 => {
                let start = now + Duration::from_secs(self.rng.u64(..600));
                (token.claim("nbf", start.as_secs()), current, start..times.end, false)
            }
            _ => (token, current, times, false),
        };
        self.tokens.push(SimulatedToken { text: token.build(), kid, times, forged });
        if self.tokens.len() > 60 {
            self.tokens.swap_remove(self.rng.usize(..60));
        }
    }

    /// Validates one token, and compares the outcome with the model.
    async fn validate(&mut self, chosen: usize) {
        let now = Moment::now(&self.clock);
        let (free, bucket) = self.model.budget(now);
        let must = self.model.must_fetch(now) && self.model.has_keys(now);
        let idle = self.model.is_idle(now);
        let before = self.logto.jwks_requests();
        let token = self.tokens[chosen].clone();
        let untimely = token.is_untimely(&self.clock);
        let known = self.model.knows(&token.kid, now);

        let immediate = self.validator.try_validate(&token.text).map(|outcome| status(&outcome));
        self.settled().await;
        let outcome = self.validator.validate(&token.text).await;
        self.settled().await;

        let fetches = self.fetches(before);
        let published = self.published();
        let success = fetches > 0 && published.is_some();
        let now_known = published
            .as_ref()
            .filter(|_| success)
            .map_or_else(|| known && !success, |kids| kids.contains(&token.kid));
        let context = format!(
            "{self}: {immediate:?} then {outcome:?}, {fetches} fetches (allowed: {free} without \
             credit, {bucket} with credit), known {known}, then {now_known}, untimely {untimely}, \
             forged {}",
            token.forged,
        );
        // Checks the outcome of `try_validate`, which does not wait for a fetch.
        match immediate {
            _ if untimely => assert_eq!(immediate, Some(401), "{context}"),
            Some(200) => assert!(known && !token.forged, "{context}"),
            Some(_) => assert!(!known || token.forged, "{context}"),
            None => assert!(!known || idle, "{context}"),
        }
        // Checks the outcome of `validate`. If `try_validate` started a refresh, the refresh ended
        // before the call of `validate`.
        match status(&outcome) {
            200 => assert!(now_known && !untimely && !token.forged, "{context}"),
            401 => assert!(untimely || token.forged || !now_known, "{context}"),
            429 => assert!(!untimely && !now_known && bucket == 0, "{context}"),
            503 => assert!(!untimely && !now_known, "{context}"),
            other => panic!("{other}: {context}"),
        }
        // If a refresh is permitted, the validator must find every key that the issuer currently
        // publishes.
        let may_refresh = if self.model.has_keys(now) {
            self.model.credit.start >= COOLDOWN
        } else {
            self.model.must_fetch(now)
        };
        if let Some(kids) = &published
            && may_refresh
            && kids.contains(&token.kid)
            && !untimely
            && !token.forged
        {
            assert_eq!(status(&outcome), 200, "{context}");
        }
        let counter = match status(&outcome) {
            200 => &mut self.count.accepted,
            401 | 429 => &mut self.count.refused,
            _ => &mut self.count.unavailable,
        };
        *counter += 1;
        let needs_keys = !(untimely || known && now_known);
        assert!(fetches <= free + if needs_keys { bucket.min(1) } else { 0 }, "budget: {context}");
        assert!(!must || untimely || fetches >= 1, "overdue: {context}");
        self.model.fetched(fetches, published, now);
    }

    /// Validates many tokens with unknown key ids at the same time.
    async fn flood(&mut self) {
        let now = Moment::now(&self.clock);
        let (free, bucket) = self.model.budget(now);
        let before = self.logto.jwks_requests();
        let tasks = (0..self.rng.usize(1..30)).map(|n| {
            let token = self.logto.token().kid(format!("flood-{n}")).build();
            let validator = self.validator.clone();
            tokio::spawn(async move { status(&validator.validate(&token).await) })
        });
        for task in tasks.collect::<Vec<_>>() {
            let status = task.await.unwrap();
            assert!([401, 429, 503].contains(&status), "{self}: {status}");
        }
        self.settled().await;
        let fetches = self.fetches(before);
        assert!(fetches <= free + bucket, "{self}: {fetches} fetches, allowed: {free} + {bucket}");
        self.model.fetched(fetches, self.published(), now);
    }

    /// Makes the server accept requests without responding. The validator must still accept tokens
    /// with a known key.
    async fn hang(&mut self) {
        if self.service == Service::Down {
            return;
        }
        let now = Moment::now(&self.clock);
        let (free, _) = self.model.budget(now);
        let idle = self.model.is_idle(now);
        let before = self.logto.jwks_requests();
        self.logto.fault_jwks(Fault::Hang);
        for _ in 0..3 {
            let token = &self.tokens[self.rng.usize(..self.tokens.len())];
            let untimely = token.is_untimely(&self.clock);
            if untimely || token.forged || !self.model.knows(&token.kid, now) || idle {
                continue;
            }
            let outcome = self.validator.try_validate(&token.text).map(|outcome| status(&outcome));
            assert_eq!(outcome, Some(200), "{self}");
        }
        if self.validator.remote_keys().lock().refresh.in_flight(now.monotonic).is_some() {
            self.logto.jwks_requested(before + 1).await;
        }
        self.logto.fault_jwks(Fault::None);
        self.settled().await;
        let fetches = self.fetches(before);
        assert!(fetches <= free, "{self}: {fetches} fetches, allowed: {free}");
        self.model.fetched(fetches, self.published(), now);
    }

    fn fetches(&mut self, before: u64) -> u64 {
        // A stopped server cannot count the connections that it refuses. This method therefore
        // counts the refreshes that the validator started.
        let started = self.validator.remote_keys().lock().refresh.started();
        let fetches = started - self.count.fetches;
        self.count.fetches = started;
        assert!(self.logto.jwks_requests() - before <= fetches, "{self}");
        fetches
    }

    /// Returns the key ids that a fetch would return now, or `None` if the fetch would fail.
    fn published(&self) -> Option<BTreeSet<String>> {
        let set: Value = serde_json::from_str(&self.logto.jwks()).unwrap();
        let kid = |key: &Value| key["kid"].as_str().unwrap().to_owned();
        let kids = set["keys"].as_array().unwrap().iter().map(kid).collect();
        (self.service == Service::Up).then_some(kids)
    }

    async fn settled(&self) {
        self.validator.remote_keys().settled().await;
    }

    /// Asserts that no task is left, that the cache does not exceed its capacity, and that all
    /// waiter permits are available.
    async fn assert_tidy(&self) {
        let metrics = Handle::current().metrics();
        let idle = async {
            while metrics.num_alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), idle).await;
        assert!(waited.is_ok(), "{self}: {} tasks", metrics.num_alive_tasks());
        if !self.seed.is_multiple_of(3) {
            let (_, weight) = self.validator.cache().count_and_weight();
            assert!(weight <= CACHE_CAPACITY as u64, "{self}: {weight}");
        }
        let permits = self.validator.remote_keys().waiters.load.available_permits();
        assert_eq!(permits, 16_384, "{self}");
    }
}

impl fmt::Display for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, service, model, clock, count, .. } = self;
        write!(f, "seed {seed}, step {}, {:?}, {service:?}, {model:?}", count.steps, clock)
    }
}

fn status(outcome: &Result<crate::AccessToken, crate::AuthError>) -> u16 {
    outcome.as_ref().map_or_else(|error| error.status().as_u16(), |_| 200)
}

#[tokio::test]
async fn days_of_outages_rotations_and_clock_jumps() {
    let number = |name| std::env::var(name).ok().map(|value: String| value.parse::<u64>().unwrap());
    let hours = number("TOWER_LOGTO_SOAK_HOURS");
    let seed = number("TOWER_LOGTO_SOAK_SEED");
    let seeds = seed.map_or(1..5, |seed| seed..seed + 1);
    let hours = u32::try_from(hours.unwrap_or(240)).unwrap()
        / u32::try_from(seeds.end - seeds.start).unwrap();
    let mut unavailable = 0;
    for seed in seeds {
        let mut simulation = Simulation::start(seed).await;
        while simulation.clock.monotonic() < HOUR * hours {
            simulation.step().await;
            if simulation.count.steps.is_multiple_of(100) {
                simulation.assert_tidy().await;
            }
        }
        simulation.assert_tidy().await;
        let count = &simulation.count;
        println!("seed {seed}, {hours} h: {count:?}");
        assert!(count.accepted > count.steps / 20, "{simulation}: too few tokens were accepted");
        assert!(count.refused > 0 && count.rotations > 0, "{simulation}");
        unavailable += count.unavailable;
    }
    assert!(unavailable > 0, "no outage caused a refusal with the status 503");
}
