//! Parses a JWK Set into verifying keys, and selects a verifying key by `kid` and algorithm.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use aws_lc_rs::signature::{
    self, EcdsaVerificationAlgorithm, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{EllipticCurve, EllipticCurveKeyParameters, RSAKeyParameters};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{
    algorithm::Algorithm,
    error::{InvalidToken, KeysError},
    escape::Escaped,
    json,
};

/// The usable keys of a JWK Set (RFC 7517 §5).
///
/// An unusable entry is skipped, and does not affect the other entries. These entries are unusable:
/// - keys with an unknown type, curve or algorithm;
/// - encryption keys and private keys;
/// - RSA keys with a weak exponent, or with fewer than 2,048 or more than 8,192 bits;
/// - EC keys whose point is not on the curve;
/// - keys that share their `kid` and their algorithm with another key.
#[derive(Clone)]
pub struct KeySet {
    keys: Arc<[Arc<VerifyingKey>]>,
    /// The number of JWKs from which `keys` was built. One JWK can yield several verifying keys,
    /// one for each algorithm.
    jwk_count: usize,
    warnings: Arc<[Warning]>,
}

/// The reason why entries of a JWK Set are not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Warning {
    /// The entry at this position is not used.
    Skipped { position: usize, reason: &'static str },
    /// Several keys of this algorithm share a `kid`.
    DuplicateKid(Algorithm),
}

/// One public key, bound to one algorithm.
pub(crate) struct VerifyingKey {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

impl VerifyingKey {
    pub(crate) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }
}

impl KeySet {
    /// Parses a JWK Set, and keeps the keys that may verify signatures of one of the allowed
    /// algorithms.
    ///
    /// # Errors
    /// If the JSON is not a JWK Set, has more than 64 entries, or has no usable key.
    pub fn from_json(json: &[u8], allowed: &[Algorithm]) -> Result<Self, KeysError> {
        #[derive(Deserialize)]
        struct JwkSet<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }

