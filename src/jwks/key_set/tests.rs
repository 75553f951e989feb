//! Tests of key sets. The tests check which JWKs a key set accepts, which JWKs it skips, and which
//! key it selects.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// The key of RFC 7515, appendix A.3.
fn p256() -> Value {
    json!({
        "kty": "EC", "crv": "P-256", "kid": "odd",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    })
}

/// A P-384 key, which is the default type of key in Logto.
fn p384() -> Value {
    json!({
        "kty": "EC", "use": "sig", "alg": "ES384", "crv": "P-384", "kid": "good",
        "x": "r_eJ4pp21mDhxKJDr4_2Fxuyw266L4m7tBfpoZRVggIltrn8aqoMOiIQjHr-4ury",
        "y": "zv-PgwWsXAfK2nOggQ6hopVYgPaynRGhBUgKYfBLEwaElyE9wBN8L7HUwtE8fVJJ",
    })
}

/// The key of RFC 7515, appendix A.4.
fn p521() -> Value {
    json!({
        "kty": "EC", "crv": "P-521", "kid": "odd",
        "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
        "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
    })
}

/// An RSA key with this number of bits. Like the RSA keys that Logto publishes, it has no `alg`.
fn rsa(bits: usize) -> Value {
    let mut n = vec![0xa5; bits.div_ceil(8)];
    n[0] = 0xff >> (n.len() * 8 - bits);
    json!({
        "kty": "RSA", "use": "sig", "kid": "odd", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode(n),
    })
}

fn with(mut key: Value, name: &str, value: impl Into<Value>) -> Value {
    key[name] = value.into();
    key
}

fn without(mut key: Value, name: &str) -> Value {
    key.as_object_mut().unwrap().remove(name);
    key
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::from_json(json!({ "keys": keys }).to_string().as_bytes(), &Algorithm::LOGTO).unwrap()
}

/// Verifies an empty message and returns the error. The error is `BadSignature` if a key was
/// selected.
fn selection_error(
    keys: &KeySet,
    kid: impl Into<Option<&'static str>>,
    algorithm: Algorithm,
) -> InvalidToken {
    keys.verify(kid.into(), algorithm, b"", b"").unwrap_err()
}

fn unknown(kid: impl Into<Option<&'static str>>) -> InvalidToken {
    InvalidToken::UnknownKey(kid.into().map(crate::escape::escaped))
}

