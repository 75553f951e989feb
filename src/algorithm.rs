//! Signature algorithms of access tokens (RFC 7518 §3.1). The list omits HMAC, `none` and EdDSA.

use std::fmt;

/// A signature algorithm for access tokens (RFC 7518 §3.1).
///
/// The enum contains the algorithms that Logto can sign with. It also contains the RSA variants
/// with longer hashes, because other issuers can use these variants. The enum omits HMAC, `none`
/// and EdDSA, so no setting can enable these algorithms.
///
/// ```
/// use tower_logto::Algorithm;
///
/// assert_eq!(Algorithm::ES384.name(), "ES384");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384. New Logto tenants use this algorithm by default.
    ES384,
    /// ECDSA on P-521 with SHA-512.
    ES512,
    /// RSASSA-PKCS1-v1_5 with SHA-256. Logto uses this algorithm after a rotation to an RSA key.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384. The default list omits this algorithm.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512. The default list omits this algorithm.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384. The default list omits this algorithm.
    PS384,
    /// RSASSA-PSS with SHA-512. The default list omits this algorithm.
    PS512,
}

impl Algorithm {
    /// The algorithms that Logto can sign with: ES256, ES384, ES512, RS256, PS256. This list is the
    /// default of [`TrustedIssuer::algorithms`](crate::TrustedIssuer::algorithms).
    pub const LOGTO: [Self; 5] = [Self::ES256, Self::ES384, Self::ES512, Self::RS256, Self::PS256];

    pub(crate) const ALL: [Self; 9] = [
        Self::ES256,
        Self::ES384,
        Self::ES512,
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
    ];

    /// Returns the `alg` value of a JOSE header (RFC 7515 §4.1.1).
    pub const fn name(self) -> &'static str {
        match self {
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::ES512 => "ES512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
        }
    }

    /// Returns the algorithm with exactly this `alg` value.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_matched_byte_for_byte() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
            assert_eq!(Algorithm::from_name(&algorithm.name().to_lowercase()), None);
        }
        for name in ["none", "None", "nOnE", "", "HS256", "EdDSA", "ES256K", "ES384 "] {
            assert_eq!(Algorithm::from_name(name), None, "{name}");
        }
    }
}