        let JwkSet { keys: entries } = json::object(json)
            .map_err(|_| KeysError::new("the JSON is not a JWK Set (RFC 7517 §5)"))?;
        if entries.len() > MAX_KEYS {
            return Err(KeysError::new(format!("the JWKS has more than {MAX_KEYS} keys")));
        }
        let mut keys = Vec::with_capacity(entries.len());
        let mut first_reason = "it is empty";
        let mut warnings = Vec::new();
        for (position, entry) in entries.into_iter().enumerate() {
            match verifying_keys(entry.get(), allowed) {
                Ok(usable) => keys.extend(usable.into_iter().map(|key| (position, key))),
                Err(reason) => {
                    warnings.push(Warning::Skipped { position, reason });
                    if position == 0 {
                        first_reason = reason;
                    }
                }
            }
        }
        drop_duplicates(&mut keys, &mut warnings);
        if keys.is_empty() {
            let message = format!("the JWKS has no usable signing key: {first_reason}");
            return Err(KeysError::new(message));
        }
        let jwk_count = keys.chunk_by(|(one, _), (other, _)| one == other).count();
        let keys = keys.into_iter().map(|(_, key)| Arc::new(key)).collect();
        Ok(Self { keys, jwk_count, warnings: warnings.into() })
    }

    /// Logs the entries that are not used. Logs nothing if the replaced key set had the same
    /// warnings.
    pub(crate) fn log_warnings(&self, replaced: Option<&Self>) {
        if replaced.is_some_and(|replaced| replaced.warnings == self.warnings) {
            return;
        }
        for warning in &*self.warnings {
            match warning {
                Warning::Skipped { position, reason } => {
                    tracing::warn!(position, reason, "JWK skipped");
                }
                Warning::DuplicateKid(algorithm) => {
                    tracing::warn!(%algorithm, "duplicate kid in the JWKS; ignoring these keys");
                }
            }
        }
    }

    /// Returns the number of verifying keys. An RSA key without `alg` counts once per allowed
    /// algorithm.
    #[cfg(any(test, feature = "testing"))]
    #[allow(clippy::len_without_is_empty, reason = "a key set is never empty")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns the number of JWKs from which the verifying keys were built.
    pub(crate) const fn jwk_count(&self) -> usize {
        self.jwk_count
    }

    /// Returns the id of each key, or `None` for a key without an id.
    pub(crate) fn kids(&self) -> impl Iterator<Item = Option<&str>> {
        self.keys.iter().map(|key| key.kid.as_deref())
    }

    /// Returns each key id once, escaped and in quotes.
    pub(crate) fn quoted_kids(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        let kids = self.kids().flatten().filter(|kid| seen.insert(*kid));
        kids.map(|kid| Escaped::new(kid).to_string()).collect()
    }

    /// Verifies a signature over a message with the key of this `kid` and algorithm. This method is
    /// for test vectors and fuzzing. It checks neither the header nor the claims of a token.
    ///
    /// # Errors
    /// If the `kid` and the algorithm do not select exactly one key, or if the signature does not
    /// match ([`InvalidToken::BadSignature`]).
    #[cfg(any(test, feature = "testing"))]
    pub fn verify(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidToken> {
        match self.select(kid, algorithm)? {
            Some(key) => key.verify(message, signature),
            None => Err(InvalidToken::unknown_key(kid)),
        }
    }

    /// Selects the key of a token. If the token has a `kid`, the key must have the same `kid`. If
    /// the token has no `kid`, the key must be the only key for the algorithm. If the set does not
    /// contain the key, the method returns `None` instead of an error, because a refreshed key set
    /// might contain the key.
    ///
    /// # Errors
    /// - If the key with this `kid` is for another algorithm.
    /// - If the token has no `kid`, and the set contains several keys for the algorithm.
    pub(crate) fn select(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Option<&Arc<VerifyingKey>>, InvalidToken> {
        if let Some(kid) = kid {
            let mut named =
                self.keys.iter().filter(|key| key.kid.as_deref() == Some(kid)).peekable();
            if named.peek().is_none() {
                return Ok(None);
            }
            return match named.find(|key| key.algorithm == algorithm) {
                Some(key) => Ok(Some(key)),
                None => Err(InvalidToken::KeyAlgorithmMismatch(algorithm)),
            };
        }
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
        match (fitting.next(), fitting.next()) {
            (key, None) => Ok(key),
            (_, Some(_)) => Err(InvalidToken::AmbiguousKey),
        }
    }

    /// Returns whether the set contains this key, compared by identity.
    pub(crate) fn holds(&self, key: &Arc<VerifyingKey>) -> bool {
        self.keys.iter().any(|held| Arc::ptr_eq(held, key))
    }

    /// Returns a set with the same keys as this set. If the previous set also contains a key, the
    /// returned set reuses the previous set's `Arc` for this key. A comparison by identity then
    /// shows whether a key is still published.
    pub(crate) fn reusing(self, previous: &Self) -> Self {
        let reuse = |key: &Arc<VerifyingKey>| {
            Arc::clone(previous.keys.iter().find(|old| old.is_same(key)).unwrap_or(key))
        };
        Self { keys: self.keys.iter().map(reuse).collect(), ..self }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = |key: &Arc<VerifyingKey>| (key.kid.as_deref().map(Escaped::new), key.algorithm);
        f.debug_list().entries(self.keys.iter().map(key)).finish()
    }
}

impl VerifyingKey {
    /// Verifies a signature over a message (RFC 7515 §5.2).
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), InvalidToken> {
        self.key.verify_sig(message, signature).map_err(|_| InvalidToken::BadSignature)
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.algorithm, &self.kid) == (other.algorithm, &other.kid)
            && self.key.as_ref() == other.key.as_ref()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// The members of a JWK that decide whether the key may verify signatures (RFC 7517 §4). The
/// parameters of the key are parsed with the types of `jsonwebtoken`.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    // Members of private and symmetric keys (RFC 7518 §6.2.2, §6.3.2, §6.4.1).
    d: Option<IgnoredAny>,
    p: Option<IgnoredAny>,
    q: Option<IgnoredAny>,
    dp: Option<IgnoredAny>,
    dq: Option<IgnoredAny>,
    qi: Option<IgnoredAny>,
    oth: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
}

impl Jwk {
    fn is_private(&self) -> bool {
        let Self { d, p, q, dp, dq, qi, oth, k, .. } = self;
        [d, p, q, dp, dq, qi, oth, k].into_iter().any(Option::is_some)
    }

    fn may_verify(&self) -> bool {
        self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"))
    }
}

/// Returns one verifying key for each algorithm that both the JWK and the allow-list permit, or the
/// reason to skip the JWK.
fn verifying_keys(json: &str, allowed: &[Algorithm]) -> Result<Vec<VerifyingKey>, &'static str> {
    let jwk = json::object::<Jwk>(json.as_bytes()).map_err(|_| "not a JWK")?;
    if jwk.is_private() {
        return Err("a private or symmetric key: a JWKS must contain public keys only");
    }
    if !jwk.may_verify() {
        return Err("`use` or `key_ops` does not allow verifying signatures");
    }
    let named = match jwk.alg.as_deref() {
        Some(alg) => Some(Algorithm::from_name(alg).ok_or("unsupported `alg`")?),
        None => None,
    };
    let algorithms = allowed.iter().copied().filter(|a| named.is_none_or(|named| named == *a));
    let keys = match jwk.kty.as_str() {
        "EC" => ec_keys(json, algorithms)?,
        "RSA" => rsa_keys(json, algorithms)?,
        _ => return Err("unsupported `kty`"),
    };
    if keys.is_empty() {
        return Err("no allowed algorithm fits the key");
    }
    let kid = jwk.kid;
    let bind =
        |(algorithm, key)| VerifyingKey { kid: kid.as_deref().map(Into::into), algorithm, key };
    Ok(keys.into_iter().map(bind).collect())
}

