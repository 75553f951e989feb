//! Any JWKS. A usable key stays usable, whatever the other entries of the JWKS contain. A public EC
//! entry yields at most one key. A public RSA entry yields at most one key per RSA algorithm. Any
//! other entry yields no key.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tower_logto::{Algorithm, error::InvalidToken, testing::KeySet};

const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::ES512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

const USABLE_KID: &str = "usable";

fuzz_target!(|bytes: &[u8]| {
    let keys = KeySet::from_json(bytes, &ALGORITHMS);
    let Ok(mut document) = serde_json::from_slice::<Value>(bytes) else { return };
    let entries = document.get("keys").and_then(Value::as_array);
    if let Ok(keys) = &keys {
        let entries = entries.expect("an object with an array");
        let most = entries.iter().map(max_keys).sum::<usize>();
        assert!((1..=most).contains(&keys.len()), "{} of {most}", keys.len());
        for entry in entries {
            let kid = entry.get("kid").and_then(Value::as_str);
            for algorithm in ALGORITHMS {
                let reason = keys.verify(kid, algorithm, b"message", b"signature").unwrap_err();
                assert!(
                    matches!(
                        reason,
                        InvalidToken::BadSignature
                            | InvalidToken::UnknownKey(_)
                            | InvalidToken::KeyAlgorithmMismatch(_)
                            | InvalidToken::AmbiguousKey
                    ),
                    "{reason:?}"
                );
            }
        }
    }
    if entries.is_none_or(|entries| entries.len() > 63 || entries.iter().any(has_usable_kid)) {
        return;
    }
    // `bytes` may contain duplicate members, but `document.to_string()` contains none.
    let without_usable = KeySet::from_json(document.to_string().as_bytes(), &ALGORITHMS);
    document["keys"].as_array_mut().unwrap().push(json!({
        "kty": "EC", "use": "sig", "alg": "ES384", "crv": "P-384", "kid": USABLE_KID,
        "x": "r_eJ4pp21mDhxKJDr4_2Fxuyw266L4m7tBfpoZRVggIltrn8aqoMOiIQjHr-4ury",
        "y": "zv-PgwWsXAfK2nOggQ6hopVYgPaynRGhBUgKYfBLEwaElyE9wBN8L7HUwtE8fVJJ",
    }));
    let with_usable = KeySet::from_json(document.to_string().as_bytes(), &ALGORITHMS).unwrap();
    let found = with_usable.verify(Some(USABLE_KID), Algorithm::ES384, b"", b"");
    assert_eq!(found, Err(InvalidToken::BadSignature));
    assert_eq!(with_usable.len(), without_usable.map_or(0, |keys| keys.len()) + 1);
});

/// Returns the largest number of keys that an entry can yield. An RSA key without `alg` yields six
/// keys, one for each RSA algorithm. An entry that is not a public signature key yields no key.
fn max_keys(entry: &Value) -> usize {
    let has = |name: &str| entry.get(name).is_some_and(|value| !value.is_null());
    let is_public = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().all(|name| !has(name));
    match entry.get("kty").and_then(Value::as_str) {
        Some("EC") if is_public && has("x") && has("y") => 1,
        Some("RSA") if is_public && has("n") && has("e") => 6,
        _ => 0,
    }
}

fn has_usable_kid(entry: &Value) -> bool {
    entry.get("kid").is_some_and(|kid| kid == USABLE_KID)
}
