//! Tests of `Validator::recheck`, which repeats the check of a token on a long-lived connection.

use tower_logto::error::AuthErrorKind;

use crate::support::{HOUR, Harness, MINUTE, eventually};

#[tokio::test]
async fn token_whose_key_was_removed_is_refused_after_the_next_refresh() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    let token = validator.validate(&harness.token().lifetime(HOUR).build()).await.unwrap();
    harness.logto.rotate();
    harness.logto.delete_previous();
    harness.clock.advance(11 * MINUTE);
    assert!(validator.recheck(&token).is_ok(), "this call starts the refresh");
    eventually(|| validator.recheck(&token).is_err()).await;
    assert_eq!(validator.recheck(&token).unwrap_err().reason(), "unknown_key");
}

#[tokio::test]
async fn token_is_accepted_after_an_idle_period_while_logto_hangs() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    let token = validator.validate(&harness.token().lifetime(HOUR).build()).await.unwrap();
    harness.logto.hang();
    // After 25 min without requests, a new request would wait up to 1 s for fresh keys. `recheck`
    // does not wait.
    harness.clock.advance(25 * MINUTE);
    validator.recheck(&token).unwrap();
    harness.logto.jwks_requested(2).await;
    validator.recheck(&token).unwrap();
}

#[tokio::test]
async fn token_gets_503_if_the_keys_became_too_old() {
    let harness = Harness::start().await;
    let validator = harness.builder().serve_stale_keys_for(HOUR).build().unwrap();
    let token = validator.validate(&harness.token().lifetime(3 * HOUR).build()).await.unwrap();
    harness.logto.go_down();
    harness.clock.advance(2 * HOUR);
    let refusal = validator.recheck(&token).unwrap_err();
    assert!(matches!(refusal.kind(), AuthErrorKind::KeysUnavailable(_)), "{refusal}");
}
