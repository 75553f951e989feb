//! Tests that flood a validator with tokens that have bad signatures. During a flood, signature
//! checks are queued, but cached tokens never wait.

use std::time::Duration;

use tower_logto::{
    AccessToken, AuthError, Clock, Validator, ValidatorBuilder,
    error::AuthErrorKind,
    testing::{ManualClock, TestIssuer},
};

use crate::support::{
    LogCapture, MINUTE, Outcome, SECOND, SHOPPING_API, TIMEOUT, poll_once, spawn_validate, status,
    validate_now,
};

/// A clock that advances by 200 µs whenever its monotonic time is read. Every signature check
/// therefore seems to take 200 µs, which is about the real time of an ES384 check.
#[derive(Debug, Clone, Default)]
struct TickingClock(ManualClock);

impl Clock for TickingClock {
    fn unix_time(&self) -> Duration {
        self.0.unix_time()
    }

    fn monotonic(&self) -> Duration {
        self.0.advance(Duration::from_micros(200));
        self.0.monotonic()
    }
}

struct Flood {
    logto: TestIssuer,
    clock: TickingClock,
}

impl Flood {
    async fn start() -> Self {
        let clock = TickingClock::default();
        let logto = TestIssuer::builder().clock(clock.clone()).start().await.unwrap();
        Self { logto, clock }
    }

    fn builder(&self) -> ValidatorBuilder {
        let trusted = self.logto.trusted(SHOPPING_API);
        Validator::builder().trust(trusted).clock(self.clock.clone())
    }

    fn good_token(&self, subject: &str, id: &str) -> String {
        self.logto.token().audience(SHOPPING_API).subject(subject).claim("jti", id).build()
    }

    fn forged_token(&self, subject: &str) -> String {
        self.logto.token().audience(SHOPPING_API).subject(subject).bad_signature().build()
    }

    /// Validates 101 forged tokens. Their checks take more than 20 ms in total, so the validator
    /// queues all later checks.
    fn flood(&self, validator: &Validator) {
        let forged = self.forged_token("mallory");
        for _ in 0..101 {
            assert_eq!(Outcome::of(&validate_now(validator, &forged)), Outcome::BadSignature);
        }
    }
}

fn is_too_many(outcome: &Result<AccessToken, AuthError>) -> bool {
    let too_many =
        |error: &AuthError| matches!(error.kind(), AuthErrorKind::TooManySignatureChecks { .. });
    outcome.as_ref().is_err_and(too_many)
}

/// All forged tokens are in the queue before the valid tokens arrive.
#[tokio::test]
async fn known_subjects_overtake_thousands_of_queued_forged_tokens() {
    const FORGED: usize = 16_000;
    let flood = Flood::start().await;
    let validator = flood.builder().max_queue_time(MINUTE).build().unwrap();
    let cached = flood.good_token("alice", "1");
    validator.validate(&cached).await.unwrap();
    flood.flood(&validator);

    let forged = flood.forged_token("mallory");
    let mut queued: Vec<_> = (0..FORGED).map(|_| Box::pin(validator.validate(&forged))).collect();
    // The checking threads may finish a few checks before the last token enters the queue.
    queued.retain_mut(|request| poll_once(request).is_none());
    assert_eq!(status(&validate_now(&validator, &cached)), 200, "a cached token does not wait");
    let alice = flood.good_token("alice", "2");
    validator.validate(&alice).await.unwrap();
    let waiting = queued.iter_mut().map(poll_once).filter(Option::is_none).count();
    // If checks ran in the order of arrival, all forged tokens would have been checked before
    // Alice's new token, and `waiting` would be 0.
    assert!(waiting > 0, "no forged token is still waiting");
}

#[tokio::test]
async fn new_subject_is_accepted_although_forged_tokens_are_ahead_in_the_queue() {
    let flood = Flood::start().await;
    let validator = flood.builder().build().unwrap();
    validator.warm_up().await.unwrap();
    flood.flood(&validator);
    let forged = flood.forged_token("mallory");
    let forged: Vec<_> = (0..50).map(|_| spawn_validate(&validator, &forged)).collect();
    let bob = spawn_validate(&validator, &flood.good_token("bob", "1"));
    assert_eq!(status(&tokio::time::timeout(TIMEOUT, bob).await.unwrap().unwrap()), 200);
    for request in forged {
        assert_eq!(Outcome::of(&request.await.unwrap()), Outcome::BadSignature);
    }
}

