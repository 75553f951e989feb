//! The signature of a webhook: HMAC-SHA256 of the body, as lower-case hex.

use std::fmt;

use aws_lc_rs::hmac;
use http::HeaderMap;

/// The signing keys of a webhook. A signature is valid if it was made with any of these keys.
pub(super) struct SigningKeys(Vec<hmac::Key>);

/// The signature in the header of a request. It may be wrong.
pub(super) struct Signature([u8; 32]);

impl SigningKeys {
    pub(super) fn new(keys: &[String]) -> Self {
        let key = |key: &String| hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        Self(keys.iter().map(key).collect())
    }

    /// Returns whether the body was signed with one of the keys. Compares signatures in constant
    /// time.
    pub(super) fn verify(&self, signature: &Signature, body: &[u8]) -> bool {
        self.0.iter().any(|key| hmac::verify(key, body, &signature.0).is_ok())
    }
}

impl Signature {
    /// Reads the signature from the header. Returns `None` unless the header occurs exactly once
    /// and is valid.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(SIGNATURE).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let (digits, []) = value.as_bytes().as_chunks::<2>() else { return None };
        let bytes: Option<Vec<u8>> = digits.iter().map(|[high, low]| hex(*high, *low)).collect();
        bytes?.try_into().ok().map(Self)
    }
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    Some(digit(high)? << 4 | digit(low)?)
}

/// Shows the number of keys, but not the keys.
impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({})", self.0.len())
    }
}

const SIGNATURE: &str = "logto-signature-sha-256";
