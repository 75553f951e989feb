//! Compares this crate with `jsonwebtoken` for valid and invalid signatures. This crate verifies
//! with aws-lc, and `jsonwebtoken` verifies with RustCrypto. aws-lc and RustCrypto share no code.

use jsonwebtoken::{
    DecodingKey,
    crypto::rust_crypto::DEFAULT_PROVIDER,
    jwk::{AlgorithmParameters, Jwk},
};
use serde_json::json;
use tower_logto::{
    Algorithm,
    testing::{KeySet, SigningKey},
};

/// The same public key as a `KeySet` of this crate and as a `DecodingKey` of `jsonwebtoken`.
struct BothKeys {
    kid: String,
    ours: KeySet,
    theirs: DecodingKey,
}

impl BothKeys {
    fn new(key: &SigningKey) -> Self {
        let set = json!({ "keys": [key.jwk()] }).to_string();
        let jwk = serde_json::from_value::<Jwk>(key.jwk()).unwrap();
        let theirs = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(ec) => DecodingKey::from_ec_components(&ec.x, &ec.y),
            AlgorithmParameters::RSA(rsa) => DecodingKey::from_rsa_components(&rsa.n, &rsa.e),
            other => panic!("{other:?}"),
        };
        Self {
            kid: key.kid().to_owned(),
            ours: KeySet::from_json(set.as_bytes(), &Algorithm::LOGTO).unwrap(),
            theirs: theirs.unwrap(),
        }
    }

    /// Returns whether the signature is valid. Panics if the libraries disagree.
    fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let ours = self.ours.verify(Some(&self.kid), algorithm, message, signature).is_ok();
        let name = algorithm.name().parse::<jsonwebtoken::Algorithm>().unwrap();
        let theirs = (DEFAULT_PROVIDER.verifier_factory)(&name, &self.theirs)
            .is_ok_and(|verifier| verifier.verify(message, &signature.to_vec()).is_ok());
        assert_eq!(ours, theirs, "{algorithm}, {:?}, {message:x?}, {signature:x?}", self.ours);
        ours
    }
}

#[test]
fn jsonwebtoken_agrees_about_es256() {
    assert_agreement(Algorithm::ES256, Algorithm::ES384);
}

#[test]
fn jsonwebtoken_agrees_about_es384() {
    assert_agreement(Algorithm::ES384, Algorithm::ES256);
}

#[test]
fn jsonwebtoken_agrees_about_rs256() {
    assert_agreement(Algorithm::RS256, Algorithm::PS256);
}

#[test]
fn jsonwebtoken_agrees_about_ps256() {
    assert_agreement(Algorithm::PS256, Algorithm::RS256);
}

fn assert_agreement(algorithm: Algorithm, another: Algorithm) {
    let key = SigningKey::generate(algorithm);
    let keys = BothKeys::new(&key);
    let other_key = SigningKey::generate(algorithm);
    let message = br#"eyJhbGciOiJFUzM4NCJ9.eyJpc3MiOiJodHRwczovL3Qvb2lkYyJ9"#;
    let (mut accepted, mut refused) = (0, 0);
    let mut check = |algorithm, message: &[u8], signature: &[u8], expected: bool| {
        assert_eq!(keys.verify(algorithm, message, signature), expected, "{message:x?}");
        *(if expected { &mut accepted } else { &mut refused }) += 1;
    };
    // Each message is signed several times, because all algorithms except RS256 give a different
    // signature each time.
    for length in [0, 1, 20, message.len()] {
        for _ in 0..3 {
            let message = &message[..length];
            let signature = key.sign(message);
            check(algorithm, message, &signature, true);
            check(another, message, &signature, false);
            check(algorithm, message, &other_key.sign(message), false);
            check(algorithm, &[message, b"x"].concat(), &signature, false);
        }
    }
    let signature = key.sign(message);
    let length = signature.len();
    for position in (0..length).step_by(length / 16) {
        let mut changed = signature.clone();
        changed[position] ^= 1 << (position % 8);
        check(algorithm, message, &changed, false);
    }
    for position in (0..message.len()).step_by(7) {
        let mut changed = message.to_vec();
        changed[position] ^= 1;
        check(algorithm, &changed, &signature, false);
    }
    let halves = signature.split_at(length / 2);
    for malformed in [
        vec![],
        vec![0],
        vec![0; length],
        vec![0xff; length],
        signature[1..].to_vec(),
        signature[..length - 1].to_vec(),
        halves.0.to_vec(),
        [halves.1, halves.0].concat(),
        [halves.0, &vec![0; length / 2]].concat(),
        [&vec![0; length / 2], halves.1].concat(),
        [&[0], &signature[..]].concat(),
        [&signature[..], &[0]].concat(),
        [&signature[..], &signature[..]].concat(),
        // The first bytes of an ASN.1 encoding, followed by the signature.
        [&[0x30, 0x44, 2, 0x20], &signature[..]].concat(),
    ] {
        check(algorithm, message, &malformed, false);
    }
    println!("{algorithm}: both accept {accepted} signatures, both refuse {refused}");
    assert_eq!(accepted, 12);
}
