//! Tests of the status of a validator, and of key snapshots, which preserve the keys across a
//! restart.

use tower_logto::{
    Algorithm, Validator,
    status::{KeysState, Status},
    testing::ManualClock,
    warm_start::KeySnapshot,
};

use crate::support::{
    HOUR, Harness, MINUTE, SECOND, SHOPPING_API, eventually, status, validate_now,
};

fn keys(validator: &Validator) -> (KeysState, usize, Option<u64>, bool) {
    let issuer = validator.status().issuers.remove(0);
    (issuer.state, issuer.keys, issuer.age_secs, issuer.last_error.is_some())
}

#[tokio::test]
async fn status_shows_the_state_of_the_keys_and_starts_no_fetch() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    assert_eq!(keys(&validator), (KeysState::Missing, 0, None, false));
    assert!(!validator.status().is_ready());
    harness.logto.go_down();
    validator.warm_up().await.unwrap_err();
    assert_eq!(keys(&validator), (KeysState::Missing, 0, None, true));
    harness.logto.recover();
    harness.clock.advance(SECOND);
    validator.warm_up().await.unwrap();
    assert_eq!(keys(&validator), (KeysState::Current, 1, Some(0), false));
    assert!(validator.status().is_ready());
    harness.clock.advance(MINUTE);
    assert_eq!(keys(&validator), (KeysState::Current, 1, Some(60), false));
    harness.logto.go_down();
    harness.clock.advance(11 * MINUTE);
    let requests = harness.logto.jwks_requests();
    assert_eq!(keys(&validator), (KeysState::Current, 1, Some(720), false));
    assert_eq!(harness.logto.jwks_requests(), requests, "the status starts no refresh");
    validate_now(&validator, &harness.token().lifetime(48 * HOUR).build()).unwrap();
    eventually(|| keys(&validator).0 == KeysState::Stale).await;
    let Status { issuers, .. } = validator.status();
    assert!(issuers[0].last_error.as_ref().unwrap().contains("500"), "{issuers:?}");
    assert!(validator.status().is_ready(), "stale keys can be used");
    harness.clock.advance(24 * HOUR);
    assert_eq!(keys(&validator).0, KeysState::Expired);
    assert!(!validator.status().is_ready());
    let json = serde_json::to_value(validator.status()).unwrap();
    assert_eq!(json["issuers"][0]["state"], "expired");
    assert_eq!(json["is_flooded"], false);
}

#[tokio::test]
async fn validator_with_a_key_snapshot_accepts_tokens_while_logto_is_down() {
    let harness = Harness::start().await;
    let earlier = harness.validator();
    assert_eq!(earlier.key_snapshot().fetched_at(), None);
    earlier.warm_up().await.unwrap();
    let stored = serde_json::to_string(&earlier.key_snapshot()).unwrap();
    let snapshot: KeySnapshot = serde_json::from_str(&stored).unwrap();
    let fetched_at = snapshot.fetched_at().unwrap();
    harness.logto.go_down();
    harness.clock.advance(MINUTE);
    let restarted = harness.builder().initial_keys(snapshot.clone()).build().unwrap();
    assert_eq!(keys(&restarted), (KeysState::Current, 1, Some(60), false));
    assert_eq!(restarted.key_snapshot().fetched_at(), Some(fetched_at));
    let token = harness.token().lifetime(48 * HOUR).build();
    validate_now(&restarted, &token).unwrap();
    // The first validation has started a refresh, which fails.
    eventually(|| keys(&restarted).0 == KeysState::Stale).await;
    validate_now(&restarted, &token).unwrap();
    // The age of the keys is counted from the time at which the earlier validator fetched them.
    harness.clock.advance(24 * HOUR - 2 * MINUTE);
    let _ = validate_now(&restarted, &token).unwrap();
    let again = harness.builder().initial_keys(snapshot.clone()).build().unwrap();
    harness.clock.advance(2 * MINUTE);
    for validator in [&restarted, &again] {
        assert_eq!(keys(validator).0, KeysState::Expired);
        assert_eq!(status(&validator.validate(&token).await), 503);
    }
    harness.logto.recover();
    harness.clock.advance(MINUTE);
    again.validate(&token).await.unwrap();
    assert_eq!(keys(&again).2, Some(0));
}

#[tokio::test]
async fn snapshot_neither_restores_a_removed_key_nor_overrides_a_setting() {
    let harness = Harness::start().await;
    let earlier = harness.validator();
    earlier.warm_up().await.unwrap();
    let snapshot = earlier.key_snapshot();
    let old = harness.token().build();
    // While the service is stopped, the key in the snapshot is deleted in Logto. After the restart,
    // the service uses this key until its first refresh.
    harness.logto.rotate();
    harness.logto.delete_previous();
    let restarted = harness.builder().initial_keys(snapshot.clone()).build().unwrap();
    validate_now(&restarted, &old).unwrap();
    eventually(|| harness.logto.jwks_requests() == 2 && keys(&restarted).2 == Some(0)).await;
    eventually(|| restarted.try_validate(&old).is_none_or(|outcome| outcome.is_err())).await;
    // A snapshot is ignored if the settings do not permit the algorithm of its keys.
    let trusted = harness.logto.trusted(SHOPPING_API).algorithms([Algorithm::RS256]);
    let rsa = Validator::builder().trust(trusted).initial_keys(snapshot).build().unwrap();
    assert_eq!(keys(&rsa).0, KeysState::Missing);
}

#[tokio::test]
async fn snapshot_with_a_time_in_the_future_gets_age_zero() {
    let harness = Harness::start().await;
    let earlier = harness.validator();
    earlier.warm_up().await.unwrap();
    let mut json = serde_json::to_value(earlier.key_snapshot()).unwrap();
    json["issuers"][0]["fetched_at"] = u64::MAX.into();
    let snapshot: KeySnapshot = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(snapshot.fetched_at(), None, "no SystemTime can represent this time");
    let trusted = harness.logto.trusted(SHOPPING_API);
    let clock = ManualClock::default();
    let validator = Validator::builder().trust(trusted).clock(clock.clone());
    let validator = validator.initial_keys(snapshot).build().unwrap();
    assert_eq!(keys(&validator).2, Some(0));
    clock.advance(25 * HOUR);
    assert_eq!(keys(&validator).0, KeysState::Expired);
    for broken in ["{}", "[]", "{\"issuers\":[{}]}"] {
        serde_json::from_str::<KeySnapshot>(broken).unwrap_err();
    }
}
