//! Checks that the rules of one instance apply on the other instances. Also checks the settings of
//! `RedisStore`.

use super::*;

#[tokio::test]
async fn a_rule_of_one_instance_applies_on_all_instances() {
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
async fn the_rule_with_the_latest_time_applies_in_any_order_of_arrival() {
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
async fn ten_thousand_rules_reach_another_instance_and_no_good_token_is_refused() {
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

        // Then the writer stores 10,000 more rules in one call.
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
async fn a_webhook_to_one_instance_revokes_tokens_on_every_instance_within_a_second() {
    with_redis(&[], async |issuer, redis| {
        let receiving = Instance::connected(&issuer, &redis.url()).await;
        let key = issuer.webhooks("").signing_key().to_owned();
        let receiver = WebhookReceiver::builder(&receiving.revocations).signing_key(&key);
        let receiver = receiver.build().unwrap().router("/logto");
        let server = Server::start(receiver).await;
        let webhooks = issuer.webhooks(format!("{}/logto", server.url())).with_signing_key(key);
        let instances = [
            Instance::connected(&issuer, &redis.url()).await,
            Instance::connected(&issuer, &redis.url()).await,
        ];
        let mut delays = Vec::new();
        for n in 0..100 {
            let user = format!("user-{n}");
            let token = token(&issuer, &user);
            for instance in &instances {
                assert_eq!(instance.status_of(&token).await, 200);
            }
            let started = Instant::now();
            assert_eq!(webhooks.suspend(&user).send().await.unwrap(), 204);
            for instance in &instances {
                let mut changes = instance.revocations.changes();
                while instance.status_of(&token).await == 200 {
                    changes.next().await;
                }
            }
            delays.push(started.elapsed());
        }
        delays.sort();
        let (p50, p99) = (delays[delays.len() / 2], delays[delays.len() * 99 / 100]);
        println!("webhook to refusal on both instances: p50 {p50:?}, p99 {p99:?}");
        assert!(p99 < SECOND, "p99 {p99:?}");
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
async fn a_wrong_redis_password_is_reported_without_showing_it() {
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
async fn an_eviction_policy_that_may_drop_rules_logs_a_warning() {
    for (policy, warns) in [("allkeys-lru", true), ("volatile-ttl", false), ("noeviction", false)] {
        let log = LogCapture::start();
        with_redis(&["--maxmemory-policy", policy], async |issuer, redis| {
            Instance::connected(&issuer, &redis.url()).await;
            assert_eq!(log.text().contains("may drop revocation rules"), warns, "{policy}");
        })
        .await;
    }
}

#[test]
fn invalid_store_settings_are_config_errors() {
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
