//! The cache of verified tokens under several threads: it changes the cost, never the verdict.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tower_logto::{AccessToken, AuthError, error::InvalidToken};

use crate::support::{Stage, invalid};

/// What a token is owed for as long as the test's clock stands where it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Owed {
    Good,
    Expired,
    BadSignature,
    ForeignAudience,
}

fn found(outcome: &Result<AccessToken, AuthError>) -> Owed {
    match outcome {
        Ok(_) => Owed::Good,
        Err(error) => match invalid(error.kind()) {
            InvalidToken::Expired { .. } => Owed::Expired,
            InvalidToken::BadSignature => Owed::BadSignature,
            InvalidToken::WrongAudience { .. } => Owed::ForeignAudience,
            other => panic!("{other:?}"),
        },
    }
}

/// Two, four and eight threads, and room for so few tokens that each look evicts another.
#[tokio::test]
async fn threads_and_an_eviction_storm_change_no_verdict() {
    for (threads, room) in [(2, 1000), (4, 1000), (4, 4), (8, 1)] {
        let stage = Stage::set().await;
        let validator = stage.builder().token_cache_capacity(room).build().unwrap();
        validator.warm_up().await.unwrap();
        let token = || stage.logto.token().lifetime(Duration::from_secs(60));
        let tokens: Vec<(String, Owed)> = (0..64)
            .map(|n| match n % 4 {
                0 => (token().expired().build(), Owed::Expired),
                1 => (token().bad_signature().build(), Owed::BadSignature),
                2 => (token().audience("https://other.api").build(), Owed::ForeignAudience),
                _ => (token().subject(format!("user-{n}")).build(), Owed::Good),
            })
            .collect();
        let seen = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (validator, tokens, seen) = (&validator, &tokens, &seen);
                scope.spawn(move || {
                    for n in 0..256 {
                        let (token, owed) = &tokens[(n * (2 * thread + 1)) % tokens.len()];
                        let outcome = validator.try_validate(token).unwrap();
                        assert_eq!(found(&outcome), *owed);
                        if let Ok(token) = outcome {
                            assert!(token.subject().starts_with("user-"));
                        }
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(seen.into_inner(), threads * 256);
        // The same tokens, once their time is over.
        stage.clock.advance(Duration::from_secs(91));
        for (token, owed) in tokens.iter().filter(|(_, owed)| *owed == Owed::Good) {
            let outcome = validator.try_validate(token).unwrap();
            assert_eq!(found(&outcome), Owed::Expired, "{owed:?}");
        }
    }
}

/// Threads look at tokens while their key is rotated out: after the refresh has landed, none of
/// them may be let in any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_that_goes_away_takes_its_tokens_along_under_load() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    let old: Vec<_> = (0..16).map(|_| stage.logto.token().build()).collect();
    for token in &old {
        validator.validate(token).await.unwrap();
    }
    stage.logto.rotate();
    stage.logto.delete_previous();
    let new = stage.logto.token().build();
    let load = (0..4).map(|_| {
        let (validator, old) = (validator.clone(), old.clone());
        tokio::spawn(async move {
            let mut refused = 0;
            while refused < 100 {
                for token in &old {
                    // Refused once is refused for ever: the key does not come back.
                    match validator.validate(token).await {
                        Ok(_) => assert_eq!(refused, 0),
                        Err(_) => refused += 1,
                    }
                }
                tokio::task::yield_now().await;
            }
        })
    });
    let load: Vec<_> = load.collect();
    // An unknown kid fetches the new key set.
    validator.validate(&new).await.unwrap();
    for task in load {
        tokio::time::timeout(Duration::from_secs(20), task).await.unwrap().unwrap();
    }
}
