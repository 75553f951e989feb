//! The input selects a key and contains a token. This crate (with aws-lc) and `jsonwebtoken` (with
//! RustCrypto) must agree on whether the token's signature is valid.

#![no_main]

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    DecodingKey,
    crypto::rust_crypto::DEFAULT_PROVIDER,
    jwk::{AlgorithmParameters, Jwk},
};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tower_logto::{Algorithm, testing::KeySet};
use tower_logto_fuzz::JWKS;

const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::ES256, Algorithm::ES384, Algorithm::RS256, Algorithm::PS256];

/// The same public key as a `KeySet` of this crate and as a `DecodingKey` of `jsonwebtoken`.
struct BothKeys {
    ours: KeySet,
    theirs: DecodingKey,
}

/// The captured keys of Logto (ES384 and RSA), and the keys of RFC 7515, appendices A.2 and A.3.
static KEYS: LazyLock<Vec<BothKeys>> = LazyLock::new(|| {
    let logto: Value = serde_json::from_str(JWKS).unwrap();
    let rfc: Value =
        serde_json::from_str(include_str!("../../tests/fixtures/vectors/rfc7515/appendix_a.json"))
            .unwrap();
    let rfc = [&rfc["vectors"][1]["jwk"], &rfc["vectors"][2]["jwk"]];
    logto["keys"].as_array().unwrap().iter().chain(rfc).map(BothKeys::new).collect()
});

impl BothKeys {
    fn new(jwk: &Value) -> Self {
        let mut jwk = jwk.clone();
        jwk.as_object_mut().unwrap().remove("kid");
        let set = json!({ "keys": [jwk] }).to_string();
        let theirs = match serde_json::from_value::<Jwk>(jwk).unwrap().algorithm {
            AlgorithmParameters::EllipticCurve(ec) => DecodingKey::from_ec_components(&ec.x, &ec.y),
            AlgorithmParameters::RSA(rsa) => DecodingKey::from_rsa_components(&rsa.n, &rsa.e),
            other => panic!("{other:?}"),
        };
        let ours = KeySet::from_json(set.as_bytes(), &ALGORITHMS).unwrap();
        Self { ours, theirs: theirs.unwrap() }
    }
}

fuzz_target!(|input: &[u8]| {
    // The first byte selects a key and an algorithm. The rest is the token.
    let Some((choice, token)) = input.split_first() else { return };
    let Some(dot) = token.iter().rposition(|byte| *byte == b'.') else { return };
    let (signed, signature) = (&token[..dot], &token[dot + 1..]);
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return };
    let algorithm = ALGORITHMS[usize::from(choice % 4)];
    let keys = &KEYS[usize::from(choice / 4) % KEYS.len()];
    let ours = keys.ours.verify(None, algorithm, signed, &signature).is_ok();
    let name = algorithm.name().parse::<jsonwebtoken::Algorithm>().unwrap();
    let theirs = (DEFAULT_PROVIDER.verifier_factory)(&name, &keys.theirs)
        .is_ok_and(|verifier| verifier.verify(signed, &signature).is_ok());
    assert_eq!(ours, theirs, "{algorithm}");
});
