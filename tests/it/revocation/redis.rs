//! Rules that instances share over a real Redis.

use std::{
    future::Future,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tower_logto::{
    Issuer, Validator,
    revocation::{RedisStore, RevocationStatus, Revocations, Rule, SourceState},
    testing::TestIssuer,
};

use crate::support::{
    LogCapture, SECOND, SHOPPING_API,
    redis_server::{CutProxy, RedisServer},
    status, validate_all,
};

/// When a test that waits for Redis fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// An instance of a service.
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

#[allow(clippy::disallowed_methods, reason = "the sets have the system's clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn token(issuer: &TestIssuer, user: &str) -> String {
    issuer.token().audience(SHOPPING_API).subject(user).build()
}

/// Runs a test with an issuer and a Redis.
async fn with_redis<F: Future<Output = ()>>(
    arguments: &[&str],
    test: impl FnOnce(TestIssuer, RedisServer) -> F,
) {
    if let Some(redis) = RedisServer::start(arguments).await {
        test(TestIssuer::start().await.unwrap(), redis).await;
    }
}

#[tokio::test]
async fn a_rule_of_one_instance_applies_on_all() {
    with_redis(&[], async |issuer, redis| {
        let first = Instance::connected(&issuer, &redis.url()).await;
        let second = Instance::connected(&issuer, &redis.url()).await;
        let (alice, bob) = (token(&issuer, "alice"), token(&issuer, "bob"));
        assert_eq!((first.status_of(&alice).await, second.status_of(&alice).await), (200, 200));
        first.revocations.block_subject("alice").await.unwrap();
        assert_eq!(first.status_of(&alice).await, 401);
        second.until_rules(1).await;
        assert_eq!((second.status_of(&alice).await, second.status_of(&bob).await), (401, 200));

        let third = Instance::connected(&issuer, &redis.url()).await;
        assert_eq!((third.status_of(&alice).await, third.status_of(&bob).await), (401, 200));
        let other = RedisStore::new(&redis.url(), "test:other").unwrap();
        let other = Instance::start(&issuer, other);
        other.until("connected", |status| status.source == SourceState::Connected).await;
        assert_eq!(other.status_of(&alice).await, 200, "the prefix of another tenant");
    })
    .await;
}

#[tokio::test]
async fn the_latest_time_counts_whatever_the_order_is() {
    with_redis(&[], async |issuer, redis| {
        let instance = Instance::connected(&issuer, &redis.url()).await;
        let now = now();
        for (subject, block, reactivate) in
            [("alice", now, now + SECOND), ("bob", now + SECOND, now)]
        {
            let rules = [
                Rule::block_subject(subject, block),
                Rule::reactivate_subject(subject, reactivate),
                Rule::block_subject(subject, block - SECOND),
            ];
            for rule in rules {
                instance.revocations.store([rule]).await.unwrap();
            }
        }
        let later = Instance::connected(&issuer, &redis.url()).await;
        assert_eq!((later.status().rules, later.status().blocked_subjects), (2, 1));
        let mut rules = [instance.revocations.rules(), later.revocations.rules()];
        rules.iter_mut().for_each(|rules| rules.sort_by_key(|rule| format!("{rule:?}")));
        assert_eq!(rules[0], rules[1]);
    })
    .await;
}

#[tokio::test]
async fn an_instance_without_redis_goes_on_with_what_it_knows() {
    let log = LogCapture::start();
    with_redis(&[], async |issuer, mut redis| {
        let instance = Instance::connected(&issuer, &redis.url()).await;
        instance.revocations.block_subject("alice").await.unwrap();
        redis.kill();
        instance.until("disconnected", |one| one.source == SourceState::Disconnected).await;
        assert_eq!(instance.status_of(&token(&issuer, "alice")).await, 401);
        assert_eq!(instance.status_of(&token(&issuer, "bob")).await, 200);
        let error = instance.revocations.block_subject("carol").await.unwrap_err().to_string();
        assert!(error.contains("in this process only"), "{error}");
        assert_eq!(instance.status_of(&token(&issuer, "carol")).await, 401);
        assert!(instance.status().last_error.is_some());

        // Redis returns without its data. A writer brings the rules back.
        redis.restart().await;
        instance.until("connected", |one| one.source == SourceState::Connected).await;
        let new = Instance::connected(&issuer, &redis.url()).await;
        new.until_rules(2).await;
        assert_eq!(new.status_of(&token(&issuer, "alice")).await, 401);
        assert_eq!(new.status_of(&token(&issuer, "carol")).await, 401);
    })
    .await;
    let log = log.text();
    assert!(log.is_empty() || log.contains("Redis is away"), "{log}");
}

