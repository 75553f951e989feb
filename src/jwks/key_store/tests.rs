//! Freshness by a manual clock, where the landing of a background refresh has to be waited for.

use super::*;
use crate::{
    Validator,
    testing::{ManualClock, TestIssuer},
};

const SHOP: &str = "https://shopping.api";
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

impl KeyStore {
    /// Waits until no refresh is under way.
    pub(super) async fn landed(&self) {
        let now = self.0.clock.monotonic();
        let flight = self.0.lock().flights.current(now).map(|flight| flight.landed.clone());
        if let Some(mut landed) = flight {
            let _ = landed.wait_for(Option::is_some).await;
        }
    }
}

struct Stage {
    logto: TestIssuer,
    clock: ManualClock,
    validator: Validator,
}

impl Stage {
    async fn set(verified_tokens: usize) -> Self {
        let clock = ManualClock::default();
        let logto = TestIssuer::builder().clock(clock.clone()).start().await.unwrap();
        let builder = Validator::builder().trust(logto.trusted(SHOP)).clock(clock.clone());
        let validator = builder.token_cache_capacity(verified_tokens).build().unwrap();
        Self { logto, clock, validator }
    }

    /// The verdict, without a chance to wait.
    fn status(&self, token: &str) -> u16 {
        let verdict = self.validator.try_validate(token).expect("a known key does not wait");
        verdict.map_or_else(|error| error.status().as_u16(), |_| 200)
    }

    async fn landed(&self) {
        self.validator.keys().landed().await;
    }
}

#[tokio::test]
async fn the_last_good_keys_are_used_for_a_day_and_no_longer() {
    for verified_tokens in [0, 100] {
        let stage = Stage::set(verified_tokens).await;
        let token = stage.logto.token().lifetime(48 * HOUR).build();
        stage.validator.validate(&token).await.unwrap();
        stage.logto.go_down();
        for requests in 2..=24 {
            stage.clock.advance(HOUR);
            assert_eq!(stage.status(&token), 200);
            stage.landed().await;
            assert_eq!(stage.logto.jwks_requests(), requests);
        }
        stage.clock.advance(HOUR - Duration::from_millis(1));
        assert_eq!(stage.status(&token), 200);
        stage.landed().await;
        stage.clock.advance(Duration::from_millis(1));
        // At the moment they die the next attempt is due, and is waited for.
        assert!(stage.validator.try_validate(&token).is_none(), "room for {verified_tokens}");
        for _ in 0..3 {
            assert_eq!(stage.validator.validate(&token).await.unwrap_err().status(), 503);
        }
        stage.logto.recover();
        stage.clock.advance(LAST_RETRY);
        stage.validator.validate(&token).await.unwrap();
    }
}

#[tokio::test]
async fn refreshes_back_off_while_keys_are_held() {
    let stage = Stage::set(0).await;
    let token = stage.logto.token().lifetime(2 * HOUR).build();
    stage.validator.validate(&token).await.unwrap();
    stage.logto.go_down();
    stage.clock.advance(11 * MINUTE);
    let mut requests = 1;
    for pause in [5, 10, 20, 40, 60, 60] {
        requests += 1;
        assert_eq!(stage.status(&token), 200);
        stage.landed().await;
        stage.clock.advance(Duration::from_millis(pause * 1000 - 1));
        assert_eq!(stage.status(&token), 200);
        stage.landed().await;
        assert_eq!(stage.logto.jwks_requests(), requests, "before {pause} s");
        stage.clock.advance(Duration::from_millis(1));
    }
    stage.logto.recover();
    assert_eq!(stage.status(&token), 200);
    stage.landed().await;
    assert!(stage.validator.keys().0.lock().failure.is_none());
}

#[tokio::test]
async fn keys_are_fresh_for_ten_minutes_give_or_take_one() {
    let stage = Stage::set(100).await;
    let token = stage.logto.token().lifetime(24 * HOUR).build();
    stage.validator.validate(&token).await.unwrap();
    for round in 1..=20 {
        stage.clock.advance(9 * MINUTE - Duration::from_secs(1));
        assert_eq!(stage.status(&token), 200);
        stage.landed().await;
        assert_eq!(stage.logto.jwks_requests(), round, "still fresh");
        stage.clock.advance(2 * MINUTE + Duration::from_secs(2));
        assert_eq!(stage.status(&token), 200);
        stage.landed().await;
        // Nothing has changed: a 304, and the cached token is still good by its key's identity.
        assert_eq!(stage.logto.jwks_requests(), round + 1);
        assert_eq!(stage.logto.not_modified(), round);
    }
}

#[tokio::test]
async fn a_refresh_keeps_the_identity_of_unchanged_keys() {
    let stage = Stage::set(100).await;
    let token = stage.logto.token().lifetime(24 * HOUR).build();
    stage.validator.validate(&token).await.unwrap();
    let keys = stage.validator.keys();
    let held = |kid: &str| match keys.look_up(Some(kid), Algorithm::ES384, &Patience::default()) {
        LookUp::Key(key) => key,
        other => panic!("{other:?}"),
    };
    let kid = stage.logto.current_kid();
    let before = held(&kid);
    stage.logto.rotate();
    stage.clock.advance(11 * MINUTE);
    assert_eq!(stage.status(&token), 200);
    stage.landed().await;
    assert_eq!(stage.logto.not_modified(), 0, "the key set has changed");
    assert!(Arc::ptr_eq(&before, &held(&kid)));
    assert!(keys.holds(&before));
}