#[test]
fn an_unusable_jwk_is_skipped_and_does_not_affect_the_others() {
    const PRIVATE: &str = "a private or symmetric key: a JWKS must contain public keys only";
    const USE: &str = "`use` or `key_ops` does not allow verifying signatures";
    const UNFIT: &str = "no allowed algorithm fits the key";
    const NO_EC: &str = "malformed EC parameters";
    const LENGTH: &str = "the coordinates have the wrong length";
    const CURVE: &str = "the point is not on the curve";
    const BASE64: &str = "a parameter is not base64url";
    const NO_RSA: &str = "malformed RSA parameters";
    const MODULUS: &str = "the modulus is not 2,048 to 8,192 bits long, or has a leading zero byte";
    const EXPONENT: &str =
        "the exponent is even, less than 3, longer than 32 bits, or has a leading zero byte";
    let x256 = p256()["x"].as_str().unwrap().to_owned();
    let zeros = |length| URL_SAFE_NO_PAD.encode(vec![0; length]);
    let ones = |length| URL_SAFE_NO_PAD.encode(vec![0xff; length]);
    let n = |bits| rsa(bits)["n"].clone();
    let zero_led = [vec![0], URL_SAFE_NO_PAD.decode(n(2048).as_str().unwrap()).unwrap()].concat();

    let entries = [
        (json!(null), "not a JWK"),
        (json!("EC"), "not a JWK"),
        (json!(7), "not a JWK"),
        (json!([p256()]), "not a JWK"),
        (json!(["EC", "P-256"]), "not a JWK"),
        (json!({}), "not a JWK"),
        (without(p256(), "kty"), "not a JWK"),
        (with(p256(), "kty", 7), "not a JWK"),
        (with(p256(), "kid", 7), "not a JWK"),
        (with(p256(), "alg", json!(["ES256"])), "not a JWK"),
        (with(p256(), "use", json!(["sig"])), "not a JWK"),
        (with(p256(), "key_ops", "verify"), "not a JWK"),
        (with(p256(), "kty", "OKP"), "unsupported `kty`"),
        (with(p256(), "kty", "ec"), "unsupported `kty`"),
        (json!({ "kty": "OKP", "crv": "Ed25519", "x": x256 }), "unsupported `kty`"),
        (with(p256(), "alg", "ES521"), "unsupported `alg`"),
        (with(p256(), "alg", "es256"), "unsupported `alg`"),
        (with(p256(), "alg", "none"), "unsupported `alg`"),
        (with(p256(), "alg", "ECDH-ES"), "unsupported `alg`"),
        (with(rsa(2048), "alg", "RSA-OAEP"), "unsupported `alg`"),
        (json!({ "kty": "oct", "k": "c2VjcmV0" }), PRIVATE),
        (with(p256(), "d", "c2VjcmV0"), PRIVATE),
        (with(rsa(2048), "d", "c2VjcmV0"), PRIVATE),
        (with(rsa(2048), "p", "c2VjcmV0"), PRIVATE),
        (with(rsa(2048), "qi", 7), PRIVATE),
        (with(rsa(2048), "oth", json!([])), PRIVATE),
        (with(p256(), "k", "c2VjcmV0"), PRIVATE),
        (with(p256(), "use", "enc"), USE),
        (with(p256(), "use", "SIG"), USE),
        (with(p256(), "key_ops", json!([])), USE),
        (with(p256(), "key_ops", json!(["sign"])), USE),
        (with(with(p256(), "use", "enc"), "key_ops", json!(["verify"])), USE),
        (with(p256(), "alg", "ES384"), UNFIT),
        (with(p256(), "alg", "RS256"), UNFIT),
        (with(rsa(2048), "alg", "ES256"), UNFIT),
        (with(rsa(2048), "alg", "RS512"), UNFIT),
        (without(p256(), "crv"), NO_EC),
        (without(p256(), "y"), NO_EC),
        (with(p256(), "x", 7), NO_EC),
        (with(p256(), "crv", "P-224"), NO_EC),
        (with(p256(), "crv", "secp256k1"), NO_EC),
        (with(p256(), "crv", "Ed25519"), "unsupported curve"),
        (with(p256(), "x", format!("{x256}=")), BASE64),
        (with(p256(), "x", x256.replace('J', "+")), BASE64),
        (with(p256(), "x", ""), LENGTH),
        (with(p256(), "x", zeros(31)), LENGTH),
        (with(p256(), "x", zeros(33)), LENGTH),
        (with(p256(), "crv", "P-384"), LENGTH),
        (with(p256(), "x", zeros(32)), CURVE),
        (with(with(p256(), "x", zeros(32)), "y", zeros(32)), CURVE),
        (with(with(p256(), "x", ones(32)), "y", ones(32)), CURVE),
        (with(p256(), "y", x256.clone()), CURVE),
        (with(p521(), "x", p521()["y"].clone()), CURVE),
        (without(rsa(2048), "e"), NO_RSA),
        (with(rsa(2048), "n", json!([1])), NO_RSA),
        (with(rsa(2048), "n", "+/"), BASE64),
        (with(rsa(2048), "n", ""), MODULUS),
        (rsa(512), MODULUS),
        (rsa(1024), MODULUS),
        (rsa(2047), MODULUS),
        (rsa(8193), MODULUS),
        (rsa(16_384), MODULUS),
        (rsa(65_536), MODULUS),
        (with(rsa(2048), "n", URL_SAFE_NO_PAD.encode(zero_led)), MODULUS),
        (with(rsa(2048), "n", URL_SAFE_NO_PAD.encode([0xfe; 256])), "the modulus is even"),
        (with(rsa(2048), "e", ""), EXPONENT),
        (with(rsa(2048), "e", "AA"), EXPONENT),
        (with(rsa(2048), "e", "AQ"), EXPONENT),
        (with(rsa(2048), "e", "Ag"), EXPONENT),
        (with(rsa(2048), "e", "BA"), EXPONENT),
        (with(rsa(2048), "e", "AQAA"), EXPONENT),
        (with(rsa(2048), "e", "AAEAAQ"), EXPONENT),
        (with(rsa(2048), "e", "AQAAAAE"), EXPONENT),
        (with(rsa(2048), "e", n(2048)), EXPONENT),
    ];
    for (entry, reason) in entries {
        let skipped = verifying_keys(&entry.to_string(), &Algorithm::LOGTO).map(|keys| keys.len());
        assert_eq!(skipped, Err(reason), "{entry}");
        for keys in [[entry.clone(), p384()], [p384(), entry.clone()]] {
            let keys = set(&keys);
            assert_eq!(keys.len(), 1, "{entry}");
            assert_eq!(
                selection_error(&keys, "good", Algorithm::ES384),
                InvalidToken::BadSignature,
                "{entry}"
            );
        }
    }
}

