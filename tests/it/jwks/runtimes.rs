//! Tests with runtimes that are blocked or shut down. A fetch runs on the runtime of the request
//! that started the fetch.

use std::sync::{Mutex, mpsc};

use tower_logto::Validator;

use crate::support::{
    HOUR, Harness, MINUTE, Outcome, RawServer, SECOND, SHOPPING_API, background_tasks_done,
    eventually, finishes, jwks_response, new_runtime, shut_down_runtime, spawn_validate,
    validate_now,
};

#[test]
fn runtime_that_shuts_down_during_a_fetch_does_not_block_the_next_fetch() {
    let first = new_runtime();
    let harness = first.block_on(Harness::start());
    let validator = harness.validator();
    let token = harness.token().build();
    harness.logto.hang();
    first.block_on(async {
        spawn_validate(&validator, &token);
        harness.logto.jwks_requested(1).await;
    });
    drop(first);
    harness.logto.recover();
    harness.clock.advance(SECOND);
    new_runtime().block_on(validator.validate(&token)).unwrap();
}

/// A runtime is blocked if its worker is stuck in a handler, or if the program runs the runtime
/// only from time to time. A blocked runtime neither completes nor drops its tasks.
#[test]
fn blocked_runtime_delays_no_other_runtime_and_restores_no_removed_key() {
    let (blocked, other) = (new_runtime(), new_runtime());
    let harness = other.block_on(Harness::start());
    let endpoint = RawServer::start();
    let trusted = harness.logto.trusted(SHOPPING_API);
    let validator = Validator::builder()
        .trust(trusted.jwks_uri(endpoint.jwks_uri()))
        .clock(harness.clock.clone())
        .build()
        .unwrap();
    endpoint.respond(jwks_response(harness.logto.jwks()));
    let old = harness.token().lifetime(48 * HOUR).build();
    other.block_on(validator.validate(&old)).unwrap();
    harness.logto.rotate();
    let (release, released) = mpsc::channel();
    let (released, both_keys) = (Mutex::new(released), jwks_response(harness.logto.jwks()));
    endpoint.handle(move |connection| {
        released.lock().unwrap().recv().unwrap();
        connection.send(&both_keys)
    });
    harness.clock.advance(11 * MINUTE);
    blocked.block_on(async {
        validate_now(&validator, &old).unwrap();
        eventually(|| endpoint.requests().len() == 2).await;
    });
    // The blocked runtime can read this response only when it runs again.
    release.send(()).unwrap();
    other.block_on(endpoint.responded(2));
    harness.logto.delete_previous();
    endpoint.respond(jwks_response(harness.logto.jwks()));
    harness.clock.advance(10 * SECOND);
    other.block_on(async {
        validate_now(&validator, &old).unwrap();
        eventually(|| validator.try_validate(&old).is_none_or(|outcome| outcome.is_err())).await;
        validator.validate(&harness.token().build()).await.unwrap();
    });
    assert_eq!(endpoint.requests().len(), 3);
    // When a newer fetch has started, the result of the older fetch is ignored.
    blocked.block_on(background_tasks_done());
    let outcome = other.block_on(validator.validate(&old));
    assert_eq!(Outcome::of(&outcome), Outcome::UnknownKey);
}

/// On a runtime that was shut down, `spawn` drops the new task immediately. During the call of
/// `spawn`, the caller holds the lock of the refresh state. Dropping the task must therefore not
/// acquire this lock.
#[test]
fn refresh_on_a_shut_down_runtime_does_not_deadlock() {
    let outer = tokio::runtime::Runtime::new().unwrap();
    let harness = outer.block_on(Harness::start());
    let validator = harness.validator();
    let token = harness.token().lifetime(2 * HOUR).build();
    outer.block_on(validator.validate(&token)).unwrap();
    harness.clock.advance(11 * MINUTE);
    let handle = shut_down_runtime();
    assert!(finishes(move || {
        let _entered = handle.enter();
        validator.try_validate(&token).unwrap().unwrap();
    }));
}