#[tokio::test]
async fn a_redis_that_kept_its_data_has_the_rules_of_instances_that_are_gone() {
    with_redis(&["--appendonly", "yes", "--appendfsync", "always"], async |issuer, mut redis| {
        let first = Instance::connected(&issuer, &redis.url()).await;
        first.revocations.block_subject("alice").await.unwrap();
        first.revocations.revoke_client("shop").await.unwrap();
        drop(first);
        redis.kill();
        redis.restart().await;
        let second = Instance::connected(&issuer, &redis.url()).await;
        assert_eq!((second.status().rules, second.status().blocked_subjects), (2, 1));
    })
    .await;
}

#[tokio::test]
async fn an_instance_whose_network_is_cut_catches_up() {
    with_redis(&[], async |issuer, redis| {
        let proxy = CutProxy::start(redis.address()).await;
        let far = Instance::connected(&issuer, &proxy.url()).await;
        let near = Instance::connected(&issuer, &redis.url()).await;
        proxy.cut();
        near.revocations.block_subject("alice").await.unwrap();
        // The news are gone before the network is back.
        near.until_rules(1).await;
        redis.command(&["XTRIM", "{test:tenant}:news", "MAXLEN", "0"]).await;
        far.until("disconnected", |one| one.source == SourceState::Disconnected).await;
        assert_eq!(far.status_of(&token(&issuer, "bob")).await, 200);
        let started = Instant::now();
        assert!(far.revocations.block_subject("bob").await.is_err(), "Redis does not respond");
        assert!(started.elapsed() < 10 * SECOND);
        proxy.restore();
        far.until_rules(2).await;
        near.until_rules(2).await;
    })
    .await;
}

