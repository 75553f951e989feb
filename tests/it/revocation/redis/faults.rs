//! Tests of rare faults of Redis and of the network, and of the limit on the number of rules.

use tower_logto::testing::ManualClock;

use super::*;
use crate::support::HOUR;

const NEWS: &str = "{test:tenant}:news";
const BLOCKS: &str = "{test:tenant}:blocks";

/// Returns the JSON text of a rule that blocks this user. The sorted set `BLOCKS` in Redis contains
/// such texts.
fn block(user: &str) -> String {
    format!(r#"{{"change":"block","target":{{"subject":"{user}"}}}}"#)
}

/// Waits until the condition is true. If that takes too long, panics with the message `what`.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "{what}");
}

#[tokio::test]
async fn a_strict_set_accepts_tokens_while_redis_sends_no_changes() {
    with_redis(&[], async |issuer, redis| {
        let instance = Instance::start(&issuer, store(&redis.url()).strict(SECOND));
        instance.until("connected", |one| one.source == SourceState::Connected).await;
        let good = token(&issuer, "good");
        let started = Instant::now();
        while started.elapsed() < 4 * SECOND {
            assert_eq!(instance.status_of(&good).await, 200, "after {:?}", started.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_change_notification_with_the_largest_number_starts_a_reload() {
    with_redis(&[], async |issuer, redis| {
        let instance = Instance::connected(&issuer, &redis.url()).await;
        for _ in 0..2 {
            redis.command(&["XADD", NEWS, "*", "number", &u64::MAX.to_string()]).await;
        }
        instance.revocations.block_subject("alice").await.unwrap();
        redis.command(&["ZADD", BLOCKS, "1795342800000", &block("bob")]).await;
        redis.command(&["XADD", NEWS, "*", "number", &u64::MAX.to_string()]).await;
        instance.until_rules(2).await;
        assert!(instance.status().is_running);
    })
    .await;
}

#[tokio::test]
async fn a_writer_that_lost_its_connection_connects_again() {
    with_redis(&[], async |issuer, redis| {
        let proxy = CutProxy::start(redis.address()).await;
        let writer = Instance::connected(&issuer, &proxy.url()).await;
        writer.revocations.block_subject("alice").await.unwrap();
        proxy.lose_connections();
        let error = writer.revocations.block_subject("bob").await.unwrap_err().to_string();
        assert!(error.contains("in time"), "{error}");
        writer.revocations.block_subject("carol").await.unwrap();
        // The writer stores the missing rule in Redis after it has connected again and has loaded
        // all rules.
        let reader = Instance::connected(&issuer, &redis.url()).await;
        reader.until_rules(3).await;
    })
    .await;
}

#[tokio::test]
async fn an_expired_cut_off_of_a_blocked_subject_is_not_written_to_redis_again() {
    let log = LogCapture::start();
    with_redis(&[], async |issuer, redis| {
        let clock = ManualClock::at(1_795_342_800);
        let builder = Revocations::builder([&issuer.issuer()]).clock(clock.clone());
        let revocations = builder.redis(store(&redis.url())).build().unwrap();
        let follower = tokio::spawn(revocations.run());
        until("connected", || revocations.status().source == SourceState::Connected).await;
        revocations.block_subject("alice").await.unwrap();
        revocations.revoke_subject("alice").await.unwrap();
        clock.advance(25 * HOUR);
        // Each write also removes the expired cut-offs from Redis, so this write removes the
        // cut-off of alice.
        revocations.block_subject("dave").await.unwrap();
        // A change notification with an invalid number starts a load of all rules. A load first
        // reads the rules from Redis, and then writes back the rules that Redis lost. A load that
        // writes back a rule logs `Redis lost revocation rules`. The loads of this test must not
        // write back the expired cut-off. The second load starts only after the first load has
        // ended. The rule for carol arrives with the second load, so the first load is complete by
        // then.
        for (rules, user) in [(3, "bob"), (4, "carol")] {
            redis.command(&["ZADD", BLOCKS, "1795342800000", &block(user)]).await;
            redis.command(&["XADD", NEWS, "*", "number", "x"]).await;
            until("rules", || revocations.status().rules == rules).await;
        }
        let text = log.text();
        assert!(!text.contains("Redis lost revocation rules"), "{text}");
        follower.abort();
    })
    .await;
}

#[tokio::test]
async fn a_block_is_written_back_to_a_redis_that_is_full_of_cut_offs() {
    with_redis(&[], async |issuer, redis| {
        let proxy = CutProxy::start(redis.address()).await;
        let limited = |url: &str| {
            let builder = Revocations::builder([&issuer.issuer()]).max_rules(1_000);
            builder.redis(store(url)).build().unwrap()
        };
        let (far, near) = (limited(&proxy.url()), limited(&redis.url()));
        let follower = tokio::spawn(far.run());
        until("connected", || far.status().source == SourceState::Connected).await;
        let at = now();
        let cut_offs = (0..1_000).map(|n| Rule::revoke_client(format!("client-{n}"), at));
        near.store(cut_offs).await.unwrap();
        until("cut-offs", || far.status().rules == 1_000).await;
        proxy.cut();
        far.block_subject("alice").await.unwrap_err();
        proxy.lose_connections();
        proxy.restore();
        let reader = Instance::connected(&issuer, &redis.url()).await;
        reader.until("the block", |one| one.blocked_subjects == 1).await;
        follower.abort();
    })
    .await;
}

#[tokio::test]
async fn every_block_is_loaded_even_beyond_max_rules() {
    with_redis(&[], async |issuer, redis| {
        let writer = Instance::connected(&issuer, &redis.url()).await;
        let at = now();
        let blocks = (0..5_000).map(|n| Rule::delete_subject(format!("user-{n}"), at));
        writer.revocations.store(blocks).await.unwrap();
        let builder = Revocations::builder([&issuer.issuer()]).max_rules(1_000);
        let limited = builder.redis(store(&redis.url())).build().unwrap();
        let follower = tokio::spawn(limited.run());
        until("connected", || limited.status().source == SourceState::Connected).await;
        assert_eq!(limited.status().blocked_subjects, 5_000);
        follower.abort();
    })
    .await;
}

#[tokio::test]
async fn the_eviction_policy_is_read_without_the_config_command_and_with_resp3() {
    for (name, acl, parameters) in [
        ("no CONFIG", "-config", ""),
        ("RESP3", "+config", "?protocol=resp3"),
        ("RESP3 without CONFIG", "-config", "?protocol=resp3"),
    ] {
        let log = LogCapture::start();
        with_redis(&["--maxmemory-policy", "allkeys-lru"], async |issuer, redis| {
            let user = ["ACL", "SETUSER", "some", "on", ">pass", "~*", "&*", "+@all", acl];
            redis.command(&user).await;
            let url = redis.url().replace("redis://", "redis://some:pass@") + parameters;
            let instance = Instance::connected(&issuer, &url).await;
            until(name, || log.text().contains("may drop revocation rules")).await;
            instance.revocations.block_subject("alice").await.unwrap();
            let other = Instance::connected(&issuer, &url).await;
            instance.revocations.block_subject("bob").await.unwrap();
            other.until_rules(2).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_second_call_of_run_waits_until_the_first_call_ends() {
    let log = LogCapture::start();
    with_redis(&[], async |issuer, redis| {
        let mut instance = Instance::connected(&issuer, &redis.url()).await;
        let second = tokio::spawn(instance.revocations.run());
        until("an error", || log.text().contains("is already running")).await;
        let first = std::mem::replace(&mut instance.follower, second);
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        instance
            .until("connected", |one| one.is_running && one.source == SourceState::Connected)
            .await;
    })
    .await;
}

#[tokio::test]
async fn tls_to_a_redis_without_tls_is_an_error() {
    with_redis(&[], async |issuer, redis| {
        let url = redis.url().replace("redis://", "rediss://");
        let instance = Instance::start(&issuer, store(&url));
        instance.until("an error", |one| one.last_error.is_some()).await;
        assert!(instance.status().is_running);
        assert!(instance.revocations.block_subject("alice").await.is_err());
    })
    .await;
}

#[test]
fn errors_and_debug_output_show_no_secret_of_a_redis_url() {
    for url in [
        "redis://user:s3cr3t@host:port",
        "redis://user:s3cr3t@host:6379/database",
        "http://user:s3cr3t@host",
        "user:s3cr3t@host",
        "rediss://user:s3cr3t@/",
        "redis://user:s3cr3t@host?protocol=none",
    ] {
        if let Err(error) = RedisStore::new(url, "logto") {
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("s3cr3t"), "{url}: {shown}");
        }
    }
    for url in ["redis://user:s3cr3t@host", "rediss://:s3cr3t@host/1", "redis://:s3%63r3t@host"] {
        let shown = format!("{:?}", store(url));
        assert!(!shown.contains("s3cr3t") && !shown.contains("user"), "{shown}");
    }
}

#[tokio::test]
async fn a_strict_set_accepts_tokens_while_redis_refuses_writes() {
    let log = LogCapture::start();
    with_redis(&[], async |issuer, redis| {
        redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
        // This rule simulates a rule that was restored from a file. It cannot be written to Redis.
        let revocations = revocations(&issuer, store(&redis.url()).strict(SECOND));
        revocations.store([Rule::block_subject("alice", now())]).await.unwrap_err();
        let follower = tokio::spawn(revocations.run());
        let trusted = issuer.trusted(SHOPPING_API);
        let validator = Validator::builder().trust(trusted).revocations(&revocations).build();
        let instance = Instance { validator: validator.unwrap(), revocations, follower };
        instance.until("connected", |one| one.source == SourceState::Connected).await;
        let started = Instant::now();
        while started.elapsed() < 2 * SECOND {
            assert_eq!(instance.status_of(&token(&issuer, "bob")).await, 200);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(instance.status_of(&token(&issuer, "alice")).await, 401);
        assert!(instance.status().last_error.is_some());
        let log = log.text();
        assert!(log.contains("Redis did not store revocation rules"), "{log}");
    })
    .await;
}

#[tokio::test]
async fn times_are_limited_by_the_clock_of_redis() {
    with_redis(&[], async |issuer, redis| {
        let connected = Instance::connected(&issuer, &redis.url()).await;
        let unix = now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        for (hours, subject) in [(24_i64, "ahead"), (-24, "behind")] {
            let clock = ManualClock::at(unix.saturating_add_signed(hours * 3600));
            let issuers = [&issuer.issuer()];
            let builder = Revocations::builder(issuers).redis(store(&redis.url())).clock(clock);
            let wrong = builder.build().unwrap();
            wrong.store([Rule::revoke_subject(subject, now() + 24 * HOUR)]).await.unwrap();
        }
        connected.until_rules(2).await;
        let (from, to) = ((unix + 300) * 1000, (unix + 360) * 1000);
        let (from, to) = (from.to_string(), to.to_string());
        let limited = redis.command(&["ZCOUNT", "{test:tenant}:cutoffs", &from, &to]).await;
        assert_eq!(limited, ":2", "5 min ahead of the clock of Redis");
    })
    .await;
}
