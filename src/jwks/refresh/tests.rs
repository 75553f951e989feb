//! Tests of the refresh with a manual clock, which wait for background refreshes.

use super::*;
use crate::{
    Validator,
    testing::{ManualClock, TestIssuer},
};

const SHOP: &str = "https://shopping.api";
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

impl RemoteKeys {
    /// Waits until no refresh is in flight.
    pub(super) async fn settled(&self) {
        let refresh = self.lock().refresh.in_flight(self.clock.monotonic());
        if let Some(refresh) = refresh {
            let _ = refresh.outcome(&Semaphore::new(1)).await;
        }
    }
}

struct Fixture {
    logto: TestIssuer,
    clock: ManualClock,
    validator: Validator,
}

impl Fixture {
    async fn new(token_cache_capacity: usize) -> Self {
        let clock = ManualClock::default();
        let logto = TestIssuer::builder().clock(clock.clone()).start().await.unwrap();
        let builder = Validator::builder().trust(logto.trusted(SHOP)).clock(clock.clone());
        let validator = builder.token_cache_capacity(token_cache_capacity).build().unwrap();
        Self { logto, clock, validator }
    }

    /// The status that a token gets without waiting.
    fn status(&self, token: &str) -> u16 {
        let outcome = self.validator.try_validate(token).expect("a known key does not wait");
        outcome.map_or_else(|error| error.status().as_u16(), |_| 200)
    }

    async fn settled(&self) {
        self.validator.remote_keys().settled().await;
    }
}

#[tokio::test]
async fn stale_keys_are_served_for_a_day_and_not_longer() {
    for token_cache_capacity in [0, 100] {
        let fixture = Fixture::new(token_cache_capacity).await;
        let token = fixture.logto.token().lifetime(48 * HOUR).build();
        fixture.validator.validate(&token).await.unwrap();
        fixture.logto.go_down();
        // The keys are old and no refresh has failed yet: this request waits for the refresh.
        fixture.clock.advance(HOUR);
        assert!(fixture.validator.try_validate(&token).is_none());
        fixture.validator.validate(&token).await.unwrap();
        fixture.settled().await;
        for requests in 3..=24 {
            fixture.clock.advance(HOUR);
            assert_eq!(fixture.status(&token), 200);
            fixture.settled().await;
            assert_eq!(fixture.logto.jwks_requests(), requests);
        }
        fixture.clock.advance(HOUR - Duration::from_millis(1));
        assert_eq!(fixture.status(&token), 200);
        fixture.settled().await;
        fixture.clock.advance(Duration::from_millis(1));
        // When the keys expire, the next attempt is due, and requests wait for it.
        assert!(
            fixture.validator.try_validate(&token).is_none(),
            "capacity {token_cache_capacity}"
        );
        for _ in 0..3 {
            assert_eq!(fixture.validator.validate(&token).await.unwrap_err().status(), 503);
        }
        fixture.logto.recover();
        fixture.clock.advance(LAST_RETRY);
        fixture.validator.validate(&token).await.unwrap();
    }
}

#[tokio::test]
async fn failing_refreshes_back_off_while_keys_are_held() {
    let fixture = Fixture::new(0).await;
    let token = fixture.logto.token().lifetime(2 * HOUR).build();
    fixture.validator.validate(&token).await.unwrap();
    fixture.logto.go_down();
    fixture.clock.advance(11 * MINUTE);
    let mut requests = 1;
    for pause in [5, 10, 20, 40, 60, 60] {
        requests += 1;
        assert_eq!(fixture.status(&token), 200);
        fixture.settled().await;
        fixture.clock.advance(Duration::from_millis(pause * 1000 - 1));
        assert_eq!(fixture.status(&token), 200);
        fixture.settled().await;
        assert_eq!(fixture.logto.jwks_requests(), requests, "before {pause} s");
        fixture.clock.advance(Duration::from_millis(1));
    }
    fixture.logto.recover();
    assert_eq!(fixture.status(&token), 200);
    fixture.settled().await;
    assert!(fixture.validator.remote_keys().lock().last_failure.is_none());
}

#[tokio::test]
async fn keys_are_fresh_for_ten_minutes_with_a_jitter_of_one() {
    let fixture = Fixture::new(100).await;
    let token = fixture.logto.token().lifetime(24 * HOUR).build();
    fixture.validator.validate(&token).await.unwrap();
    for round in 1..=20 {
        fixture.clock.advance(9 * MINUTE - Duration::from_secs(1));
        assert_eq!(fixture.status(&token), 200);
        fixture.settled().await;
        assert_eq!(fixture.logto.jwks_requests(), round, "still fresh");
        fixture.clock.advance(2 * MINUTE + Duration::from_secs(2));
        assert_eq!(fixture.status(&token), 200);
        fixture.settled().await;
        // A 304 keeps the identity of the keys, so the cached token is still valid.
        assert_eq!(fixture.logto.jwks_requests(), round + 1);
        assert_eq!(fixture.logto.not_modified(), round);
    }
}

#[tokio::test]
async fn a_refresh_keeps_the_identity_of_unchanged_keys() {
    let fixture = Fixture::new(100).await;
    let token = fixture.logto.token().lifetime(24 * HOUR).build();
    fixture.validator.validate(&token).await.unwrap();
    let keys = fixture.validator.remote_keys();
    let held = |kid: &str| keys.find(Some(kid), Algorithm::ES384, keys.now()).unwrap().unwrap();
    let kid = fixture.logto.current_kid();
    let before = held(&kid);
    fixture.logto.rotate();
    fixture.clock.advance(11 * MINUTE);
    assert_eq!(fixture.status(&token), 200);
    fixture.settled().await;
    assert_eq!(fixture.logto.not_modified(), 0, "the key set has changed");
    assert!(Arc::ptr_eq(&before, &held(&kid)));
    assert!(keys.holds(&before, keys.now()));
}

#[tokio::test(start_paused = true)]
async fn a_hung_jwks_endpoint_is_named_with_its_timeout() {
    let fixture = Fixture::new(0).await;
    fixture.logto.hang();
    let error = fixture.validator.validate(&fixture.logto.token().build()).await.unwrap_err();
    let url = fixture.logto.jwks_uri();
    assert!(error.to_string().contains(&format!("{url} did not answer within 5 s")), "{error}");
}
