//! The Wycheproof vectors, which include attacks on signatures, keys and their encodings.

use serde_json::{Value, json};
use tower_logto::Algorithm;

use super::{Deviation, Tally, VectorError, assert_no_access_token, key_set, read, verify_jws};
use crate::support::base64url;

#[test]
fn json_web_signatures() {
    check_tokens("wycheproof/json_web_signature_test.json");
}

#[test]
fn json_web_keys() {
    check_tokens("wycheproof/json_web_key_test.json");
}

#[test]
fn json_web_crypto() {
    check_tokens("wycheproof/json_web_crypto_test.json");
}

#[test]
fn ecdsa_on_p256() {
    check_signatures("wycheproof/ecdsa_secp256r1_sha256_p1363_test.json", Algorithm::ES256);
}

#[test]
fn ecdsa_on_p384() {
    check_signatures("wycheproof/ecdsa_secp384r1_sha384_p1363_test.json", Algorithm::ES384);
}

#[test]
fn ecdsa_on_p521() {
    check_signatures("wycheproof/ecdsa_secp521r1_sha512_p1363_test.json", Algorithm::ES512);
}

#[test]
fn rsa_pkcs1_of_2048_bits() {
    check_signatures("wycheproof/rsa_signature_2048_sha256_test.json", Algorithm::RS256);
}

#[test]
fn rsa_pkcs1_of_3072_bits() {
    check_signatures("wycheproof/rsa_signature_3072_sha256_test.json", Algorithm::RS256);
}

#[test]
fn rsa_pss_of_2048_bits() {
    check_signatures("wycheproof/rsa_pss_2048_sha256_mgf1_32_test.json", Algorithm::PS256);
}

/// Checks a file whose vectors are tokens. Each group of tokens shares one key or one JWKS.
fn check_tokens(file: &str) {
    let mut tally = Tally::default();
    for (group, vector) in vectors(&read(file)) {
        let key = [&group["public"], &group["private"]].into_iter().find(|key| !key.is_null());
        let text = match vector.get("jws").or(vector.get("jwe")).unwrap() {
            Value::String(compact) => compact.clone(),
            other => other.to_string(),
        };
        let found = verify_jws(key.unwrap(), &text);
        assert_no_access_token(&text, &found);
        let has_weak_key = vector["comment"] == "rejectsKeyWithRocaVulnerability";
        match found {
            Ok(()) if has_weak_key => tally.deviate(Deviation::WeaklyGeneratedKey),
            found => tally.count(&vector["tcId"], vector["result"] == "valid", &found),
        }
    }
    tally.assert_matches_table(file);
}

/// Checks a file whose vectors are messages and signatures in hexadecimal digits.
fn check_signatures(file: &str, algorithm: Algorithm) {
    let mut tally = Tally::default();
    for (group, vector) in vectors(&read(file)) {
        let key = ["publicKeyJwk", "keyJwk"].into_iter().find_map(|name| group.get(name).cloned());
        let key = key.unwrap_or_else(|| ec_jwk(&group["publicKey"]));
        let (message, signature) = (hex(&vector["msg"]), hex(&vector["sig"]));
        let found = key_set(&key).and_then(|keys| {
            keys.verify(key["kid"].as_str(), algorithm, &message, &signature)
                .map_err(VectorError::Token)
        });
        match vector["result"].as_str() {
            Some("acceptable") if found.is_err() => tally.deviate(Deviation::MissingNull),
            result => tally.count(&vector["tcId"], result == Some("valid"), &found),
        }
    }
    tally.assert_matches_table(file);
}

fn vectors(file: &Value) -> Vec<(&Value, &Value)> {
    let groups = file["testGroups"].as_array().unwrap();
    let in_group =
        |group| -> &Vec<Value> { Value::as_array(Value::get(group, "tests").unwrap()).unwrap() };
    let vectors: Vec<_> = groups
        .iter()
        .flat_map(|group| in_group(group).iter().map(move |vector| (group, vector)))
        .collect();
    assert_eq!(file["numberOfTests"], vectors.len());
    vectors
}

/// Builds a JWK from the uncompressed point of a key. Some groups of vectors have no JWK.
fn ec_jwk(key: &Value) -> Value {
    let point = hex(&key["uncompressed"]);
    let (x, y) = point[1..].split_at(point.len() / 2);
    let curve = match x.len() {
        32 => "P-256",
        48 => "P-384",
        _ => "P-521",
    };
    let [x, y] = [x, y].map(base64url);
    json!({ "kty": "EC", "crv": curve, "x": x, "y": y })
}

fn hex(text: &Value) -> Vec<u8> {
    let digits = text.as_str().unwrap().as_bytes();
    assert_eq!(digits.len() % 2, 0, "{text}");
    let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}