#[tokio::test]
async fn trimmed_and_reset_news_start_a_reload() {
    with_redis(&[], async |issuer, redis| {
        let (news, number) = ("{test:tenant}:news", "{test:tenant}:number");
        let instance = Instance::connected(&issuer, &redis.url()).await;
        // Without news, as if they had been trimmed.
        let block = |user: &str| format!(r#"{{"change":"block","target":{{"subject":"{user}"}}}}"#);
        redis.command(&["ZADD", "{test:tenant}:blocks", "1795342800000", &block("alice")]).await;
        redis.command(&["INCR", number]).await;
        instance.revocations.block_subject("bob").await.unwrap();
        instance.until_rules(2).await;
        // The numbers start again after a failover.
        redis.command(&["ZADD", "{test:tenant}:blocks", "1795342800000", &block("carol")]).await;
        redis.command(&["DEL", news, number]).await;
        instance.revocations.block_subject("dave").await.unwrap();
        instance.until_rules(4).await;
    })
    .await;
}

#[tokio::test]
async fn broken_content_is_skipped() {
    let log = LogCapture::start();
    with_redis(&[], async |issuer, redis| {
        let blocks = "{test:tenant}:blocks";
        let good = r#"{"change":"block","target":{"subject":"alice"}}"#;
        let future = r#"{"change":"block","target":{"subject":"future"}}"#;
        redis.command(&["ZADD", blocks, "1795342800000", good, "inf", future, "5", "{"]).await;
        redis.command(&["ZADD", blocks, "-5", r#"{"change":"block","target":"everyone"}"#]).await;
        let instance = Instance::connected(&issuer, &redis.url()).await;
        assert_eq!(instance.status().rules, 1);
        let news = "{test:tenant}:news";
        redis.command(&["XADD", news, "*", "number", "x"]).await;
        let largest = u64::MAX.to_string();
        redis.command(&["XADD", news, "*", "number", &largest]).await;
        redis.command(&["XADD", news, "*", "rule", "\u{1b}[31m", "at", "1e999"]).await;
        instance.revocations.block_subject("bob").await.unwrap();
        instance.until_rules(2).await;
        // A sorted set of another type: the instance stays disconnected, and tells why.
        redis.command(&["DEL", blocks]).await;
        redis.command(&["SET", blocks, "text"]).await;
        let other = Instance::start(&issuer, store(&redis.url()));
        other.until("an error", |one| one.last_error.is_some()).await;
        assert!(other.status().last_error.unwrap().contains("WRONGTYPE"));
        assert_eq!(other.status_of(&token(&issuer, "carol")).await, 200);
    })
    .await;
    let log = log.text();
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[tokio::test]
async fn ten_thousand_rules_arrive_and_no_good_token_is_refused() {
    with_redis(&[], async |issuer, redis| {
        let writer = Instance::connected(&issuer, &redis.url()).await;
        let reader = Instance::connected(&issuer, &redis.url()).await;
        let good = token(&issuer, "good");
        assert_eq!(reader.status_of(&good).await, 200);
        let started = Instant::now();
        let mut delays = Vec::new();
        for round in 0..100 {
            let now = now();
            let rules = (0..100).map(|n| Rule::block_subject(format!("user-{round}-{n}"), now));
            let stored = Instant::now();
            writer.revocations.store(rules).await.unwrap();
            assert_eq!(reader.status_of(&good).await, 200);
            reader.until_rules((round + 1) * 100).await;
            delays.push(stored.elapsed());
        }
        delays.sort();
        let (p50, p99) = (delays[delays.len() / 2], delays[delays.len() * 99 / 100]);
        println!("10,000 rules in {:?}: delay p50 {p50:?}, p99 {p99:?}", started.elapsed());
        assert!(p99 < SECOND, "p99 {p99:?}");

        // And in one burst.
        let now = now();
        let rules = (0..10_000).map(|n| Rule::revoke_client(format!("client-{n}"), now));
        writer.revocations.store(rules).await.unwrap();
        reader.until_rules(20_000).await;
        let tokens: Vec<_> = (0..100).map(|n| token(&issuer, &format!("user-0-{n}"))).collect();
        for outcome in validate_all(&reader.validator, tokens).await {
            assert_eq!(status(&outcome), 401);
        }
        assert_eq!(reader.status_of(&good).await, 200);
    })
    .await;
}

#[tokio::test]
async fn a_read_only_instance_writes_nothing() {
    with_redis(&[], async |issuer, redis| {
        let reader = Instance::start(&issuer, store(&redis.url()).read_only());
        reader.until("connected", |one| one.source == SourceState::Connected).await;
        let error = reader.revocations.block_subject("alice").await.unwrap_err().to_string();
        assert!(error.contains("read-only"), "{error}");
        assert_eq!(redis.command(&["DBSIZE"]).await, ":0");
        redis.command(&["ACL", "SETUSER", "reader", "on", ">pass", "~*", "+@read"]).await;
        let url = redis.url().replace("redis://", "redis://reader:pass@");
        let writer = Instance::connected(&issuer, &redis.url()).await;
        let limited = Instance::start(&issuer, store(&url).read_only());
        limited.until("connected", |one| one.source == SourceState::Connected).await;
        writer.revocations.block_subject("bob").await.unwrap();
        limited.until_rules(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_shown() {
    let log = LogCapture::start();
    with_redis(&["--requirepass", "right"], async |issuer, redis| {
        let url = redis.url().replace("redis://", "redis://:s3cr3t@");
        let instance = Instance::start(&issuer, store(&url));
        instance.until("an error", |one| one.last_error.is_some()).await;
        let shown = format!("{:?} {:?} {}", instance.status(), instance.revocations, log.text());
        assert!(shown.contains("assword"), "{shown}");
        assert!(!shown.contains("s3cr3t"), "{shown}");
        assert!(!format!("{:?}", store(&url)).contains("s3cr3t"));
        let url = redis.url().replace("redis://", "redis://:right@");
        Instance::connected(&issuer, &url).await;
    })
    .await;
}

#[tokio::test]
async fn an_eviction_policy_that_drops_rules_is_a_warning() {
    for (policy, warns) in [("allkeys-lru", true), ("volatile-ttl", false), ("noeviction", false)] {
        let log = LogCapture::start();
        with_redis(&["--maxmemory-policy", policy], async |issuer, redis| {
            Instance::connected(&issuer, &redis.url()).await;
            assert_eq!(log.text().contains("may drop revocation rules"), warns, "{policy}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_strict_set_refuses_every_token_while_redis_is_away() {
    with_redis(&[], async |issuer, mut redis| {
        let strict = || store(&redis.url()).strict(SECOND);
        let instance = Instance::start(&issuer, strict());
        instance.until("connected", |one| one.source == SourceState::Connected).await;
        let good = token(&issuer, "good");
        assert_eq!(instance.status_of(&good).await, 200);
        let never_run = revocations(&issuer, strict());
        redis.kill();
        let waiting = async {
            while instance.status_of(&good).await == 200 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
        let error = instance.validator.validate(&good).await.unwrap_err();
        assert_eq!((error.status().as_u16(), error.reason()), (503, "revocations_unavailable"));
        assert_eq!(error.retry_after(), Some(SECOND));
        redis.restart().await;
        let waiting = async {
            while instance.status_of(&good).await != 200 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();

        // The end of the future closes, too, because nobody would do it later.
        instance.follower.abort();
        instance.until("ended", |one| !one.is_running).await;
        assert_eq!(instance.status_of(&good).await, 503);
        let builder = Validator::builder().trust(issuer.trusted(SHOPPING_API));
        let validator = builder.revocations(&never_run).build().unwrap();
        assert_eq!(status(&validator.validate(&good).await), 503);
    })
    .await;
}

#[tokio::test]
async fn requests_wait_for_the_first_load_for_at_most_a_second() {
    let log = LogCapture::start();
    with_redis(&[], async |issuer, redis| {
        // It waits for the rules, and gets them.
        let proxy = CutProxy::start(redis.address()).await;
        let writer = Instance::connected(&issuer, &redis.url()).await;
        writer.revocations.block_subject("alice").await.unwrap();
        proxy.cut();
        let instance = Instance::start(&issuer, store(&proxy.url()));
        let alice = token(&issuer, "alice");
        instance.validator.warm_up().await.unwrap();
        assert!(instance.validator.try_validate(&alice).is_none(), "it would have to wait");
        let waiting = instance.status_of(&alice);
        let restored = async {
            tokio::task::yield_now().await;
            proxy.restore();
        };
        assert_eq!(tokio::join!(waiting, restored).0, 401);

        // Nobody runs it.
        let idle = revocations(&issuer, store(&redis.url()));
        let builder = Validator::builder().trust(issuer.trusted(SHOPPING_API));
        let validator = builder.revocations(&idle).build().unwrap();
        validator.warm_up().await.unwrap();
        let started = Instant::now();
        assert_eq!(status(&validator.validate(&alice).await), 200);
        let waited = started.elapsed();
        assert!(waited >= Duration::from_millis(900), "{waited:?}");
        assert!(validator.try_validate(&token(&issuer, "bob")).is_some(), "once only");
        assert!(!idle.status().is_running);
        assert_eq!(idle.status().source, SourceState::Disconnected);
        assert!(log.text().contains("Revocations::run"), "{}", log.text());
    })
    .await;
}

#[test]
fn wrong_settings_are_mistakes() {
    for (url, prefix) in [
        ("http://localhost", "logto"),
        ("localhost:6379", "logto"),
        ("redis://localhost", ""),
        ("redis://localhost", "{logto}"),
        ("redis://localhost", "logto tenant"),
    ] {
        let error = RedisStore::new(url, prefix).unwrap_err();
        assert_eq!(error.setting(), "redis", "{url} {prefix}");
    }
    let issuer = Issuer::logto("https://tenant.logto.app").unwrap();
    let store = RedisStore::new("rediss://user:s3cr3t@redis.example:6380/1", "logto").unwrap();
    let revocations = Revocations::builder([&issuer]).redis(store).build().unwrap();
    assert!(!format!("{revocations:?}").contains("s3cr3t"));
    assert_eq!(revocations.status().source, SourceState::Loading);
}