type Keys = Vec<(Algorithm, ParsedPublicKey)>;

fn ec_keys(json: &str, algorithms: impl Iterator<Item = Algorithm>) -> Result<Keys, &'static str> {
    let parameters = serde_json::from_str::<EllipticCurveKeyParameters>(json)
        .map_err(|_| "malformed EC parameters")?;
    let (own, verification, length): (_, &'static EcdsaVerificationAlgorithm, _) =
        match parameters.curve {
            EllipticCurve::P256 => (Algorithm::ES256, &signature::ECDSA_P256_SHA256_FIXED, 32),
            EllipticCurve::P384 => (Algorithm::ES384, &signature::ECDSA_P384_SHA384_FIXED, 48),
            EllipticCurve::P521 => (Algorithm::ES512, &signature::ECDSA_P521_SHA512_FIXED, 66),
            _ => return Err("unsupported curve"),
        };
    let (x, y) = (base64url(&parameters.x)?, base64url(&parameters.y)?);
    if x.len() != length || y.len() != length {
        return Err("the coordinates have the wrong length");
    }
    let point = [&[0x04][..], &x, &y].concat();
    algorithms
        .filter(|algorithm| *algorithm == own)
        .map(|algorithm| {
            let key = ParsedPublicKey::new(verification, &point)
                .map_err(|_| "the point is not on the curve")?;
            Ok((algorithm, key))
        })
        .collect()
}

fn rsa_keys(json: &str, algorithms: impl Iterator<Item = Algorithm>) -> Result<Keys, &'static str> {
    let parameters =
        serde_json::from_str::<RSAKeyParameters>(json).map_err(|_| "malformed RSA parameters")?;
    let (n, e) = (base64url(&parameters.n)?, base64url(&parameters.e)?);
    // When aws-lc parses a key, it accepts some invalid keys. It refuses such a key later, when it
    // verifies the first signature. These checks refuse such keys immediately.
    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) || n.first() == Some(&0) {
        return Err("the modulus is not 2,048 to 8,192 bits long, or has a leading zero byte");
    }
    if n.last().is_none_or(|last| last % 2 == 0) {
        return Err("the modulus is even");
    }
    let exponent = e.iter().fold(0_u64, |value, byte| value.wrapping_shl(8) | u64::from(*byte));
    let is_short = e.len() <= 4 && e.first().is_some_and(|first| *first != 0);
    if !is_short || exponent < 3 || exponent % 2 == 0 {
        return Err(
            "the exponent is even, less than 3, longer than 32 bits, or has a leading zero byte",
        );
    }
    let components = RsaPublicKeyComponents { n, e };
    algorithms
        .filter_map(|algorithm| Some((algorithm, rsa_parameters(algorithm)?)))
        .map(|(algorithm, verification)| {
            let key = components
                .to_parsed_public_key(verification)
                .map_err(|_| "the modulus and the exponent are not a valid RSA key")?;
            Ok((algorithm, key))
        })
        .collect()
}

const fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
        Algorithm::ES256 | Algorithm::ES384 | Algorithm::ES512 => return None,
    })
}

/// Drops all keys that share a `kid` and an algorithm, because it is unknown which key is right.
/// Each number in `keys` is the position of the JWK from which the key was built.
fn drop_duplicates(keys: &mut Vec<(usize, VerifyingKey)>, warnings: &mut Vec<Warning>) {
    let mut counts = HashMap::new();
    for (_, key) in keys.iter().filter(|(_, key)| key.kid.is_some()) {
        *counts.entry((key.kid.clone(), key.algorithm)).or_insert(0_usize) += 1;
    }
    keys.retain(|(_, key)| {
        let alone = counts.get(&(key.kid.clone(), key.algorithm)).is_none_or(|count| *count == 1);
        if !alone {
            warnings.push(Warning::DuplicateKid(key.algorithm));
        }
        alone
    });
}

fn base64url(text: &str) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "a parameter is not base64url")
}

const MAX_KEYS: usize = 64;

#[cfg(test)]
mod tests;
