//! Tests of key rotation. A token that has not expired stays valid as long as the key that signed
//! it is published. After the key has been removed, the validator refuses the token once it has
//! fetched the new JWKS.

use tower_logto::{
    Algorithm, Issuer, TrustedIssuer, Validator,
    testing::{Fault, ManualClock, TestIssuer},
};

use crate::support::{
    HOUR, Harness, MINUTE, Outcome, SECOND, SHOPPING_API, TIMEOUT, eventually, fixtures,
    offline::CAPTURED_ISSUER, status, validate_now,
};

/// A replay of two captured key rotations. The first rotation comes after 6 s, and the second
/// rotation 7 s later. A test issuer serves the captured key sets.
struct CapturedRotations {
    logto: TestIssuer,
    clock: ManualClock,
    validator: Validator,
}

impl CapturedRotations {
    async fn start(unix_seconds: u64) -> Self {
        let clock = ManualClock::at(unix_seconds);
        let logto = TestIssuer::start().await.unwrap();
        let trusted = TrustedIssuer::new(&Issuer::new(CAPTURED_ISSUER).unwrap())
            .audience(SHOPPING_API)
            .jwks_uri(logto.jwks_uri());
        let validator = Validator::builder().trust(trusted).clock(clock.clone()).build().unwrap();
        Self { logto, clock, validator }
    }

    fn publish(&self, jwks: &str) {
        self.logto.publish(fixtures::captured_jwks(jwks));
    }

    async fn status(&self, token: &str) -> u16 {
        status(&self.validator.validate(&fixtures::captured_token(token)).await)
    }
}

#[tokio::test]
async fn valid_token_is_accepted_during_captured_rotations() {
    let captured = CapturedRotations::start(1_795_342_990).await;
    captured.publish("rotation-0-ec");
    assert_eq!(captured.status("rotation-0-ec").await, 200);

    captured.clock.advance(6 * SECOND);
    captured.publish("rotation-1-rsa-current-ec-previous");
    assert_eq!(captured.status("rotation-0-ec").await, 200);
    assert_eq!(
        captured.status("rotation-1-rsa").await,
        200,
        "the new key signs as soon as it is published"
    );
    assert_eq!(captured.status("rotation-0-ec").await, 200);

    captured.clock.advance(7 * SECOND);
    captured.publish("rotation-2-ec-current-rsa-previous");
    assert_eq!(captured.status("rotation-1-rsa").await, 200);
    assert_eq!(
        captured.status("rotation-2-ec").await,
        200,
        "within the cooldown of the first rotation"
    );
    assert_eq!(captured.status("rotation-1-rsa").await, 200);
    assert_eq!(captured.logto.jwks_requests(), 3);
    // This token has not expired, but the second rotation removed the key that signed it.
    assert_eq!(captured.status("rotation-0-ec").await, 401);
}

#[tokio::test]
async fn staged_key_is_known_before_it_signs_tokens() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    harness.logto.stage(Algorithm::RS256);
    validator.warm_up().await.unwrap();
    harness.logto.promote();
    validate_now(&validator, &harness.token().build()).unwrap();
    assert_eq!(harness.logto.jwks_requests(), 1);
}

#[tokio::test]
async fn valid_token_is_accepted_during_rotations_between_ec_and_rsa() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    let mut previous = harness.token().build();
    for algorithm in [Algorithm::RS256, Algorithm::ES384] {
        assert_eq!(status(&validator.validate(&previous).await), 200);
        harness.logto.rotate_to(algorithm);
        let current = harness.token().build();
        for token in [&previous, &current, &previous] {
            assert_eq!(status(&validator.validate(token).await), 200, "{algorithm}");
        }
        previous = current;
    }
}

#[tokio::test]
async fn token_of_a_removed_key_is_refused_whether_cached_or_not() {
    for cache_capacity in [0, 100] {
        let harness = Harness::start().await;
        let validator = harness.builder().token_cache_capacity(cache_capacity).build().unwrap();
        let token = harness.token().lifetime(2 * HOUR).build();
        validator.validate(&token).await.unwrap();
        harness.logto.rotate();
        harness.logto.delete_previous();
        harness.clock.advance(11 * MINUTE);
        // This call starts a refresh without waiting for the result.
        validate_now(&validator, &token).unwrap();
        eventually(|| !matches!(validator.try_validate(&token), Some(Ok(_)))).await;
        let outcome = Outcome::of(&validator.validate(&token).await);
        assert_eq!(outcome, Outcome::UnknownKey);
    }
}

