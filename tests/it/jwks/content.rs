//! Tests with malicious JWKS content in well-formed HTTP responses.

use std::slice;

use serde_json::{Value, json};
use tower_logto::{Algorithm, testing::SigningKey};

use super::malicious::{MaliciousEndpoint, jwks_of, rsa, with};
use crate::support::{base64url, jwks_response, response};

#[tokio::test]
async fn body_that_is_not_a_jwks_is_harmless() {
    let endpoint = MaliciousEndpoint::start().await;
    let jwks = endpoint.logto.jwks();
    let key = endpoint.logto.signing_key().jwk();
    let deep = "[".repeat(100_000);
    let utf_16 = jwks.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let bodies = [
        ("empty", Vec::new()),
        ("null", "null".into()),
        ("an array", "[]".into()),
        ("an empty object", "{}".into()),
        ("keys is null", r#"{"keys":null}"#.into()),
        ("keys is an object", r#"{"keys":{}}"#.into()),
        ("keys is a string", r#"{"keys":"x"}"#.into()),
        ("no keys", r#"{"keys":[]}"#.into()),
        ("entries that are not keys", r#"{"keys":[null,"x",7,true,[],{}]}"#.into()),
        ("a single key", key.to_string().into()),
        ("an array of keys", json!([key]).to_string().into()),
        ("the JWKS in an array", format!("[{jwks}]").into()),
        ("the JWKS as a string", json!(jwks).to_string().into()),
        ("two JWKS documents", format!("{jwks}{jwks}").into()),
        ("duplicate keys member", format!("{{\"keys\":[],{}", &jwks[1..]).into()),
        ("a BOM", format!("\u{feff}{jwks}").into()),
        ("UTF-16", utf_16),
        ("truncated JWKS", jwks[..jwks.len() - 2].into()),
        ("a trailing NUL", format!("{jwks}\0").into()),
        ("invalid UTF-8", [jwks.as_bytes(), b"\xff"].concat()),
        ("100,000 nested arrays", deep.clone().into()),
        ("100,000 nested arrays as keys", format!("{{\"keys\":{deep}").into()),
        ("100,000 nested arrays in a key", format!("{{\"keys\":[{{\"kty\":{deep}").into()),
        ("HTML", "<!doctype html><title>Sign in</title>".into()),
        ("an error of Logto", r#"{"code":"oidc.not_found","message":"no such tenant"}"#.into()),
        (
            "a discovery document",
            r#"{"issuer":"https://x/oidc","jwks_uri":"https://x/oidc/jwks"}"#.into(),
        ),
        ("3,000 keys", jwks_of(&vec![key.clone(); 3_000]).into()),
        ("3,000 nulls", jwks_of(&vec![Value::Null; 3_000]).into()),
        ("65 keys", jwks_of(&vec![key; 65]).into()),
        ("just above the size limit", format!("{jwks}{}", " ".repeat(256 * 1024)).into()),
    ];
    endpoint
        .assert_responses_harmless(
            bodies.map(|(name, body): (_, Vec<u8>)| (name, jwks_response(body))),
        )
        .await;
}

#[tokio::test]
async fn jwks_without_a_usable_key_is_harmless() {
    let endpoint = MaliciousEndpoint::start().await;
    let key = endpoint.logto.signing_key().jwk();
    let kid = key["kid"].clone();
    let p256 = SigningKey::generate(Algorithm::ES256).jwk();
    let sets = [
        (
            "a symmetric key",
            vec![json!({ "kty": "oct", "kid": kid, "alg": "HS256", "k": "c2VjcmV0" })],
        ),
        (
            "a symmetric key for ES384",
            vec![json!({ "kty": "oct", "kid": kid, "alg": "ES384", "k": "AA" })],
        ),
        ("a private key", vec![with(&key, "d", "c2VjcmV0")]),
        ("use: enc", vec![with(&key, "use", "enc")]),
        ("key_ops: sign", vec![with(&key, "key_ops", json!(["sign"]))]),
        ("alg: none", vec![with(&key, "alg", "none")]),
        ("alg: HS256", vec![with(&key, "alg", "HS256")]),
        ("alg: EdDSA", vec![with(&key, "alg", "EdDSA")]),
        ("unknown key type", vec![with(&key, "kty", "PQC")]),
        (
            "OKP",
            vec![json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64url([1; 32]) })],
        ),
        ("unknown curve", vec![with(&key, "crv", "secp256k1")]),
        ("a curve of another size", vec![with(&key, "crv", "P-256")]),
        ("a point off the curve", vec![with(&key, "x", key["y"].clone())]),
        (
            "the point (0, 0)",
            vec![with(&with(&key, "x", base64url([0; 48])), "y", base64url([0; 48]))],
        ),
        ("a coordinate that is too long", vec![with(&key, "x", base64url([0; 49]))]),
        ("a coordinate of 100 KB", vec![with(&key, "x", base64url([1; 75_000]))]),
        ("duplicate key", vec![key.clone(), key.clone()]),
        (
            "another key with the same kid",
            vec![
                key.clone(),
                with(&SigningKey::generate(Algorithm::ES384).jwk(), "kid", kid.clone()),
            ],
        ),
        ("RSA of 512 bits", vec![rsa(512, "AQAB")]),
        ("RSA of 64 kbit", vec![rsa(65_536, "AQAB")]),
        ("RSA of a megabit", vec![rsa(1 << 20, "AQAB")]),
        ("RSA with e = 1", vec![rsa(2048, "AQ")]),
        ("RSA with an even e", vec![rsa(2048, "AQAA")]),
        ("RSA with an e of 2,048 bits", vec![rsa(2048, &base64url([0xff; 256]))]),
        ("RSA with an even n", vec![with(&rsa(2048, "AQAB"), "n", base64url([0xfe; 256]))]),
        ("null, a string and a number", vec![Value::Null, "key".into(), 7.into()]),
        ("an algorithm that the curve does not allow", vec![with(&p256, "alg", "ES384")]),
    ];
    endpoint
        .assert_responses_harmless(sets.map(|(name, keys)| (name, jwks_response(jwks_of(&keys)))))
        .await;
}

/// An unusable entry in a JWKS neither disables nor replaces the usable key in the same JWKS.
#[tokio::test]
async fn unusable_entry_does_not_affect_a_usable_key() {
    let endpoint = MaliciousEndpoint::start().await;
    let key = endpoint.logto.signing_key().jwk();
    let kid = key["kid"].clone();
    let attacker = SigningKey::generate(Algorithm::ES384);
    let entries = [
        (
            "a symmetric key, same kid",
            json!({ "kty": "oct", "kid": kid, "alg": "HS256", "k": "AA" }),
        ),
        (
            "an encryption key, same kid",
            with(&with(&attacker.jwk(), "kid", kid.clone()), "use", "enc"),
        ),
        ("a private key, same kid", with(&with(&attacker.jwk(), "kid", kid.clone()), "d", "AA")),
        ("an RSA key, same kid", with(&rsa(2048, "AQAB"), "kid", kid.clone())),
        ("a bad RSA key, same kid", with(&rsa(512, "AQAB"), "kid", kid.clone())),
        ("a point off the curve, same kid", with(&key, "x", key["y"].clone())),
        ("a kid with spaces", with(&attacker.jwk(), "kid", format!(" {} ", kid.as_str().unwrap()))),
        ("a kid of 100 KB", with(&attacker.jwk(), "kid", "k".repeat(100_000))),
        ("a kid that is a number", with(&attacker.jwk(), "kid", 7)),
        (
            "x5c and x5u",
            with(&with(&rsa(2048, "AQAB"), "x5c", json!(["AA"])), "x5u", "http://127.0.0.1:9/"),
        ),
        ("null", Value::Null),
        ("a string", "key".into()),
        ("an array", json!([key])),
        ("63 nulls", Value::Null),
    ];
    for (name, entry) in entries {
        println!("malicious JWKS: {name}");
        let copies = if name == "63 nulls" { 63 } else { 1 };
        let unusable = vec![entry; copies];
        for keys in [
            [slice::from_ref(&key), &unusable].concat(),
            [&unusable, slice::from_ref(&key)].concat(),
        ] {
            endpoint.server.respond(jwks_response(jwks_of(&keys)));
            let validator = endpoint.builder().build().unwrap();
            assert_eq!(endpoint.status(&validator, &endpoint.token().build()).await, 200, "{name}");
            let forged = endpoint.token().signed_by(&attacker).kid(kid.as_str().unwrap()).build();
            assert_eq!(endpoint.status(&validator, &forged).await, 401, "{name}: forged");
        }
    }
}

#[tokio::test]
async fn oversized_etag_is_not_sent_back() {
    let endpoint = MaliciousEndpoint::start().await;
    for (name, etag, is_kept) in [
        ("short", "\"abc\"".to_owned(), true),
        ("weak", "W/\"abc\"".to_owned(), true),
        ("unquoted", "abc".to_owned(), true),
        ("257 bytes", format!("\"{}\"", "e".repeat(255)), false),
        ("100 KB", format!("\"{}\"", "e".repeat(100_000)), false),
    ] {
        println!("malicious JWKS: ETag, {name}");
        let head = format!("200 OK\r\nETag: {etag}");
        endpoint.server.respond(response(&head, endpoint.logto.jwks()));
        let validator = endpoint.builder().build().unwrap();
        let known = endpoint.token().build();
        assert_eq!(endpoint.status(&validator, &known).await, 200, "{name}");
        let unknown = endpoint.token().kid("unknown").build();
        assert_eq!(endpoint.status(&validator, &unknown).await, 401, "{name}");
        let requests = endpoint.server.requests();
        let is_sent = requests.last().unwrap().head.to_ascii_lowercase().contains("if-none-match");
        assert_eq!(is_sent, is_kept, "{name}");
        assert_eq!(endpoint.status(&validator, &known).await, 200, "{name}");
    }
}
