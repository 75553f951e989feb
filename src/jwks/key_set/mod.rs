//! A key set: JWK → verifying key, and the pure selection of one by `kid` and algorithm.

use std::{collections::HashMap, fmt, sync::Arc};

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
    escape::Excerpt,
};

/// The usable keys of a JWK Set (RFC 7517 §5), ready to verify with.
///
/// An entry that cannot be used is skipped, and does not spoil the others: unknown types, curves
/// and algorithms, encryption keys, private keys, RSA outside 2,048 to 8,192 bits or with a weak
/// exponent, points off the curve, and every key of a `kid` that stands twice for one algorithm.
///
/// ```
/// use tower_logto::{testing::KeySet, Algorithm};
///
/// let json = r#"{"keys": [{
///     "kty": "EC", "use": "sig", "alg": "ES384", "crv": "P-384",
///     "kid": "ZuydfINXJZloSx7ICtyIE5jVpEQ6T_ESHpkokY9DBuk",
///     "x": "r_eJ4pp21mDhxKJDr4_2Fxuyw266L4m7tBfpoZRVggIltrn8aqoMOiIQjHr-4ury",
///     "y": "zv-PgwWsXAfK2nOggQ6hopVYgPaynRGhBUgKYfBLEwaElyE9wBN8L7HUwtE8fVJJ"
/// }]}"#;
/// let keys = KeySet::from_json(json.as_bytes(), &Algorithm::LOGTO)?;
/// assert_eq!(keys.len(), 1);
/// # Ok::<(), tower_logto::error::KeysError>(())
/// ```
#[derive(Clone)]
pub struct KeySet(Arc<[Arc<VerifyingKey>]>);

/// One public key, bound to one algorithm.
pub(crate) struct VerifyingKey {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

impl KeySet {
    /// Reads a JWK Set and keeps the keys that may verify with one of these algorithms.
    ///
    /// # Errors
    /// When it is no JWK Set, or has more than 64 entries, or no usable key.
    pub fn from_json(json: &[u8], allowed: &[Algorithm]) -> Result<Self, KeysError> {
        #[derive(Deserialize)]
        struct Document<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }

        let is_object = json.trim_ascii_start().first() == Some(&b'{');
        let document = serde_json::from_slice::<Document<'_>>(json).ok().filter(|_| is_object);
        let Some(Document { keys: entries }) = document else {
            return Err(KeysError::new(
                "not a JWK Set (RFC 7517 §5): is it what Logto answers at /oidc/jwks?",
            ));
        };
        if entries.len() > MAX_KEYS {
            return Err(KeysError::new(format!("more than {MAX_KEYS} keys in the key set")));
        }
        let mut keys = Vec::with_capacity(entries.len());
        for (position, entry) in entries.into_iter().enumerate() {
            match verifying_keys(entry.get(), allowed) {
                Ok(usable) => keys.extend(usable),
                Err(reason) => tracing::warn!(position, reason, "a JWK is skipped"),
            }
        }
        drop_ambiguous(&mut keys);
        if keys.is_empty() {
            return Err(KeysError::new("no usable signature key in the key set"));
        }
        Ok(Self(keys.into_iter().map(Arc::new).collect()))
    }

    /// How many keys there are; an RSA key without `alg` counts once per allowed algorithm.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key; never, for a set that was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Verifies a signature over a message with the key of this `kid` and algorithm: the raw seam
    /// under the validator, which judges no header and no claim.
    ///
    /// # Errors
    /// Why no key fits, or [`InvalidToken::BadSignature`].
    pub fn verify(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidToken> {
        match self.select(kid, algorithm) {
            Selection::Key(key) if key.verifies(message, signature) => Ok(()),
            Selection::Key(_) => Err(InvalidToken::BadSignature),
            Selection::Unknown => Err(InvalidToken::UnknownKey(kid.map(Excerpt::new))),
            Selection::Refused(reason) => Err(reason),
        }
    }

    /// The one key that fits: by `kid` if the token names one, by algorithm alone if it does not.
    pub(crate) fn select(&self, kid: Option<&str>, algorithm: Algorithm) -> Selection<'_> {
        if let Some(kid) = kid {
            let mut named = self.0.iter().filter(|key| key.kid.as_deref() == Some(kid)).peekable();
            if named.peek().is_none() {
                return Selection::Unknown;
            }
            return match named.find(|key| key.algorithm == algorithm) {
                Some(key) => Selection::Key(key),
                None => Selection::Refused(InvalidToken::KeyAlgorithmMismatch(algorithm)),
            };
        }
        let mut fitting = self.0.iter().filter(|key| key.algorithm == algorithm);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Selection::Key(key),
            (None, _) => Selection::Unknown,
            (Some(_), Some(_)) => Selection::Refused(InvalidToken::AmbiguousKey),
        }
    }

    /// Whether this very key is in the set.
    pub(crate) fn holds(&self, key: &Arc<VerifyingKey>) -> bool {
        self.0.iter().any(|held| Arc::ptr_eq(held, key))
    }

    /// The same set, with the previous set's keys where nothing changed about them: so that
    /// identity tells whether a key is still there.
    pub(crate) fn reusing(self, previous: &Self) -> Self {
        let reuse = |key: &Arc<VerifyingKey>| {
            Arc::clone(previous.0.iter().find(|old| old.is_same(key)).unwrap_or(key))
        };
        Self(self.0.iter().map(reuse).collect())
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = |key: &Arc<VerifyingKey>| (key.kid.as_deref().map(Excerpt::new), key.algorithm);
        f.debug_list().entries(self.0.iter().map(key)).finish()
    }
}

