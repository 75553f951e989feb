//! Keys over time: rotation, cold start, floods of unknown key ids, outages, the last good keys.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tower_logto::{
    AccessToken, AuthError, Issuer, TrustedIssuer, Validator,
    error::{AuthErrorKind, InvalidToken},
    testing::{Fault, ManualClock, TestIssuer},
};

use crate::support::{SHOP, Stage, ended_runtime, ends, fixture, invalid};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// Waits for what a background task brings about.
async fn eventually(mut happened: impl FnMut() -> bool) {
    let waiting = async {
        while !happened() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it never happened");
}

fn status(outcome: &Result<AccessToken, AuthError>) -> u16 {
    outcome.as_ref().map_or_else(|error| error.status().as_u16(), |_| 200)
}

/// Validates without a chance to wait.
fn at_once(validator: &Validator, token: &str) -> Result<AccessToken, AuthError> {
    validator.try_validate(token).expect("a known key does not wait")
}

/// `count` validations at once, each in a task of its own.
async fn together(
    validator: &Validator,
    tokens: Vec<String>,
) -> Vec<Result<AccessToken, AuthError>> {
    let tasks = tokens.into_iter().map(|token| {
        let validator = validator.clone();
        tokio::spawn(async move { validator.validate(&token).await })
    });
    let mut outcomes = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

/// The captured rotations, 6 and 7 seconds apart, against a server that publishes what the real
/// Logto published.
struct Captured {
    logto: TestIssuer,
    clock: ManualClock,
    validator: Validator,
}

impl Captured {
    async fn at(unix_seconds: u64) -> Self {
        let clock = ManualClock::at(unix_seconds);
        let logto = TestIssuer::start().await.unwrap();
        let trusted = TrustedIssuer::new(&Issuer::new("http://localhost:3001/oidc").unwrap())
            .audience(SHOP)
            .jwks_uri(logto.jwks_uri());
        let validator = Validator::builder().trust(trusted).clock(clock.clone()).build().unwrap();
        Self { logto, clock, validator }
    }

    fn publish(&self, key_set: &str) {
        self.logto.publish(fixture(&format!("logto-captures/jwks/{key_set}.json")));
    }

    async fn status(&self, token: &str) -> u16 {
        let token = fixture(&format!("logto-captures/tokens/{token}.jwt"));
        status(&self.validator.validate(token.trim()).await)
    }
}

#[tokio::test]
async fn the_captured_rotations_refuse_no_live_token() {
    let captured = Captured::at(1_795_342_990).await;
    captured.publish("rotation-0-ec");
    assert_eq!(captured.status("rotation-0-ec").await, 200);

    captured.clock.advance(6 * SECOND);
    captured.publish("rotation-1-rsa-current-ec-previous");
    assert_eq!(captured.status("rotation-0-ec").await, 200);
    assert_eq!(captured.status("rotation-1-rsa").await, 200, "signs at the moment of publication");
    assert_eq!(captured.status("rotation-0-ec").await, 200);

    captured.clock.advance(7 * SECOND);
    captured.publish("rotation-2-ec-current-rsa-previous");
    assert_eq!(captured.status("rotation-1-rsa").await, 200);
    assert_eq!(captured.status("rotation-2-ec").await, 200, "within the cooldown of the first");
    assert_eq!(captured.status("rotation-1-rsa").await, 200);
    assert_eq!(captured.logto.jwks_requests(), 3);
    // The second rotation dropped the oldest key, although its token has not expired.
    assert_eq!(captured.status("rotation-0-ec").await, 401);
}

#[tokio::test]
async fn a_staged_key_is_known_before_it_signs() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    stage.logto.stage(tower_logto::Algorithm::RS256);
    validator.warm_up().await.unwrap();
    stage.logto.promote();
    at_once(&validator, &stage.logto.token().build()).unwrap();
    assert_eq!(stage.logto.jwks_requests(), 1);
}

#[tokio::test]
async fn rotations_between_ec_and_rsa_refuse_no_live_token() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    let mut previous = stage.logto.token().build();
    for algorithm in [tower_logto::Algorithm::RS256, tower_logto::Algorithm::ES384] {
        assert_eq!(status(&validator.validate(&previous).await), 200);
        stage.logto.rotate_to(algorithm);
        let current = stage.logto.token().build();
        for token in [&previous, &current, &previous] {
            assert_eq!(status(&validator.validate(token).await), 200, "{algorithm}");
        }
        previous = current;
    }
}

