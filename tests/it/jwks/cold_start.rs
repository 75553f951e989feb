//! Tests of a validator that has no keys yet. Its first requests wait for the first fetch.

use std::time::Duration;

use tower_logto::{
    Issuer, TrustedIssuer, Validator,
    testing::{Fault, ManualClock},
};

use crate::support::{
    Harness, NOW, Outcome, SECOND, SHOPPING_API, base64url, eventually, poll_once, spawn_validate,
    status, validate_all, validate_now,
};

#[tokio::test]
async fn the_first_hundred_requests_share_one_fetch() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    harness.logto.hang();
    let tokens: Vec<_> = (0..100).map(|_| harness.token().build()).collect();
    let release = async {
        harness.logto.jwks_requested(1).await;
        harness.logto.recover();
    };
    let (outcomes, ()) = tokio::join!(validate_all(&validator, tokens), release);
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(harness.logto.jwks_requests(), 1);
}

#[tokio::test]
async fn fetch_continues_when_its_caller_disconnects() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    let token = harness.token().build();
    harness.logto.hang();
    let caller = spawn_validate(&validator, &token);
    harness.logto.jwks_requested(1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    harness.logto.recover();
    validator.validate(&token).await.unwrap();
    assert_eq!(harness.logto.jwks_requests(), 1);
}

#[tokio::test]
async fn recovery_after_failed_first_fetches_takes_one_second() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    let token = harness.token().build();
    harness.logto.stop();
    for attempt in 1..=8 {
        let refusal = validator.validate(&token).await.unwrap_err();
        assert_eq!(refusal.status(), 503, "attempt {attempt}");
        assert_eq!(refusal.retry_after(), Some(SECOND));
        harness.clock.advance(SECOND);
    }
    let refusal = validator.validate(&token).await.unwrap_err();
    assert!(refusal.to_string().contains("could not be reached"), "{refusal}");
    harness.logto.start_again();
    assert_eq!(status(&validator.validate(&token).await), 503, "within a second of the last fetch");
    harness.clock.advance(SECOND);
    assert_eq!(status(&validator.validate(&token).await), 200);
}

#[tokio::test]
async fn first_fetches_back_off_from_250_ms_to_1_s() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    let token = harness.token().build();
    harness.logto.go_down();
    let mut requests = 0;
    for pause in [250, 500, 1000, 1000, 1000] {
        requests += 1;
        assert_eq!(status(&validator.validate(&token).await), 503);
        harness.clock.advance(Duration::from_millis(pause - 1));
        assert_eq!(status(&validator.validate(&token).await), 503);
        assert_eq!(harness.logto.jwks_requests(), requests, "before {pause} ms");
        harness.clock.advance(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn warm_up_fetches_keys_or_returns_the_cause() {
    let harness = Harness::start().await;
    harness.logto.go_down();
    let error = harness.validator().warm_up().await.unwrap_err();
    assert!(error.to_string().contains("500"), "{error}");
    assert!(!error.is_timeout());
    harness.logto.recover();
    let validator = harness.validator();
    validator.warm_up().await.unwrap();
    validator.warm_up().await.unwrap();
    validate_now(&validator, &harness.token().build()).unwrap();
    assert_eq!(harness.logto.jwks_requests(), 2);
}

#[tokio::test]
async fn warm_up_continues_with_the_next_issuer_after_a_failure() {
    let (down, up) = (Harness::start().await, Harness::start().await);
    let validator = Validator::builder()
        .trust(down.logto.trusted(SHOPPING_API))
        .trust(up.logto.trusted(SHOPPING_API))
        .clock(up.clock.clone())
        .build()
        .unwrap();
    down.logto.go_down();
    validator.warm_up().await.unwrap_err();
    assert!(validator.try_validate(&up.token().build()).is_some());
}

#[tokio::test]
async fn unexpected_304_is_not_reported_as_a_redirect() {
    let harness = Harness::start().await;
    harness.logto.fault_jwks(Fault::Status(304, String::new()));
    let error = harness.validator().warm_up().await.unwrap_err().to_string();
    assert!(error.contains("304") && error.contains("caching"), "{error}");
    assert!(!error.contains("redirect"), "{error}");
}

#[tokio::test]
async fn request_beyond_the_waiter_limit_gets_503_without_waiting() {
    let harness = Harness::start().await;
    let validator = harness.builder().max_waiting(1024).build().unwrap();
    harness.logto.hang();
    let token = harness.token().build();
    let waiting = tokio::spawn({
        let (validator, tokens) = (validator.clone(), vec![token.clone(); 1024]);
        async move { validate_all(&validator, tokens).await }
    });
    harness.logto.jwks_requested(1).await;
    let mut refused = None;
    // While fewer than 1,024 other calls are waiting, a new call waits too. Once 1,024 other calls
    // are waiting, a new call is refused immediately.
    eventually(|| {
        refused = poll_once(validator.validate(&token));
        refused.is_some()
    })
    .await;
    let refusal = refused.unwrap().unwrap_err();
    assert_eq!((refusal.status().as_u16(), refusal.retry_after()), (503, Some(SECOND)));
    harness.logto.recover();
    let outcomes = waiting.await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(harness.logto.jwks_requests(), 1);
}

#[tokio::test]
async fn waiter_gets_503_after_five_seconds() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    harness.logto.hang();
    let token = harness.token().build();
    // If tokio's clock is paused and every task is waiting, tokio advances the clock to the next
    // timer.
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let refusal = validator.validate(&token).await.unwrap_err();
    assert_eq!(refusal.status(), 503);
    assert!(start.elapsed() <= Duration::from_millis(5_100), "{:?}", start.elapsed());
}

#[test]
fn validation_outside_a_tokio_runtime_gets_503_and_does_not_panic() {
    let clock = ManualClock::default();
    let issuer = Issuer::new("http://127.0.0.1:9/oidc").unwrap();
    let trusted = TrustedIssuer::new(&issuer).audience(SHOPPING_API);
    let validator = Validator::builder().trust(trusted).clock(clock).build().unwrap();
    let exp = NOW + 3600;
    let claims =
        format!(r#"{{"iss":"{issuer}","aud":"{SHOPPING_API}","sub":"alice","exp":{exp}}}"#);
    let header = base64url(r#"{"alg":"ES384","typ":"at+jwt","kid":"k"}"#);
    let token = format!("{header}.{}.AAAA", base64url(claims));
    assert!(validator.try_validate(&token).is_none());
    let outcome = poll_once(validator.validate(&token)).expect("no waiting");
    assert_eq!(Outcome::of(&outcome), Outcome::KeysUnavailable);
}
