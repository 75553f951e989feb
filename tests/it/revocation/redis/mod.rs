//! Tests of revocation rules that instances share over a real Redis server.

mod faults;
mod outages;
mod sharing;

use std::{
    future::Future,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tower_logto::{
    Issuer, Validator,
    revocation::{RedisStore, RevocationStatus, Revocations, Rule, SourceState, WebhookReceiver},
    testing::TestIssuer,
};

use crate::support::{
    LogCapture, SECOND, SHOPPING_API, Server,
    redis_server::{CutProxy, RedisServer},
    status, validate_all,
};

/// The time after which a test stops waiting for Redis and fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// An instance of a service that shares its rules over Redis.
struct Instance {
    revocations: Revocations,
    validator: Validator,
    follower: tokio::task::JoinHandle<()>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

fn store(url: &str) -> RedisStore {
    RedisStore::new(url, "test:tenant").unwrap()
}

fn revocations(issuer: &TestIssuer, store: RedisStore) -> Revocations {
    Revocations::builder([&issuer.issuer()]).redis(store).build().unwrap()
}

impl Instance {
    fn start(issuer: &TestIssuer, store: RedisStore) -> Self {
        let revocations = revocations(issuer, store);
        let follower = tokio::spawn(revocations.run());
        let trusted = issuer.trusted(SHOPPING_API);
        let validator = Validator::builder().trust(trusted).revocations(&revocations).build();
        Self { validator: validator.unwrap(), revocations, follower }
    }

    async fn connected(issuer: &TestIssuer, url: &str) -> Self {
        let instance = Self::start(issuer, store(url));
        instance.until("connected", |status| status.source == SourceState::Connected).await;
        instance
    }

    fn status(&self) -> RevocationStatus {
        self.revocations.status()
    }

    async fn until(&self, what: &str, condition: impl Fn(&RevocationStatus) -> bool) {
        let waiting = async {
            while !condition(&self.status()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "{what}: {:?}", self.status());
    }

    async fn until_rules(&self, rules: usize) {
        self.until("rules", |status| status.rules == rules).await;
    }

    async fn status_of(&self, token: &str) -> u16 {
        status(&self.validator.validate(token).await)
    }
}

#[allow(clippy::disallowed_methods, reason = "the sets use the system's clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn token(issuer: &TestIssuer, user: &str) -> String {
    issuer.token().audience(SHOPPING_API).subject(user).build()
}

/// Runs a test with a test issuer and a Redis server.
async fn with_redis<F: Future<Output = ()>>(
    arguments: &[&str],
    test: impl FnOnce(TestIssuer, RedisServer) -> F,
) {
    if let Some(redis) = RedisServer::start(arguments).await {
        test(TestIssuer::start().await.unwrap(), redis).await;
    }
}
