//! Signing keys.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaEncoding, RsaKeyPair},
};
use serde_json::Value;

use crate::{Algorithm, testing::server::json::base64url};

/// A key pair that signs tokens with one algorithm.
///
/// All clones share the same key.
///
/// ```
/// use tower_logto::{testing::SigningKey, Algorithm};
///
/// let key = SigningKey::generate(Algorithm::ES256);
/// assert_eq!(key.jwk()["crv"], "P-256");
/// assert_eq!(key.jwk()["kid"], key.kid());
/// ```
#[derive(Clone)]
pub struct SigningKey(Arc<GeneratedKey>);

struct GeneratedKey {
    algorithm: Algorithm,
    private_key: PrivateKey,
    kid: String,
    /// The public key as a JWK in JSON, with the same members as Logto's JWKs. The JSON needs no
    /// escapes, because the values are base64url.
    jwk: String,
}

enum PrivateKey {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl SigningKey {
    /// Generates a key. An RSA key has 2,048 bits and takes much longer to generate than an EC key.
    pub fn generate(algorithm: Algorithm) -> Self {
        let (private_key, kid, jwk) = match ec_signing(algorithm) {
            Some((signing, curve)) => ec_pair(algorithm, signing, curve),
            None => rsa_pair(),
        };
        Self(Arc::new(GeneratedKey { algorithm, private_key, kid, jwk }))
    }

    /// Returns the algorithm that the key signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// Returns the SHA-256 thumbprint of the public key (RFC 7638). Logto uses this thumbprint as
    /// the `kid`.
    pub fn kid(&self) -> &str {
        &self.0.kid
    }

    /// Returns the public key with the members that Logto publishes.
    ///
    /// An EC key has `kty`, `use`, `kid`, `alg`, `crv`, `x` and `y`. An RSA key has `kty`, `use`,
    /// `kid`, `e` and `n`, but no `alg`.
    pub fn jwk(&self) -> Value {
        serde_json::from_str(&self.0.jwk).expect("a JWK is JSON")
    }

    /// Signs a message. An ECDSA signature has a fixed length (RFC 7518 §3.4).
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.0.private_key {
            PrivateKey::Ec(pair) => {
                pair.sign(&random, message).expect("the key signs").as_ref().into()
            }
            PrivateKey::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(rsa_encoding(self.0.algorithm), &random, message, &mut signature)
                    .expect("the key signs");
                signature
            }
        }
    }

    pub(super) fn jwk_json(&self) -> &str {
        &self.0.jwk
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.0.algorithm)
            .field("kid", &self.0.kid)
            .finish_non_exhaustive()
    }
}

fn ec_pair(
    algorithm: Algorithm,
    signing: &'static EcdsaSigningAlgorithm,
    crv: &str,
) -> (PrivateKey, String, String) {
    let pair = EcdsaKeyPair::generate(signing).expect("the key is generated");
    // An uncompressed point consists of the byte 04, x and y (SEC 1 §2.3.3).
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let (x, y) = (base64url(x), base64url(y));
    let kid = ec_thumbprint(crv, &x, &y);
    let jwk = format!(
        r#"{{"kty":"EC","use":"sig","kid":"{kid}","alg":"{algorithm}","crv":"{crv}","x":"{x}","y":"{y}"}}"#
    );
    (PrivateKey::Ec(pair), kid, jwk)
}

fn rsa_pair() -> (PrivateKey, String, String) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("the key is generated");
    // The public key is an RSAPublicKey (RFC 8017 §A.1.1) with 2,048 bits and the exponent 65537.
    // Only the modulus differs between such keys, so the position of the modulus is fixed.
    let n = base64url(&pair.public_key().as_ref()[9..9 + 256]);
    let kid = thumbprint(&format!(r#"{{"e":"AQAB","kty":"RSA","n":"{n}"}}"#));
    let jwk = format!(r#"{{"kty":"RSA","use":"sig","kid":"{kid}","e":"AQAB","n":"{n}"}}"#);
    (PrivateKey::Rsa(pair), kid, jwk)
}

fn ec_thumbprint(crv: &str, x: &str, y: &str) -> String {
    thumbprint(&format!(r#"{{"crv":"{crv}","kty":"EC","x":"{x}","y":"{y}"}}"#))
}

/// Hashes the required members, which must be in lexicographic order (RFC 7638 §3).
fn thumbprint(members: &str) -> String {
    base64url(digest::digest(&digest::SHA256, members.as_bytes()))
}

const fn ec_signing(
    algorithm: Algorithm,
) -> Option<(&'static EcdsaSigningAlgorithm, &'static str)> {
    match algorithm {
        Algorithm::ES256 => Some((&signature::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256")),
        Algorithm::ES384 => Some((&signature::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384")),
        Algorithm::ES512 => Some((&signature::ECDSA_P521_SHA512_FIXED_SIGNING, "P-521")),
        _ => None,
    }
}

fn rsa_encoding(algorithm: Algorithm) -> &'static dyn RsaEncoding {
    match algorithm {
        Algorithm::RS384 => &signature::RSA_PKCS1_SHA384,
        Algorithm::RS512 => &signature::RSA_PKCS1_SHA512,
        Algorithm::PS256 => &signature::RSA_PSS_SHA256,
        Algorithm::PS384 => &signature::RSA_PSS_SHA384,
        Algorithm::PS512 => &signature::RSA_PSS_SHA512,
        _ => &signature::RSA_PKCS1_SHA256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwks::key_set::KeySet;

    #[test]
    fn jwk_verifies_signature_for_every_algorithm() {
        for algorithm in Algorithm::ALL {
            let key = SigningKey::generate(algorithm);
            let set = format!("{{\"keys\":[{}]}}", key.jwk_json());
            let set = KeySet::from_json(set.as_bytes(), &Algorithm::ALL).unwrap();
            let signature = key.sign(b"message");
            let verify = |message: &[u8]| {
                set.verify(Some(key.kid()), algorithm, message, &signature).is_ok()
            };
            assert!(verify(b"message"), "{algorithm}");
            assert!(!verify(b"another"), "{algorithm}");
            assert_eq!(key.kid().len(), 43);
        }
    }

    #[test]
    fn jwk_has_logtos_members() {
        let ec = SigningKey::generate(Algorithm::ES384);
        assert!(ec.jwk_json().starts_with(r#"{"kty":"EC","use":"sig","kid":""#));
        assert_eq!(ec.jwk()["alg"], "ES384");
        let rsa = SigningKey::generate(Algorithm::PS256).jwk();
        assert_eq!(rsa.as_object().unwrap().len(), 5);
        assert_eq!(rsa["e"], "AQAB");
    }

    #[test]
    fn kid_is_the_rfc_7638_thumbprint() {
        // A key of a real Logto server.
        let x = "r_eJ4pp21mDhxKJDr4_2Fxuyw266L4m7tBfpoZRVggIltrn8aqoMOiIQjHr-4ury";
        let y = "zv-PgwWsXAfK2nOggQ6hopVYgPaynRGhBUgKYfBLEwaElyE9wBN8L7HUwtE8fVJJ";
        assert_eq!(ec_thumbprint("P-384", x, y), "ZuydfINXJZloSx7ICtyIE5jVpEQ6T_ESHpkokY9DBuk");
    }

    #[test]
    fn debug_omits_private_key() {
        let key = SigningKey::generate(Algorithm::ES256);
        let expected = format!("SigningKey {{ algorithm: ES256, kid: {:?}, .. }}", key.kid());
        assert_eq!(format!("{key:?}"), expected);
    }
}