/// What a key set has for a token.
#[derive(Debug)]
pub(crate) enum Selection<'a> {
    Key(&'a Arc<VerifyingKey>),
    /// Not here: it may have been published since.
    Unknown,
    /// It is here, but not for this token; no fetch would help.
    Refused(InvalidToken),
}

impl VerifyingKey {
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
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

/// The members of a JWK that decide whether it may verify (RFC 7517 §4); the key's own parameters
/// are read by `jsonwebtoken`'s types.
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

/// One verifying key for each algorithm that the entry and the allow-list agree on, or why it is
/// skipped.
fn verifying_keys(json: &str, allowed: &[Algorithm]) -> Result<Vec<VerifyingKey>, &'static str> {
    if !json.starts_with('{') {
        return Err("not an object");
    }
    let jwk = serde_json::from_str::<Jwk>(json).map_err(|_| "not a JWK")?;
    if jwk.is_private() {
        return Err("a private or symmetric key: a key set must publish public keys only");
    }
    if !jwk.may_verify() {
        return Err("not for verifying signatures (`use`, `key_ops`)");
    }
    let named = match jwk.alg.as_deref() {
        Some(alg) => Some(Algorithm::from_name(alg).ok_or("another algorithm")?),
        None => None,
    };
    let algorithms = allowed.iter().copied().filter(|a| named.is_none_or(|named| named == *a));
    let keys = match jwk.kty.as_str() {
        "EC" => ec_keys(json, algorithms)?,
        "RSA" => rsa_keys(json, algorithms)?,
        _ => return Err("another key type"),
    };
    if keys.is_empty() {
        return Err("no algorithm of the allow-list fits it");
    }
    let kid = jwk.kid;
    let bind =
        |(algorithm, key)| VerifyingKey { kid: kid.as_deref().map(Into::into), algorithm, key };
    Ok(keys.into_iter().map(bind).collect())
}

type Keys = Vec<(Algorithm, ParsedPublicKey)>;

fn ec_keys(json: &str, algorithms: impl Iterator<Item = Algorithm>) -> Result<Keys, &'static str> {
    let parameters = serde_json::from_str::<EllipticCurveKeyParameters>(json)
        .map_err(|_| "its EC parameters cannot be read")?;
    let (own, verification, length): (_, &'static EcdsaVerificationAlgorithm, _) =
        match parameters.curve {
            EllipticCurve::P256 => (Algorithm::ES256, &signature::ECDSA_P256_SHA256_FIXED, 32),
            EllipticCurve::P384 => (Algorithm::ES384, &signature::ECDSA_P384_SHA384_FIXED, 48),
            EllipticCurve::P521 => (Algorithm::ES512, &signature::ECDSA_P521_SHA512_FIXED, 66),
            _ => return Err("another curve"),
        };
    let (x, y) = (base64url(&parameters.x)?, base64url(&parameters.y)?);
    if x.len() != length || y.len() != length {
        return Err("its coordinates have the wrong length");
    }
    let point = [&[0x04][..], &x, &y].concat();
    algorithms
        .filter(|algorithm| *algorithm == own)
        .map(|algorithm| {
            let key = ParsedPublicKey::new(verification, &point)
                .map_err(|_| "its point is not on the curve")?;
            Ok((algorithm, key))
        })
        .collect()
}

fn rsa_keys(json: &str, algorithms: impl Iterator<Item = Algorithm>) -> Result<Keys, &'static str> {
    let parameters = serde_json::from_str::<RSAKeyParameters>(json)
        .map_err(|_| "its RSA parameters cannot be read")?;
    let (n, e) = (base64url(&parameters.n)?, base64url(&parameters.e)?);
    // aws-lc builds keys it refuses at the first verification: judge size and exponent here.
    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) || n.first() == Some(&0) {
        return Err("its modulus is not of 2,048 to 8,192 bits");
    }
    if n.last().is_none_or(|last| last % 2 == 0) {
        return Err("its modulus is even");
    }
    let exponent = e.iter().fold(0_u64, |value, byte| value.wrapping_shl(8) | u64::from(*byte));
    let is_short = e.len() <= 4 && e.first().is_some_and(|first| *first != 0);
    if !is_short || exponent < 3 || exponent % 2 == 0 {
        return Err("its exponent is even, below 3 or above 32 bits");
    }
    let components = RsaPublicKeyComponents { n, e };
    algorithms
        .filter_map(|algorithm| Some((algorithm, rsa_parameters(algorithm)?)))
        .map(|(algorithm, verification)| {
            let key = components
                .to_parsed_public_key(verification)
                .map_err(|_| "its modulus and exponent are no RSA key")?;
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

/// More than one key for the same `kid` and algorithm: none of them can be told to be the right one.
fn drop_ambiguous(keys: &mut Vec<VerifyingKey>) {
    let mut counts = HashMap::new();
    for key in keys.iter().filter(|key| key.kid.is_some()) {
        *counts.entry((key.kid.clone(), key.algorithm)).or_insert(0_usize) += 1;
    }
    keys.retain(|key| {
        let alone = counts.get(&(key.kid.clone(), key.algorithm)).is_none_or(|count| *count == 1);
        if !alone {
            tracing::warn!(algorithm = %key.algorithm, "a kid stands twice in the key set: its keys are skipped");
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