#[test]
fn a_jwk_with_a_duplicate_member_is_skipped() {
    for (member, value) in p384().as_object().unwrap() {
        let entry = p384().to_string().replacen('{', &format!("{{\"{member}\":{value},"), 1);
        let keys = verifying_keys(&entry, &Algorithm::LOGTO);
        assert!(keys.is_err(), "duplicate {member}");
    }
}

#[test]
fn usable_jwks_are_accepted_whatever_other_members_they_have() {
    use Algorithm::{ES256, ES384, ES512, PS256, RS256};
    for (entry, algorithms) in [
        (p256(), &[ES256][..]),
        (p384(), &[ES384]),
        (p521(), &[ES512]),
        (with(p256(), "key_ops", json!(["sign", "verify"])), &[ES256]),
        (with(p256(), "x5c", json!(["MII", 7])), &[ES256]),
        (with(p256(), "iat", json!({ "any": [null] })), &[ES256]),
        (rsa(2048), &[RS256, PS256]),
        (rsa(2049), &[RS256, PS256]),
        (rsa(4096), &[RS256, PS256]),
        (rsa(8192), &[RS256, PS256]),
        (with(rsa(2048), "alg", "PS256"), &[PS256]),
        (with(rsa(2048), "e", "Aw"), &[RS256, PS256]),
        (with(rsa(2048), "e", "_____w"), &[RS256, PS256]),
    ] {
        let keys = set(std::slice::from_ref(&entry));
        for algorithm in Algorithm::ALL {
            let expected = if algorithms.contains(&algorithm) {
                InvalidToken::BadSignature
            } else {
                InvalidToken::KeyAlgorithmMismatch(algorithm)
            };
            let kid = if entry["kid"] == "good" { "good" } else { "odd" };
            assert_eq!(selection_error(&keys, kid, algorithm), expected, "{entry}");
        }
        assert_eq!(keys.len(), algorithms.len(), "{entry}");
    }
}

#[test]
fn an_rsa_key_without_alg_verifies_with_every_allowed_rsa_algorithm() {
    let json = json!({ "keys": [rsa(2048)] }).to_string();
    for (allowed, expected) in [
        (&[Algorithm::RS512, Algorithm::ES384][..], Some(1)),
        (&Algorithm::ALL, Some(6)),
        (&[Algorithm::ES384], None),
        (&[], None),
    ] {
        let keys = KeySet::from_json(json.as_bytes(), allowed);
        let counts = keys.ok().map(|keys| (keys.len(), keys.jwk_count()));
        assert_eq!(counts, expected.map(|verifying_keys| (verifying_keys, 1)), "{allowed:?}");
    }
}