/// Several threads validate tokens while the key that signed the tokens is removed. After the
/// validator has fetched the new JWKS, it refuses all these tokens.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn token_of_a_removed_key_is_refused_under_load() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    let old: Vec<_> = (0..16).map(|_| harness.token().build()).collect();
    for token in &old {
        validator.validate(token).await.unwrap();
    }
    harness.logto.rotate();
    harness.logto.delete_previous();
    let new = harness.token().build();
    let load = (0..4).map(|_| {
        let (validator, old) = (validator.clone(), old.clone());
        tokio::spawn(async move {
            let mut refused = 0;
            while refused < 100 {
                for token in &old {
                    // After the first refusal, every token must be refused, because the validator
                    // must not use the removed key again.
                    match validator.validate(token).await {
                        Ok(_) => assert_eq!(refused, 0),
                        Err(_) => refused += 1,
                    }
                }
                tokio::task::yield_now().await;
            }
        })
    });
    let load: Vec<_> = load.collect();
    // The key id of this token is unknown, so the validator fetches the new JWKS.
    validator.validate(&new).await.unwrap();
    for task in load {
        tokio::time::timeout(TIMEOUT, task).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn keys_of_two_issuers_are_kept_apart() {
    let (one, other) = (Harness::start().await, Harness::start().await);
    let validator = Validator::builder()
        .trust(one.logto.trusted(SHOPPING_API))
        .trust(other.logto.trusted("https://other.api"))
        .clock(one.clock.clone())
        .build()
        .unwrap();
    assert_eq!(status(&validator.validate(&one.token().build()).await), 200);
    let theirs = other.logto.token();
    assert_eq!(status(&validator.validate(&theirs.clone().build()).await), 401, "audience");
    let theirs = theirs.audience("https://other.api");
    assert_eq!(status(&validator.validate(&theirs.clone().build()).await), 200);
    // The `iss` of both forged tokens is the first issuer, but they are signed with the other
    // issuer's key. The `kid` of the second forged token is the id of the first issuer's key.
    let forged = one.token().signed_by(&other.logto.signing_key());
    assert_eq!(status(&validator.validate(&forged.clone().build()).await), 401);
    let forged = forged.kid(one.logto.current_kid());
    assert_eq!(status(&validator.validate(&forged.build()).await), 401);
}

#[tokio::test]
async fn two_rotations_within_the_cooldown_do_not_delay_tokens() {
    let harness = Harness::start().await;
    let validator = harness.builder().max_waiting_unknown(0).build().unwrap();
    validator.warm_up().await.unwrap();
    for _ in 0..2 {
        harness.logto.rotate();
        harness.clock.advance(2 * SECOND);
        assert_eq!(status(&validator.validate(&harness.token().build()).await), 200);
    }
    // At the next rotation, the rate limit permits no fetch yet. By default, a request with a token
    // of the newest key would wait for the next permitted fetch. In this test, the request gets
    // 429, because `max_waiting_unknown` is 0.
    harness.logto.rotate();
    let third = harness.token().build();
    let refused = validator.validate(&third).await.unwrap_err();
    assert_eq!(refused.status(), 429);
    harness.clock.advance(refused.retry_after().unwrap());
    assert_eq!(status(&validator.validate(&third).await), 200);
}

/// A cache in front of the JWKS endpoint serves the old key set for 60 s after the rotation.
#[tokio::test]
async fn stale_key_set_from_a_cdn_delays_new_keys_until_the_cdn_has_the_new_key_set() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    let old = harness.token().build();
    assert_eq!(status(&validator.validate(&old).await), 200);
    let stale = harness.logto.jwks();
    harness.logto.rotate();
    harness.logto.fault_jwks(Fault::Status(200, stale));
    let new = harness.token().build();
    // The key set that the cache serves lacks the new key. The validator therefore refuses the new
    // token with 401, as if the new key did not exist.
    for _ in 0..12 {
        assert_eq!(status(&validator.validate(&new).await), 401);
        assert_eq!(status(&validate_now(&validator, &old)), 200);
        harness.clock.advance(5 * SECOND);
    }
    let requests = harness.logto.jwks_requests();
    assert!(requests <= 1 + 13, "{requests} JWKS requests in a minute");
    harness.logto.recover();
    assert_eq!(status(&validator.validate(&new).await), 200);
}
