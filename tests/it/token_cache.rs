//! The cache of validated tokens changes the cost of a validation, never its outcome.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use crate::support::{HOUR, Harness, MINUTE, NOW, Outcome, SECOND, status, validate_now};

/// In the last two cases, the cache has room for only four tokens or only one token. Almost every
/// insertion then evicts another token.
#[tokio::test]
async fn outcome_is_the_same_with_concurrent_validations_and_evictions() {
    for (threads, capacity) in [(2, 1000), (4, 1000), (4, 4), (8, 1)] {
        let harness = Harness::start().await;
        let validator = harness.builder().token_cache_capacity(capacity).build().unwrap();
        validator.warm_up().await.unwrap();
        let token = || harness.token().lifetime(MINUTE);
        let tokens: Vec<(String, Outcome)> = (0..64)
            .map(|n| match n % 4 {
                0 => (token().expired().build(), Outcome::Expired),
                1 => (token().bad_signature().build(), Outcome::BadSignature),
                2 => (token().audience("https://other.api").build(), Outcome::WrongAudience),
                _ => (token().subject(format!("user-{n}")).build(), Outcome::Accepted),
            })
            .collect();
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (validator, tokens, count) = (&validator, &tokens, &count);
                scope.spawn(move || {
                    for n in 0..256 {
                        let (token, expected) = &tokens[(n * (2 * thread + 1)) % tokens.len()];
                        let outcome = validator.try_validate(token).unwrap();
                        assert_eq!(Outcome::of(&outcome), *expected);
                        if let Ok(token) = outcome {
                            assert!(token.subject().starts_with("user-"));
                        }
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), threads * 256);
        // Validates the accepted tokens again after they have expired.
        harness.clock.advance(91 * SECOND);
        for (token, _) in tokens.iter().filter(|(_, expected)| *expected == Outcome::Accepted) {
            let outcome = validator.try_validate(token).unwrap();
            assert_eq!(Outcome::of(&outcome), Outcome::Expired);
        }
    }
}

#[tokio::test]
async fn cached_token_is_checked_against_the_current_time() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    let token = harness.token().claim("nbf", NOW).lifetime(HOUR).build();
    validator.validate(&token).await.unwrap();
    for (unix_time, expected) in [
        (NOW - 31, 401),
        (NOW - 30, 200),
        (NOW + 3600, 200),
        (NOW + 3629, 200),
        (NOW + 3630, 401),
        (NOW, 200),
        (0, 401),
    ] {
        harness.clock.set_unix_time(Duration::from_secs(unix_time));
        assert_eq!(status(&validate_now(&validator, &token)), expected, "at {unix_time}");
    }
}