#[test]
fn keys_that_share_a_kid_and_an_algorithm_are_dropped() {
    let other = with(with(p256(), "x", p256()["x"].clone()), "use", "sig");
    let symmetric = json!({ "kty": "oct", "kid": "odd", "alg": "HS256", "k": "c2VjcmV0" });
    let pinned = with(rsa(2048), "alg", "RS256");
    for (name, keys, algorithm, expected) in [
        ("a duplicate key", &[p256(), other][..], Algorithm::ES256, unknown("odd")),
        ("the same key three times", &[p256(), p256(), p256()], Algorithm::ES256, unknown("odd")),
        ("two curves", &[p256(), p521()], Algorithm::ES256, InvalidToken::BadSignature),
        ("two types", &[p256(), rsa(2048)], Algorithm::RS256, InvalidToken::BadSignature),
        ("a symmetric key", &[symmetric, p256()], Algorithm::ES256, InvalidToken::BadSignature),
        (
            "an encryption key",
            &[p256(), with(p256(), "use", "enc")],
            Algorithm::ES256,
            InvalidToken::BadSignature,
        ),
        (
            "with and without alg",
            &[rsa(2048), pinned.clone()],
            Algorithm::RS256,
            InvalidToken::KeyAlgorithmMismatch(Algorithm::RS256),
        ),
        ("the other algorithm", &[rsa(2048), pinned], Algorithm::PS256, InvalidToken::BadSignature),
    ] {
        let keys = set(&[keys, &[p384()]].concat());
        assert_eq!(selection_error(&keys, "odd", algorithm), expected, "{name}");
        assert_eq!(
            selection_error(&keys, "good", Algorithm::ES384),
            InvalidToken::BadSignature,
            "{name}"
        );
    }
}

#[test]
fn jwks_that_are_dropped_as_duplicates_are_not_counted() {
    assert_eq!(set(&[p256(), p256(), p384()]).jwk_count(), 1);
    assert_eq!(set(&[p256(), p384(), rsa(2048)]).jwk_count(), 3);
}

#[test]
fn each_kid_is_listed_once_even_if_other_keys_are_in_between() {
    assert_eq!(set(&[p256(), p384(), p521()]).quoted_kids(), ["\"odd\"", "\"good\""]);
}

#[test]
fn a_key_is_selected_by_kid_or_as_the_only_key_for_the_algorithm() {
    use Algorithm::{ES256, ES384, ES512, RS256};
    let nameless = |key| without(key, "kid");
    let one = set(&[p384()]);
    let two = set(&[p384(), with(p384(), "kid", "other"), p256()]);
    let unnamed = set(&[nameless(p256()), p384()]);
    let unnamed_twice = set(&[nameless(p256()), nameless(p256()), p384()]);
    let escaped = with(p256(), "kid", "a\"\u{e9}\\");
    let empty = set(&[with(p256(), "kid", "")]);
    for (keys, kid, algorithm, expected) in [
        (&one, Some("good"), ES384, InvalidToken::BadSignature),
        (&one, Some("Good"), ES384, unknown("Good")),
        (&one, Some(""), ES384, unknown("")),
        (&one, Some("good"), ES256, InvalidToken::KeyAlgorithmMismatch(ES256)),
        (&one, None, ES384, InvalidToken::BadSignature),
        (&one, None, ES256, unknown(None)),
        (&two, Some("other"), ES384, InvalidToken::BadSignature),
        (&two, None, ES384, InvalidToken::AmbiguousKey),
        (&two, None, ES256, InvalidToken::BadSignature),
        (&unnamed, None, ES256, InvalidToken::BadSignature),
        (&unnamed, Some("good"), ES256, InvalidToken::KeyAlgorithmMismatch(ES256)),
        (&unnamed, Some("odd"), ES256, unknown("odd")),
        (&unnamed, Some(""), ES256, unknown("")),
        (&unnamed, None, ES512, unknown(None)),
        (&unnamed_twice, None, ES256, InvalidToken::AmbiguousKey),
        (&unnamed_twice, None, RS256, unknown(None)),
        (&set(&[escaped]), Some("a\"\u{e9}\\"), ES256, InvalidToken::BadSignature),
        (&empty, Some(""), ES256, InvalidToken::BadSignature),
    ] {
        assert_eq!(
            selection_error(keys, kid, algorithm),
            expected,
            "{keys:?}, {kid:?}, {algorithm}"
        );
    }
}