#[tokio::test]
async fn a_deleted_key_takes_its_tokens_with_it_the_cached_ones_too() {
    for verified_tokens in [0, 100] {
        let stage = Stage::set().await;
        let validator = stage.builder().token_cache_capacity(verified_tokens).build().unwrap();
        let token = stage.logto.token().lifetime(2 * HOUR).build();
        validator.validate(&token).await.unwrap();
        stage.logto.rotate();
        stage.logto.delete_previous();
        stage.clock.advance(11 * MINUTE);
        // The refresh that this request starts is not waited for.
        at_once(&validator, &token).unwrap();
        eventually(|| !matches!(validator.try_validate(&token), Some(Ok(_)))).await;
        let refusal = validator.validate(&token).await.unwrap_err();
        assert!(matches!(invalid(refusal.kind()), InvalidToken::UnknownKey(_)));
    }
}

#[tokio::test]
async fn a_hundred_first_requests_share_one_fetch() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    stage.logto.hang();
    let tokens = (0..100).map(|_| stage.logto.token().build()).collect();
    let release = async {
        stage.logto.jwks_requested(1).await;
        stage.logto.recover();
    };
    let (outcomes, ()) = tokio::join!(together(&validator, tokens), release);
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(stage.logto.jwks_requests(), 1);
}

#[tokio::test]
async fn a_thousand_random_kids_spend_the_bucket_and_no_more() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    let known = stage.logto.token().build();
    validator.validate(&known).await.unwrap();
    let random = |n: usize| stage.logto.token().kid(format!("random-{n}")).build();
    let outcomes = together(&validator, (0..500).map(random).collect()).await;
    assert!(outcomes.iter().all(|outcome| status(outcome) == 401));
    for n in 500..1000 {
        assert_eq!(status(&validator.validate(&random(n)).await), 401);
    }
    assert_eq!(stage.logto.jwks_requests(), 1 + 2);

    // A key that is rotated in during the flood works within one cooldown.
    stage.logto.rotate();
    let rotated = stage.logto.token().build();
    assert_eq!(status(&validator.validate(&rotated).await), 401, "the bucket is empty");
    stage.clock.advance(10 * SECOND);
    assert_eq!(status(&validator.validate(&rotated).await), 200);
    assert_eq!(status(&at_once(&validator, &known)), 200);
    assert_eq!(stage.logto.jwks_requests(), 1 + 2 + 1);
}

#[tokio::test]
async fn what_is_no_token_fetches_no_keys() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    for held in [false, true] {
        let unknown = stage.logto.token().kid(format!("unknown, {held}")).build();
        for (token, expected) in [(format!("{unknown} x"), 400), (format!("{unknown}="), 401)] {
            assert_eq!(status(&at_once(&validator, &token)), expected, "{token}");
        }
        assert_eq!(stage.logto.jwks_requests(), u64::from(held));
        validator.warm_up().await.unwrap();
    }
}

#[tokio::test]
async fn who_joined_an_older_flight_may_ask_once_more() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    validator.warm_up().await.unwrap();
    stage.logto.hang();
    let early = stage.logto.token().kid("nobody's").build();
    let early = tokio::spawn({
        let validator = validator.clone();
        async move { validator.validate(&early).await }
    });
    stage.logto.jwks_requested(2).await;
    // The flight under way read the key set before this rotation, for all that is known.
    let before = stage.logto.jwks();
    stage.logto.fault_jwks(Fault::Status(200, before));
    stage.logto.rotate();
    let late = stage.logto.token().build();
    let late = async {
        let outcome = pin!(validator.validate(&late));
        outcome.await
    };
    let release = async {
        tokio::task::yield_now().await;
        stage.logto.recover();
    };
    let (late, ()) = tokio::join!(late, release);
    assert_eq!(status(&late), 200);
    assert_eq!(status(&early.await.unwrap()), 401);
}

