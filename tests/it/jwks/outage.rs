//! Tests with a JWKS endpoint that fails or hangs while the validator has keys.

use tower_logto::testing::Fault;

use crate::support::{HOUR, Harness, MINUTE, SECOND, status, validate_now};

#[tokio::test]
async fn known_key_never_waits_for_a_hanging_endpoint() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    let token = harness.token().lifetime(2 * HOUR).build();
    validator.validate(&token).await.unwrap();
    harness.logto.hang();
    harness.clock.advance(11 * MINUTE);
    validate_now(&validator, &token).unwrap();
    harness.logto.jwks_requested(2).await;
    // While the refresh hangs, the validator accepts a cached token and a new token immediately.
    validate_now(&validator, &token).unwrap();
    validate_now(&validator, &harness.token().build()).unwrap();
    assert_eq!(harness.logto.jwks_requests(), 2);
}

#[tokio::test]
async fn failing_refresh_gives_503_for_unknown_keys_and_does_not_affect_known_keys() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    let known = harness.token().build();
    validator.validate(&known).await.unwrap();
    harness.logto.go_down();
    harness.logto.rotate();
    let unknown = harness.token().build();
    for _ in 0..5 {
        let refusal = validator.validate(&unknown).await.unwrap_err();
        assert_eq!(refusal.status(), 503);
        assert!(refusal.retry_after() >= Some(SECOND));
        validate_now(&validator, &known).unwrap();
    }
    assert_eq!(harness.logto.jwks_requests(), 1 + 2, "the rate limit allows two refreshes");
    harness.logto.recover();
    harness.clock.advance(10 * SECOND);
    assert_eq!(status(&validator.validate(&unknown).await), 200);
}

/// While the keys are stale, a failed fetch delays the next fetch by up to a minute. After the keys
/// have expired, this delay is at most a second.
#[tokio::test]
async fn recovery_after_the_keys_expired_takes_one_second() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    let token = harness.token().lifetime(48 * HOUR).build();
    validator.validate(&token).await.unwrap();
    harness.logto.fault_jwks(Fault::Status(500, String::new()));
    let unknown = harness.unknown_key_token().lifetime(48 * HOUR).build();
    for _ in 0..8 {
        harness.clock.advance(3 * HOUR - SECOND);
        let _ = validator.validate(&unknown).await;
    }
    // 24 h minus 8 s have passed since the keys were fetched. The latest fetch has just failed.
    harness.clock.advance(8 * SECOND);
    assert_eq!(validator.validate(&token).await.unwrap_err().status(), 503);
    harness.logto.recover();
    harness.clock.advance(SECOND);
    validator.validate(&token).await.unwrap();
}

/// With these settings, keys expire as soon as they are no longer fresh. Whatever the jitter is,
/// the refresh must start before the keys expire.
#[tokio::test]
async fn refresh_starts_before_the_keys_expire() {
    for _ in 0..20 {
        let harness = Harness::start().await;
        let builder = harness.builder().keys_fresh_for(10 * MINUTE);
        let validator = builder.serve_stale_keys_for(10 * MINUTE).build().unwrap();
        let token = harness.token().build();
        validator.validate(&token).await.unwrap();
        harness.clock.advance(9 * MINUTE);
        validate_now(&validator, &token).unwrap();
        harness.logto.jwks_requested(2).await;
    }
}