#[test]
fn anything_but_a_jwk_set_with_a_usable_key_is_refused() {
    let good = p384().to_string();
    let many = |count: usize| format!("{{\"keys\":[{}{good}]}}", "null,".repeat(count - 1));
    let deep = format!("{{\"keys\":[{}{}]}}", "[".repeat(10_000), "]".repeat(10_000));
    for (json, is_good) in [
        (format!("{{\"keys\":[{good}]}}"), true),
        (format!(" {{ \"keys\" : [ null , {good} ] , \"x\": {{}} }}\n"), true),
        (many(64), true),
        (many(65), false),
        (format!("[{good}]"), false),
        (format!("[[{good}]]"), false),
        (good.clone(), false),
        (format!("{{\"keys\":{good}}}"), false),
        (format!("{{\"keys\":[{good}],\"keys\":[{good}]}}"), false),
        (format!("{{\"keys\":[{good}]}} {{}}"), false),
        (format!("{{\"keys\":[{good},]}}"), false),
        (format!("{{\"keys\":[{good}]"), false),
        (format!("\u{feff}{{\"keys\":[{good}]}}"), false),
        (format!("{{\"Keys\":[{good}]}}"), false),
        (deep, false),
        ("{\"keys\":[]}".into(), false),
        ("{\"keys\":null}".into(), false),
        ("{}".into(), false),
        ("null".into(), false),
        (String::new(), false),
    ] {
        let keys = KeySet::from_json(json.as_bytes(), &Algorithm::LOGTO);
        let escaped = Escaped::new(&json);
        assert_eq!(keys.map(|keys| keys.len()).ok(), is_good.then_some(1), "{escaped}");
    }
    assert!(KeySet::from_json(b"{\"keys\":[\xff]}", &Algorithm::LOGTO).is_err());
}

#[test]
fn a_refreshed_set_keeps_the_identity_of_unchanged_keys_only() {
    let old = set(&[p256(), p384(), rsa(2048)]);
    for (name, keys, kept) in [
        ("nothing changed", &[p256(), p384(), rsa(2048)][..], 4),
        ("another order, other members", &[with(rsa(2048), "x5t", "a"), p384(), p256()], 4),
        ("a key was removed", &[p256(), rsa(2048)], 3),
        ("another kid", &[with(p256(), "kid", "new"), p384()], 1),
        ("the kid was removed", &[without(p256(), "kid"), p384()], 1),
        ("another modulus", &[p384(), rsa(2056)], 1),
        ("another exponent", &[p384(), with(rsa(2048), "e", "Aw")], 1),
        ("restricted to one algorithm", &[with(rsa(2048), "alg", "PS256")], 1),
        ("only a new key", &[p521()], 0),
    ] {
        let fresh = set(keys);
        assert!(fresh.keys.iter().all(|key| !old.holds(key)), "{name}: the sets share an `Arc`");
        let refreshed = fresh.clone().reusing(&old);
        assert_eq!(refreshed.len(), fresh.len(), "{name}");
        let held = |key: &&Arc<VerifyingKey>| old.holds(key);
        assert_eq!(refreshed.keys.iter().filter(held).count(), kept, "{name}");
        for (one, other) in refreshed.keys.iter().zip(fresh.keys.iter()) {
            assert!(one.is_same(other), "{name}");
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(json in any::<Vec<u8>>()) {
        let _ = KeySet::from_json(&json, &Algorithm::ALL);
    }

    #[test]
    fn arbitrary_member_values_neither_panic_nor_affect_the_other_keys(
        rsa_key in any::<bool>(),
        name in "kty|crv|alg|use|kid|key_ops|x|y|n|e|d",
        value in "null|true|-?[1-9][0-9]{0,19}(e[0-9]{1,3})?|\"[A-Za-z0-9_=+-]{0,99}\"|\\[\"verify\"\\]",
    ) {
        let key = without(if rsa_key { rsa(2048) } else { p256() }, &name).to_string();
        let odd = key.replacen('{', &format!("{{\"{name}\":{value},"), 1);
        let json = format!("{{\"keys\":[{odd},{}]}}", with(p384(), "kid", "the good one"));
        let keys = KeySet::from_json(json.as_bytes(), &Algorithm::ALL).unwrap();
        prop_assert_eq!(
            selection_error(&keys, "the good one", Algorithm::ES384),
            InvalidToken::BadSignature
        );
    }
}