#[tokio::test]
async fn a_known_kid_never_waits_for_a_hung_endpoint() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    let token = stage.logto.token().lifetime(2 * HOUR).build();
    validator.validate(&token).await.unwrap();
    stage.logto.hang();
    stage.clock.advance(11 * MINUTE);
    at_once(&validator, &token).unwrap();
    stage.logto.jwks_requested(2).await;
    // While the refresh hangs: cached, and at first sight.
    at_once(&validator, &token).unwrap();
    at_once(&validator, &stage.logto.token().build()).unwrap();
    assert_eq!(stage.logto.jwks_requests(), 2);
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_lose_the_fetch() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    let token = stage.logto.token().build();
    stage.logto.hang();
    let impatient = tokio::spawn({
        let (validator, token) = (validator.clone(), token.clone());
        async move { validator.validate(&token).await }
    });
    stage.logto.jwks_requested(1).await;
    impatient.abort();
    assert!(impatient.await.unwrap_err().is_cancelled());
    stage.logto.recover();
    validator.validate(&token).await.unwrap();
    assert_eq!(stage.logto.jwks_requests(), 1);
}

#[tokio::test]
async fn down_at_start_it_comes_back_within_a_second_of_recovery() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    let token = stage.logto.token().build();
    stage.logto.stop();
    for attempt in 1..=8 {
        let refusal = validator.validate(&token).await.unwrap_err();
        assert_eq!(refusal.status(), 503, "attempt {attempt}");
        assert_eq!(refusal.retry_after(), Some(SECOND));
        stage.clock.advance(SECOND);
    }
    let refusal = validator.validate(&token).await.unwrap_err();
    assert!(refusal.to_string().contains("could not be reached"), "{refusal}");
    stage.logto.start_again();
    assert_eq!(status(&validator.validate(&token).await), 503, "the last attempt was just now");
    stage.clock.advance(SECOND);
    assert_eq!(status(&validator.validate(&token).await), 200);
}

#[tokio::test]
async fn the_first_attempts_back_off_from_a_quarter_of_a_second_to_one() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    let token = stage.logto.token().build();
    stage.logto.go_down();
    let mut requests = 0;
    for pause in [250, 500, 1000, 1000, 1000] {
        requests += 1;
        assert_eq!(status(&validator.validate(&token).await), 503);
        stage.clock.advance(Duration::from_millis(pause - 1));
        assert_eq!(status(&validator.validate(&token).await), 503);
        assert_eq!(stage.logto.jwks_requests(), requests, "before {pause} ms");
        stage.clock.advance(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn a_failing_refresh_is_503_for_unknown_kids_and_nothing_for_known_ones() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    let known = stage.logto.token().build();
    validator.validate(&known).await.unwrap();
    stage.logto.go_down();
    stage.logto.rotate();
    let unknown = stage.logto.token().build();
    for _ in 0..5 {
        let refusal = validator.validate(&unknown).await.unwrap_err();
        assert_eq!(refusal.status(), 503);
        assert!(refusal.retry_after() >= Some(SECOND));
        at_once(&validator, &known).unwrap();
    }
    assert_eq!(stage.logto.jwks_requests(), 1 + 2, "the bucket and no more");
    stage.logto.recover();
    stage.clock.advance(10 * SECOND);
    assert_eq!(status(&validator.validate(&unknown).await), 200);
}

#[tokio::test]
async fn two_issuers_keep_their_keys_apart() {
    let (one, other) = (Stage::set().await, Stage::set().await);
    let validator = Validator::builder()
        .trust(one.logto.trusted(SHOP))
        .trust(other.logto.trusted("https://other.api"))
        .clock(one.clock.clone())
        .build()
        .unwrap();
    assert_eq!(status(&validator.validate(&one.logto.token().build()).await), 200);
    let theirs = other.logto.token();
    assert_eq!(status(&validator.validate(&theirs.clone().build()).await), 401, "audience");
    let theirs = theirs.audience("https://other.api");
    assert_eq!(status(&validator.validate(&theirs.clone().build()).await), 200);
    // The other's key, and even its key id, under the first one's name.
    let forged = one.logto.token().signed_by(&other.logto.signing_key());
    assert_eq!(status(&validator.validate(&forged.clone().build()).await), 401);
    let forged = forged.kid(one.logto.current_kid());
    assert_eq!(status(&validator.validate(&forged.build()).await), 401);
}

#[tokio::test]
async fn warm_up_fetches_and_says_what_it_met() {
    let stage = Stage::set().await;
    stage.logto.go_down();
    let error = stage.validator().warm_up().await.unwrap_err();
    assert!(error.to_string().contains("500"), "{error}");
    assert!(!error.is_timeout());
    stage.logto.recover();
    let validator = stage.validator();
    validator.warm_up().await.unwrap();
    validator.warm_up().await.unwrap();
    at_once(&validator, &stage.logto.token().build()).unwrap();
    assert_eq!(stage.logto.jwks_requests(), 2);
}

#[tokio::test]
async fn more_waiters_than_places_are_sent_away_at_once() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    stage.logto.hang();
    let token = stage.logto.token().build();
    let waiting = tokio::spawn({
        let (validator, token) = (validator.clone(), token.clone());
        async move { together(&validator, vec![token; 1024]).await }
    });
    stage.logto.jwks_requested(1).await;
    let token = Arc::new(token);
    let refused = async {
        loop {
            let outcome = pin!(validator.validate(&token));
            let mut outcome = outcome;
            match outcome.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(outcome) => break outcome.unwrap_err(),
                Poll::Pending => tokio::task::yield_now().await,
            }
        }
    };
    let refusal = tokio::time::timeout(Duration::from_secs(20), refused).await.unwrap();
    assert_eq!((refusal.status().as_u16(), refusal.retry_after()), (503, Some(SECOND)));
    stage.logto.recover();
    let outcomes = waiting.await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(stage.logto.jwks_requests(), 1);
}

