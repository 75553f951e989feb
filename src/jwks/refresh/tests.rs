//! Tests the refresh of keys with a manual clock. The tests wait for background refreshes.

use super::*;
use crate::{
    Validator,
    testing::{ManualClock, TestIssuer},
};

const SHOP: &str = "https://shopping.api";
const SECOND: Duration = Duration::from_secs(1);
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

    /// Returns the status for a token, without waiting.
    fn status(&self, token: &str) -> u16 {
        let outcome = self.validator.try_validate(token).expect("a known key requires no wait");
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
        // The keys are old and no refresh has failed yet, so this request waits for the refresh.
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
        // When the keys expire, the next fetch is due, and requests wait for it.
        assert!(
            fixture.validator.try_validate(&token).is_none(),
            "capacity {token_cache_capacity}"
        );
        for _ in 0..3 {
            assert_eq!(fixture.validator.validate(&token).await.unwrap_err().status(), 503);
        }
        fixture.logto.recover();
        fixture.clock.advance(SECOND);
        fixture.validator.validate(&token).await.unwrap();
    }
}

#[tokio::test]
async fn failing_refreshes_back_off_while_the_current_keys_are_usable() {
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
async fn keys_are_fresh_for_ten_minutes_with_a_jitter_of_one_minute() {
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
        // After a 304, the validator keeps its key objects, so it can still use the cache entry of
        // the token.
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
async fn the_error_about_a_hung_jwks_endpoint_contains_the_url_and_the_timeout() {
    let fixture = Fixture::new(0).await;
    fixture.logto.hang();
    let error = fixture.validator.validate(&fixture.logto.token().build()).await.unwrap_err();
    let url = fixture.logto.jwks_uri();
    assert!(error.to_string().contains(&format!("{url} did not answer within 5 s")), "{error}");
}

#[tokio::test]
async fn two_thousand_concurrent_first_requests_share_one_fetch_and_succeed() {
    let fixture = Fixture::new(0).await;
    let token = fixture.logto.token().build();
    fixture.logto.hang();
    let request = || {
        let (validator, token) = (fixture.validator.clone(), token.clone());
        tokio::spawn(async move { validator.validate(&token).await })
    };
    let requests: Vec<_> = (0..2_000).map(|_| request()).collect();
    fixture.logto.jwks_requested(1).await;
    fixture.logto.recover();
    for request in requests {
        request.await.unwrap().unwrap();
    }
    assert_eq!(fixture.logto.jwks_requests(), 1);
}

#[tokio::test]
async fn keys_expire_by_the_wall_clock_after_a_machine_has_slept() {
    let fixture = Fixture::new(100).await;
    let token = fixture.logto.token().lifetime(60 * 24 * HOUR).build();
    fixture.validator.validate(&token).await.unwrap();
    // The key is removed while the machine sleeps.
    fixture.logto.rotate();
    fixture.logto.delete_previous();
    fixture.sleep(30 * 24 * HOUR);
    assert!(fixture.validator.try_validate(&token).is_none(), "the keys must be fetched first");
    let error = fixture.validator.validate(&token).await.unwrap_err();
    assert_eq!(error.status(), 401, "{error}");
}

#[tokio::test]
async fn a_wall_clock_that_is_set_back_does_not_age_keys() {
    let fixture = Fixture::new(100).await;
    let token = fixture.logto.token().lifetime(60 * 24 * HOUR).build();
    fixture.validator.validate(&token).await.unwrap();
    fixture.clock.set_unix_time(fixture.clock.unix_time() - 2 * 24 * HOUR);
    assert_eq!(fixture.status(&token), 200);
    fixture.settled().await;
    assert_eq!(fixture.logto.jwks_requests(), 1);
}

#[tokio::test]
async fn a_refresh_that_is_due_by_the_wall_clock_alone_starts_within_five_seconds() {
    let mut immediate = 0;
    for _ in 0..10 {
        let fixture = Fixture::new(100).await;
        let token = fixture.logto.token().build();
        fixture.validator.validate(&token).await.unwrap();
        fixture.sleep(12 * MINUTE);
        assert_eq!(fixture.status(&token), 200);
        assert_eq!(fixture.status(&token), 200);
        fixture.settled().await;
        immediate += fixture.logto.jwks_requests() - 1;
        fixture.clock.advance(5 * SECOND);
        assert_eq!(fixture.status(&token), 200);
        fixture.settled().await;
        assert_eq!(fixture.logto.jwks_requests(), 2);
    }
    assert!(immediate < 5, "{immediate} of 10 refreshes were not delayed");
}

#[tokio::test]
async fn an_idle_service_does_not_accept_a_key_that_was_removed_meanwhile() {
    for token_cache_capacity in [0, 100] {
        let fixture = Fixture::new(token_cache_capacity).await;
        let token = fixture.logto.token().lifetime(24 * HOUR).build();
        fixture.validator.validate(&token).await.unwrap();
        fixture.logto.rotate();
        fixture.logto.delete_previous();
        fixture.clock.advance(HOUR);
        assert_eq!(fixture.validator.validate(&token).await.unwrap_err().status(), 401);
        // The first JWKS request loads the keys. The second request refreshes them, because they
        // are old. The refreshed keys do not include the token's key, so a third request refreshes
        // the keys again.
        assert_eq!(fixture.logto.jwks_requests(), 3, "one load, two refreshes");
    }
}

#[tokio::test]
async fn an_idle_service_uses_old_keys_after_one_second_while_logto_hangs() {
    let fixture = Fixture::new(100).await;
    let token = fixture.logto.token().lifetime(24 * HOUR).build();
    fixture.validator.validate(&token).await.unwrap();
    fixture.logto.hang();
    fixture.clock.advance(HOUR);
    assert!(fixture.validator.try_validate(&token).is_none());
    tokio::time::pause();
    let waiting_since = tokio::time::Instant::now();
    fixture.validator.validate(&token).await.unwrap();
    let waited = waiting_since.elapsed();
    assert!((SECOND..2 * SECOND).contains(&waited), "{waited:?}");
    // When a refresh has been in flight for a second, further requests do not wait for it.
    fixture.clock.advance(SECOND);
    assert_eq!(fixture.status(&token), 200);
}

#[tokio::test]
async fn a_token_of_a_new_key_waits_if_made_up_key_ids_used_up_the_permitted_refreshes() {
    let fixture = Fixture::new(0).await;
    fixture.validator.validate(&fixture.logto.token().build()).await.unwrap();
    fixture.use_up_permits().await;
    fixture.logto.rotate();
    let (validator, token) = (fixture.validator.clone(), fixture.logto.token().build());
    assert!(validator.try_validate(&token).is_none());
    tokio::time::pause();
    let waiting = tokio::spawn(async move { validator.validate(&token).await.map(drop) });
    while fixture.validator.remote_keys().waiters.future.available_permits() == 256 {
        tokio::task::yield_now().await;
    }
    fixture.clock.advance(5 * SECOND);
    tokio::time::advance(5 * SECOND).await;
    tokio::time::resume();
    waiting.await.unwrap().unwrap();
    assert_eq!(fixture.logto.jwks_requests(), 4);
}

#[tokio::test]
async fn a_removed_key_id_is_refused_immediately_when_no_refresh_is_permitted() {
    let fixture = Fixture::new(0).await;
    fixture.validator.validate(&fixture.logto.token().build()).await.unwrap();
    let stale = fixture.logto.token().kid("removed").build();
    for _ in 0..2 {
        assert_eq!(fixture.validator.validate(&stale).await.unwrap_err().status(), 401);
    }
    assert_eq!(fixture.logto.jwks_requests(), 3);
    assert_eq!(fixture.status(&stale), 401);
}

#[tokio::test]
async fn an_unknown_key_id_beyond_the_waiter_limit_gets_429_without_a_challenge() {
    let clock = ManualClock::default();
    let logto = TestIssuer::builder().clock(clock.clone()).start().await.unwrap();
    let builder = Validator::builder().trust(logto.trusted(SHOP)).clock(clock.clone());
    let validator = builder.max_waiting_unknown(0).build().unwrap();
    let fixture = Fixture { logto, clock, validator };
    fixture.validator.validate(&fixture.logto.token().build()).await.unwrap();
    fixture.use_up_permits().await;
    fixture.clock.advance(2 * SECOND);
    let unknown = fixture.logto.token().kid("made up").build();
    let error = fixture.validator.try_validate(&unknown).unwrap().unwrap_err();
    assert_eq!(error.status(), 429, "{error}");
    assert_eq!((error.challenge(), error.retry_after()), (None, Some(3 * SECOND)));
    let mut refused = 0;
    for _ in 0..600 {
        fixture.clock.advance(Duration::from_millis(100));
        let unknown = fixture.logto.token().kid(format!("{refused}")).build();
        if let Err(error) = fixture.validator.validate(&unknown).await {
            assert!([401, 429].contains(&error.status().as_u16()), "{error}");
            refused += 1;
        }
    }
    let fetches = fixture.logto.jwks_requests() - 3;
    assert!((11..=13).contains(&fetches), "{fetches} JWKS requests in a minute");
}

#[tokio::test]
async fn retry_after_is_the_time_to_the_next_permitted_refresh_during_an_outage() {
    let fixture = Fixture::new(0).await;
    fixture.validator.validate(&fixture.logto.token().build()).await.unwrap();
    fixture.logto.go_down();
    let unknown = fixture.logto.token().kid("made up").build();
    for _ in 0..3 {
        fixture.clock.advance(5 * SECOND);
        let error = fixture.validator.validate(&unknown).await.unwrap_err();
        assert_eq!(error.status(), 503);
        assert!(error.retry_after().unwrap() <= 5 * SECOND, "{:?}", error.retry_after());
    }
}

#[test]
fn a_runtime_without_time_enabled_gets_a_clear_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let error = runtime.block_on(async {
        let fixture = Fixture::new(0).await;
        fixture.validator.validate(&fixture.logto.token().build()).await.unwrap_err()
    });
    assert_eq!(error.status(), 503);
    assert!(error.to_string().contains("enable_all"), "{error}");
}

impl Fixture {
    /// Simulates a machine that sleeps, by advancing only the wall clock.
    fn sleep(&self, duration: Duration) {
        self.clock.set_unix_time(self.clock.unix_time() + duration);
    }

    /// Validates two tokens with made-up key ids. Each token triggers a refresh. After these two
    /// refreshes, another unknown key id can trigger a refresh only after a delay.
    async fn use_up_permits(&self) {
        for kid in ["one", "two"] {
            let unknown = self.logto.token().kid(kid).build();
            let error = self.validator.validate(&unknown).await.unwrap_err();
            assert_eq!(error.status(), 401, "{error}");
        }
    }
}
