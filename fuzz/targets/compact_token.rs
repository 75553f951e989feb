//! Any token. With and without the cache of validated tokens, the outcome is the same. The
//! validator accepts only tokens that Logto signed.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tower_logto::Validator;
use tower_logto_fuzz::{is_genuine, validator};

static CACHED: LazyLock<Validator> = LazyLock::new(|| validator(Validator::builder()));
static UNCACHED: LazyLock<Validator> =
    LazyLock::new(|| validator(Validator::builder().token_cache_capacity(0)));

fuzz_target!(|token: &str| {
    let outcome = |validator: &Validator| {
        validator.try_validate(token).expect("the keys are static").map_err(|e| e.to_string())
    };
    let first = outcome(&CACHED);
    let again = outcome(&CACHED);
    let uncached = outcome(&UNCACHED);
    match (first, again, uncached) {
        (Ok(first), Ok(again), Ok(uncached)) => {
            assert!(is_genuine(token), "forged");
            for other in [again, uncached] {
                assert_eq!(first.subject(), other.subject());
                assert_eq!(first.scopes().as_str(), other.scopes().as_str());
            }
        }
        (Err(first), Err(again), Err(uncached)) => {
            assert_eq!((&first, &first), (&again, &uncached));
            assert!(first.len() < 1024 && !first.contains(|c: char| c.is_control()), "{first}");
        }
        other => panic!("{other:?}"),
    }
});