#[tokio::test]
async fn a_waiter_gives_up_after_five_seconds() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    stage.logto.hang();
    let token = stage.logto.token().build();
    // Time that is stopped leaps to the next timer when nothing else can go on.
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let refusal = validator.validate(&token).await.unwrap_err();
    assert_eq!(refusal.status(), 503);
    assert!(start.elapsed() <= Duration::from_millis(5_100), "{:?}", start.elapsed());
}

#[test]
fn a_runtime_that_ends_frees_the_slot_of_its_fetch() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let stage = first.block_on(Stage::set());
    let validator = stage.validator();
    let token = stage.logto.token().build();
    stage.logto.hang();
    first.block_on(async {
        let (validator, token) = (validator.clone(), token.clone());
        tokio::spawn(async move { validator.validate(&token).await });
        stage.logto.jwks_requested(1).await;
    });
    drop(first);
    stage.logto.recover();
    stage.clock.advance(SECOND);
    runtime().block_on(validator.validate(&token)).unwrap();
}

/// A worker that is stuck in a handler, or a runtime that is entered only now and then: its tasks
/// neither end nor are they dropped.
#[test]
fn a_runtime_that_stands_still_holds_up_no_other() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (still, other) = (runtime(), runtime());
    let stage = other.block_on(Stage::set());
    let validator = stage.validator();
    let old = stage.logto.token().lifetime(48 * HOUR).build();
    other.block_on(validator.validate(&old)).unwrap();
    stage.logto.rotate();
    stage.clock.advance(11 * MINUTE);
    still.block_on(async {
        at_once(&validator, &old).unwrap();
        stage.logto.jwks_requested(2).await;
    });
    // The answer has both keys, and waits there to be read.
    other.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
    stage.logto.delete_previous();
    stage.clock.advance(10 * SECOND);
    other.block_on(async {
        at_once(&validator, &old).unwrap();
        eventually(|| validator.try_validate(&old).is_none_or(|verdict| verdict.is_err())).await;
        validator.validate(&stage.logto.token().build()).await.unwrap();
    });
    // What comes after another flight has started brings no key back.
    still.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
    assert_eq!(status(&other.block_on(validator.validate(&old))), 401);
}

