//! Tests with a Redis server that is unavailable, disconnected, empty or slow, or that contains
//! broken data.

use tower_logto::explain::Verdict;

use super::*;

#[tokio::test]
async fn an_instance_applies_its_known_rules_while_redis_is_unavailable() {
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

        // Redis restarts without its data. The instance then writes its rules to Redis again.
        redis.restart().await;
        instance.until("connected", |one| one.source == SourceState::Connected).await;
        let new = Instance::connected(&issuer, &redis.url()).await;
        new.until_rules(2).await;
        assert_eq!(new.status_of(&token(&issuer, "alice")).await, 401);
        assert_eq!(new.status_of(&token(&issuer, "carol")).await, 401);
    })
    .await;
    let log = log.text();
    assert!(log.is_empty() || log.contains("Redis is unavailable"), "{log}");
}

#[tokio::test]
async fn rules_of_ended_instances_are_loaded_from_a_redis_that_kept_its_data() {
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
        // The change notifications in the stream are deleted before the network works again.
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
async fn missing_change_notifications_start_a_reload() {
    with_redis(&[], async |issuer, redis| {
        let (news, number) = ("{test:tenant}:news", "{test:tenant}:number");
        let instance = Instance::connected(&issuer, &redis.url()).await;
        // Adds a rule without a change notification, as if Redis had trimmed the notification.
        let block = |user: &str| format!(r#"{{"change":"block","target":{{"subject":"{user}"}}}}"#);
        redis.command(&["ZADD", "{test:tenant}:blocks", "1795342800000", &block("alice")]).await;
        redis.command(&["INCR", number]).await;
        instance.revocations.block_subject("bob").await.unwrap();
        instance.until_rules(2).await;
        // Deletes the change notifications and their counter, as if a failover had lost them. The
        // next notification therefore has the number 1.
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
        // If the value of the Redis key for the blocks is not a sorted set, the instance stays
        // disconnected, and its status contains the error.
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
async fn a_strict_set_refuses_every_token_while_redis_is_unavailable() {
    with_redis(&[], async |issuer, mut redis| {
        let strict = || store(&redis.url()).strict(SECOND);
        let instance = Instance::start(&issuer, strict());
        instance.until("connected", |one| one.source == SourceState::Connected).await;
        let good = token(&issuer, "good");
        assert_eq!(instance.status_of(&good).await, 200);
        let never_run = revocations(&issuer, strict());
        let mut changes = instance.revocations.changes();
        redis.kill();
        let waiting = async {
            while instance.status_of(&good).await == 200 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
        // `changes` reports that the set now refuses every token. Long-lived connections need this
        // report, because they must then check their tokens again.
        tokio::time::timeout(PATIENCE, changes.next()).await.unwrap();
        let error = instance.validator.validate(&good).await.unwrap_err();
        assert_eq!((error.status().as_u16(), error.reason()), (503, "revocations_unavailable"));
        let explanation = instance.validator.explain(&good).await;
        assert_eq!(explanation.verdict(), Verdict::Undecided, "{explanation}");
        assert_eq!(error.retry_after(), Some(SECOND));
        redis.restart().await;
        let waiting = async {
            while instance.status_of(&good).await != 200 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();

        // After `run` has stopped, the set refuses every token, although Redis is available.
        // Without `run`, nothing would notice a later outage.
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
        // Alice's request waits for the first load of the rules. The load succeeds in time, so the
        // rule that blocks Alice applies.
        let proxy = CutProxy::start(redis.address()).await;
        let writer = Instance::connected(&issuer, &redis.url()).await;
        writer.revocations.block_subject("alice").await.unwrap();
        proxy.cut();
        let instance = Instance::start(&issuer, store(&proxy.url()));
        let alice = token(&issuer, "alice");
        instance.validator.warm_up().await.unwrap();
        assert!(
            instance.validator.try_validate(&alice).is_none(),
            "the request would have to wait"
        );
        let waiting = instance.status_of(&alice);
        let restored = async {
            tokio::task::yield_now().await;
            proxy.restore();
        };
        assert_eq!(tokio::join!(waiting, restored).0, 401);

        // The future of `run` is not spawned for this set, so the rules are never loaded. The
        // request waits for 1 s. After that, no rule applies.
        let idle = revocations(&issuer, store(&redis.url()));
        let builder = Validator::builder().trust(issuer.trusted(SHOPPING_API));
        let validator = builder.revocations(&idle).build().unwrap();
        validator.warm_up().await.unwrap();
        let started = Instant::now();
        assert_eq!(status(&validator.validate(&alice).await), 200);
        let waited = started.elapsed();
        assert!(waited >= Duration::from_millis(900), "{waited:?}");
        assert!(
            validator.try_validate(&token(&issuer, "bob")).is_some(),
            "requests wait only once"
        );
        assert!(!idle.status().is_running);
        assert_eq!(idle.status().source, SourceState::Disconnected);
        assert!(log.text().contains("Revocations::run"), "{}", log.text());
    })
    .await;
}
