//! Tests of tokens with unknown key ids. Such tokens cause only as many JWKS fetches as the rate
//! limit allows.

use tower_logto::testing::Fault;

use crate::support::{Harness, SECOND, spawn_validate, status, validate_all, validate_now};

#[tokio::test]
async fn thousand_random_key_ids_fetch_twice() {
    let harness = Harness::start().await;
    // With this setting, a request never waits for the rate limit to permit another fetch. The rate
    // limit uses the manual clock, which does not advance by itself. A waiting request would
    // therefore wait for the full 5 s in real time.
    let validator = harness.builder().max_waiting_unknown(0).build().unwrap();
    let known = harness.token().build();
    validator.validate(&known).await.unwrap();
    let random = |n: usize| harness.token().kid(format!("random-{n}")).build();
    let outcomes = validate_all(&validator, (0..500).map(random)).await;
    assert!(outcomes.iter().all(|outcome| [401, 429].contains(&status(outcome))));
    for n in 500..1000 {
        assert_eq!(status(&validator.validate(&random(n)).await), 429);
    }
    assert_eq!(harness.logto.jwks_requests(), 1 + 2);

    // If a key is published during the flood, the validator refuses the tokens of this key until
    // the rate limit permits the next fetch. After the two fetches above, the rate limit permits
    // one fetch every 5 s.
    harness.logto.rotate();
    let rotated = harness.token().build();
    assert_eq!(status(&validator.validate(&rotated).await), 429, "the rate limit is used up");
    harness.clock.advance(5 * SECOND);
    assert_eq!(status(&validator.validate(&rotated).await), 200);
    assert_eq!(status(&validate_now(&validator, &known)), 200);
    assert_eq!(harness.logto.jwks_requests(), 1 + 2 + 1);
}

#[tokio::test]
async fn malformed_token_causes_no_jwks_fetch() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    for has_keys in [false, true] {
        let unknown = harness.token().kid(format!("unknown, {has_keys}")).build();
        for (token, expected) in [(format!("{unknown} x"), 400), (format!("{unknown}="), 401)] {
            assert_eq!(status(&validate_now(&validator, &token)), expected, "{token}");
        }
        assert_eq!(harness.logto.jwks_requests(), u64::from(has_keys));
        validator.warm_up().await.unwrap();
    }
}

/// The fetch in flight may have read the JWKS before the rotation. The result of this fetch may
/// therefore lack a key that already exists.
#[tokio::test]
async fn waiter_that_joined_an_older_fetch_may_start_one_more_fetch() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    validator.warm_up().await.unwrap();
    harness.logto.hang();
    let early = spawn_validate(&validator, &harness.unknown_key_token().build());
    harness.logto.jwks_requested(2).await;
    let before = harness.logto.jwks();
    harness.logto.fault_jwks(Fault::Status(200, before));
    harness.logto.rotate();
    let late = harness.token().build();
    let release = async {
        tokio::task::yield_now().await;
        harness.logto.recover();
    };
    let (late, ()) = tokio::join!(validator.validate(&late), release);
    assert_eq!(status(&late), 200);
    assert_eq!(status(&early.await.unwrap()), 401);
}