#[test]
fn without_a_runtime_it_is_503_and_no_panic() {
    let clock = ManualClock::default();
    let issuer = Issuer::new("http://127.0.0.1:9/oidc").unwrap();
    let trusted = TrustedIssuer::new(&issuer).audience(SHOP);
    let validator = Validator::builder().trust(trusted).clock(clock).build().unwrap();
    let token = {
        use base64::Engine as _;
        let part = |json: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
        let claims =
            format!(r#"{{"iss":"{issuer}","aud":"{SHOP}","sub":"alice","exp":1795346400}}"#);
        format!("{}.{}.AAAA", part(r#"{"alg":"ES384","typ":"at+jwt","kid":"k"}"#), part(&claims))
    };
    assert!(validator.try_validate(&token).is_none());
    let outcome = pin!(validator.validate(&token)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Err(refusal)) = outcome else { panic!("{outcome:?}") };
    assert!(matches!(refusal.kind(), AuthErrorKind::KeysUnavailable(_)), "{refusal}");
}

#[tokio::test]
async fn a_cached_token_is_judged_by_the_clock_of_each_hit() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    let now = 1_795_342_800;
    let token = stage.logto.token().claim("nbf", now).lifetime(HOUR).build();
    validator.validate(&token).await.unwrap();
    for (wall, expected) in [
        (now - 31, 401),
        (now - 30, 200),
        (now + 3600, 200),
        (now + 3629, 200),
        (now + 3630, 401),
        (now, 200),
        (0, 401),
    ] {
        stage.clock.set_unix_time(Duration::from_secs(wall));
        assert_eq!(status(&at_once(&validator, &token)), expected, "at {wall}");
    }
}

/// A runtime that is shut down drops a spawned task at once, inside `spawn`: its Drop guard lands
/// the flight, and takes the lock that `start` is called with.
#[test]
fn a_refresh_that_starts_while_its_runtime_shuts_down_does_not_deadlock() {
    let outer = tokio::runtime::Runtime::new().unwrap();
    let stage = outer.block_on(Stage::set());
    let validator = stage.validator();
    let token = stage.logto.token().lifetime(Duration::from_secs(7200)).build();
    outer.block_on(validator.validate(&token)).unwrap();
    stage.clock.advance(Duration::from_secs(11 * 60));
    let handle = ended_runtime();
    assert!(ends(move || {
        let _entered = handle.enter();
        validator.try_validate(&token).unwrap().unwrap();
    }));
}

#[tokio::test]
async fn warm_up_goes_on_to_the_next_issuer() {
    let (down, up) = (Stage::set().await, Stage::set().await);
    let validator = tower_logto::Validator::builder()
        .trust(down.logto.trusted(SHOP))
        .trust(up.logto.trusted(SHOP))
        .clock(up.clock.clone())
        .build()
        .unwrap();
    down.logto.go_down();
    validator.warm_up().await.unwrap_err();
    assert!(validator.try_validate(&up.logto.token().build()).is_some());
}

/// The last failure with keys puts the next attempt up to a minute off, keys dying or not.
#[tokio::test]
async fn keys_that_died_come_back_within_a_second_of_recovery() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    let token = stage.logto.token().lifetime(Duration::from_secs(48 * 3600)).build();
    validator.validate(&token).await.unwrap();
    stage.logto.fault_jwks(Fault::Status(500, String::new()));
    let long = Duration::from_secs(48 * 3600);
    let unknown = stage.logto.token().kid("nobody's").lifetime(long).build();
    for _ in 0..8 {
        stage.clock.advance(Duration::from_secs(3 * 3600 - 1));
        let _ = validator.validate(&unknown).await;
    }
    // 24 h less 8 s have passed, and the last attempt has just failed.
    stage.clock.advance(Duration::from_secs(8));
    assert_eq!(validator.validate(&token).await.unwrap_err().status(), 503);
    stage.logto.recover();
    stage.clock.advance(Duration::from_secs(1));
    validator.validate(&token).await.unwrap();
}

/// Keys that may be used no longer than they are fresh: the jitter must not let them die first.
#[tokio::test]
async fn keys_do_not_die_before_their_refresh_is_due() {
    for _ in 0..20 {
        let stage = Stage::set().await;
        let builder = stage.builder().keys_fresh_for(10 * MINUTE);
        let validator = builder.serve_stale_keys_for(10 * MINUTE).build().unwrap();
        let token = stage.logto.token().build();
        validator.validate(&token).await.unwrap();
        stage.clock.advance(9 * MINUTE);
        at_once(&validator, &token).unwrap();
        stage.logto.jwks_requested(2).await;
    }
}