#[tokio::test]
async fn full_queue_refuses_new_subjects_with_503_and_accepts_known_subjects() {
    let flood = Flood::start().await;
    let validator = flood.builder().max_queued_checks(20).build().unwrap();
    validator.validate(&flood.good_token("alice", "1")).await.unwrap();
    flood.flood(&validator);
    let forged = flood.forged_token("mallory");
    let mut requests: Vec<_> = (0..500).map(|_| Box::pin(validator.validate(&forged))).collect();
    let mut refused = Vec::new();
    for request in &mut requests {
        if let Some(outcome) = poll_once(request) {
            refused.push(outcome);
        }
    }
    validator.validate(&flood.good_token("alice", "2")).await.unwrap();
    let outcome = refused.iter().find(|outcome| is_too_many(outcome)).expect("a full queue");
    let error = outcome.as_ref().unwrap_err();
    assert_eq!((error.status().as_u16(), error.retry_after()), (503, Some(5 * SECOND)));
    assert_eq!(error.challenge(), None);
}

#[tokio::test]
async fn check_that_waited_too_long_is_refused_with_503() {
    let flood = Flood::start().await;
    // Each check advances `TickingClock` by at least 200 µs, so 500 checks take at least 100 ms.
    // The last requests in a queue of 2,000 requests therefore wait longer than 100 ms.
    let limit = Duration::from_millis(100);
    let validator = flood.builder().max_queue_time(limit).build().unwrap();
    validator.warm_up().await.unwrap();
    flood.flood(&validator);
    let forged = flood.forged_token("mallory");
    let requests: Vec<_> = (0..2_000).map(|_| spawn_validate(&validator, &forged)).collect();
    let mut too_many = 0;
    for request in requests {
        too_many += usize::from(is_too_many(&request.await.unwrap()));
    }
    assert!(too_many > 0);
}

#[tokio::test]
async fn try_validate_checks_the_signature_without_waiting_in_the_queue() {
    let flood = Flood::start().await;
    let validator = flood.builder().max_queued_checks(1).build().unwrap();
    validator.warm_up().await.unwrap();
    flood.flood(&validator);
    for number in 0..10 {
        let token = flood.good_token("bob", &number.to_string());
        assert_eq!(status(&validate_now(&validator, &token)), 200);
    }
}

#[tokio::test]
async fn start_and_end_of_a_flood_are_logged_once_for_all_derived_validators() {
    let log = LogCapture::start();
    let flood = Flood::start().await;
    let validator = flood.builder().build().unwrap();
    let derived = validator.derive().trust(flood.logto.trusted(SHOPPING_API)).build().unwrap();
    validator.warm_up().await.unwrap();
    flood.flood(&validator);
    flood.flood(&derived);
    let text = log.take();
    assert_eq!(text.matches("signature checks are queued").count(), 1, "{text}");
    assert!(text.contains("checked=101 failed=101"), "{text}");
    flood.clock.0.advance(11 * SECOND);
    validate_now(&derived, &flood.good_token("bob", "1")).unwrap();
    let text = log.take();
    assert_eq!(text.matches("signature checks run without a queue again").count(), 1, "{text}");
    assert!(text.contains("failed=202"), "{text}");
}

#[tokio::test]
async fn few_forged_tokens_among_many_good_tokens_start_no_queue() {
    let log = LogCapture::start();
    let flood = Flood::start().await;
    let validator = flood.builder().token_cache_capacity(0).build().unwrap();
    validator.warm_up().await.unwrap();
    let (good, forged) = (flood.good_token("alice", "1"), flood.forged_token("mallory"));
    for number in 0..2_000 {
        let token = if number % 5 == 4 { &forged } else { &good };
        let _ = validate_now(&validator, token);
    }
    assert!(!log.text().contains("queued"), "{}", log.text());
}

/// While a runtime is blocked, it does not poll its requests. The queued checks of these requests
/// must not keep other requests waiting.
#[tokio::test]
async fn requests_that_are_never_polled_do_not_stop_the_queue() {
    let flood = Flood::start().await;
    let validator = flood.builder().build().unwrap();
    validator.warm_up().await.unwrap();
    flood.flood(&validator);
    let forged = flood.forged_token("mallory");
    let mut unpolled: Vec<_> = (0..100).map(|_| Box::pin(validator.validate(&forged))).collect();
    for request in &mut unpolled {
        assert!(poll_once(request).is_none());
    }
    let bob = spawn_validate(&validator, &flood.good_token("bob", "1"));
    assert_eq!(status(&tokio::time::timeout(TIMEOUT, bob).await.unwrap().unwrap()), 200);
}
