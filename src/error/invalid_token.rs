//! The reasons why a token is refused, with a detailed message for the log and a brief description
//! for the caller.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use crate::{algorithm::Algorithm, error::mismatch::Mismatch, escape::escaped};

/// The reason why an access token is not valid.
///
/// [`Display`](fmt::Display) tells the operator what was found, what was expected and how to fix
/// the problem. Text from the token is untrusted. In the fields and in the message, such text is
/// escaped, and cut after 80 characters.
///
/// ```
/// use tower_logto::{Issuer, Validator, error::{AuthErrorKind, InvalidToken}};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let validator = Validator::new(&issuer, "https://shopping.api")?;
/// let error = validator.try_validate("opaque").unwrap().unwrap_err();
/// assert!(matches!(error.kind(), AuthErrorKind::InvalidToken(InvalidToken::NotAJwt)));
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidToken {
    /// The token is larger than
    /// [`max_token_size`](crate::ValidatorBuilder::max_token_size).
    Oversized,
    /// The token does not have three segments. Most likely it is an opaque token.
    NotAJwt,
    /// This part of the token violates RFC 7515 or RFC 7519.
    Malformed(&'static str),
    /// The header or the payload has a duplicate member, or more than 64 members. Nested objects
    /// are not checked.
    DuplicateMember,
    /// This `alg` is not in the issuer's allow-list.
    AlgorithmNotAllowed(Box<str>),
    /// `typ` is missing (`None`), or has this value instead of `at+jwt` (RFC 9068 §4).
    WrongType(Option<Box<str>>),
    /// The token has a `crit` header (RFC 7515 §4.1.11), but this crate supports no extension.
    CriticalHeader,
    /// `iss` is not a trusted issuer.
    UntrustedIssuer(Mismatch),
    /// `aud` contains none of the audiences that the settings allow for the issuer.
    /// [`Mismatch::found`] returns the first audience in the token.
    WrongAudience(Mismatch),
    /// `aud` contains several kinds of audience, several organizations, or an organization that
    /// differs from `organization_id`.
    AmbiguousAudience,
    /// The token is for no organization, but
    /// [`organization_tokens_only`](crate::TrustedIssuer::organization_tokens_only) is set.
    NoOrganization,
    /// A required claim is missing.
    MissingClaim(&'static str),
    /// A claim has the wrong type, or its value is out of range.
    MalformedClaim(&'static str),
    /// The current time is equal to or later than `exp` plus the clock tolerance.
    Expired {
        /// The time since `exp`. The clock tolerance is not subtracted.
        ago: Duration,
    },
    /// `nbf` lies further in the future than the clock tolerance.
    NotYetValid {
        /// The time until `nbf`. The clock tolerance is not subtracted.
        wait: Duration,
    },
    /// The token has a `cnf` claim. Such a token is bound to a key, and is therefore not a bearer
    /// token.
    SenderConstrained,
    /// No usable key of the issuer has this `kid`. `None` means that the token has no `kid`, and
    /// that no key of the issuer supports the token's `alg`.
    UnknownKey(Option<Box<str>>),
    /// The token has no `kid`, and several keys of the issuer support the token's `alg`.
    AmbiguousKey,
    /// The token's `alg` names this algorithm, but the key with the token's `kid` does not support
    /// it.
    KeyAlgorithmMismatch(Algorithm),
    /// The signature does not match.
    BadSignature,
    /// A rule revokes the token. See the method `revocations` of
    /// [`ValidatorBuilder`](crate::ValidatorBuilder).
    Revoked,
    /// The lifetime of the token is longer than the `longest_token_life` of the revocation rules.
    /// Such a token could outlive the rule that revokes it.
    TooLongLife {
        /// The time from `iat` to `exp`.
        life: Duration,
        /// The longest accepted time from `iat` to `exp`.
        longest: Duration,
    },
}

impl InvalidToken {
    pub(crate) fn unknown_key(kid: Option<&str>) -> Self {
        Self::UnknownKey(kid.map(escaped))
    }

    pub(crate) fn untrusted_issuer(found: &str, trusted: &Arc<[Box<str>]>) -> Self {
        Self::UntrustedIssuer(Mismatch::new(found, trusted))
    }

    pub(crate) fn wrong_audience(found: &str, expected: &Arc<[Box<str>]>) -> Self {
        Self::WrongAudience(Mismatch::new(found, expected))
    }

    /// Returns the description for the caller. The description contains no values from the token or
    /// from the settings.
    pub(crate) const fn public_description(&self) -> &'static str {
        match self {
            Self::Oversized => "the access token is too large",
            Self::NotAJwt => "the access token is not a JWT",
            Self::Malformed(_) | Self::DuplicateMember => "the access token is malformed",
            Self::AlgorithmNotAllowed(_) | Self::KeyAlgorithmMismatch(_) => {
                "the signature algorithm is not accepted"
            }
            Self::WrongType(_) => "the token is not an access token",
            Self::CriticalHeader => "the access token asks for an unknown extension",
            Self::UntrustedIssuer(_) => "the access token is from an unknown issuer",
            Self::WrongAudience(_) | Self::AmbiguousAudience => {
                "the access token is not for this resource"
            }
            Self::MissingClaim(_) | Self::MalformedClaim(_) => {
                "a required claim is missing, or a claim is malformed"
            }
            Self::Expired { .. } => "the access token expired",
            Self::NotYetValid { .. } => "the access token is not valid yet",
            Self::NoOrganization => "the access token names no organization",
            Self::SenderConstrained => "the access token is bound to a key",
            Self::UnknownKey(_) | Self::AmbiguousKey => {
                "the access token is signed with an unknown key"
            }
            Self::BadSignature => "the signature is invalid",
            Self::Revoked => "the access token was revoked",
            Self::TooLongLife { .. } => "the lifetime of the access token is too long",
        }
    }
}

impl Error for InvalidToken {}

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oversized => f.write_str(
                "the token is larger than ValidatorBuilder::max_token_size (16 KiB by default)",
            ),
            Self::NotAJwt => f.write_str(
                "the token is not a JWT: Logto issues opaque access tokens unless the client asks \
                 for an API; ask Logto for a `resource`, the resource indicator of the API",
            ),
            Self::Malformed(part) => write!(f, "the token is malformed: {part}"),
            Self::DuplicateMember => f.write_str(
                "the token is malformed: the header or the payload has a duplicate member, or more \
                 than 64 members",
            ),
            Self::AlgorithmNotAllowed(found) => write!(
                f,
                "alg is \"{found}\", which is not in the issuer's allow-list: see \
                 TrustedIssuer::algorithms"
            ),
            Self::WrongType(None) => f.write_str(
                "typ is missing, expected \"at+jwt\": ID tokens of Logto 1.42 have no typ; send the \
                 access token",
            ),
            Self::WrongType(Some(found)) => write!(
                f,
                "typ is \"{found}\", expected \"at+jwt\": a token with typ JWT is an ID token; send \
                 the access token"
            ),
            Self::CriticalHeader => f.write_str(
                "the token has a crit header (RFC 7515 §4.1.11), but no extension is supported",
            ),
            Self::UntrustedIssuer(mismatch) => {
                write!(f, "iss is {mismatch}; see ValidatorBuilder::trust")?;
                if mismatch.differs_in_the_host_only() {
                    f.write_str(
                        "; only the host differs: another tenant issued the token, or Logto's \
                         setting ENDPOINT has another name for this server (localhost and \
                         127.0.0.1 are different issuers)",
                    )?;
                }
                Ok(())
            }
            Self::WrongAudience(mismatch) => write_wrong_audience(f, mismatch),
            Self::AmbiguousAudience => f.write_str(
                "aud and organization_id name several kinds of resources, or several organizations",
            ),
            Self::NoOrganization => f.write_str(
                "the token is for no organization: ask Logto for a token with `organization_id`; \
                 see TrustedIssuer::organization_tokens_only",
            ),
            Self::MissingClaim(claim) => write!(f, "the claim {claim} is missing"),
            Self::MalformedClaim(claim) => {
                write!(f, "the claim {claim} has the wrong type, or is out of range")
            }
            Self::Expired { ago } => write!(
                f,
                "the token expired: exp was {} s ago, which is not within the clock tolerance; ask \
                 Logto for a new token; if this one is new, compare this machine's clock with Logto's",
                ago.as_secs()
            ),
            Self::NotYetValid { wait } => write!(
                f,
                "the token is not valid yet: nbf is in {} s, which is more than the clock \
                 tolerance; compare this machine's clock with Logto's",
                wait.as_secs()
            ),
            Self::SenderConstrained => f.write_str(
                "the token has a cnf claim: it is bound to a key (DPoP or mTLS), which is not \
                 supported",
            ),
            Self::UnknownKey(Some(kid)) => write!(
                f,
                "the issuer's key set has no usable key with kid \"{kid}\": the key was rotated \
                 out, or another tenant issued the token"
            ),
            Self::UnknownKey(None) => {
                f.write_str("the token has no kid, and no issuer key supports the token's alg")
            }
            Self::AmbiguousKey => {
                f.write_str("the token has no kid, and several issuer keys support the token's alg")
            }
            Self::KeyAlgorithmMismatch(algorithm) => {
                write!(f, "alg is {algorithm}, which the key with the token's kid does not support")
            }
            Self::BadSignature => f.write_str(
                "the signature does not match the issuer's key: the token was changed, or it was \
                 signed with another key under this kid",
            ),
            Self::Revoked => f.write_str(
                "the token was revoked: the user was suspended, was deleted or left the \
                 organization, or a rule of Revocations names the token's user, client, \
                 organization or id",
            ),
            Self::TooLongLife { life, longest } => write!(
                f,
                "the token is valid for {} s, but rules that revoke tokens are kept for only {} s: \
                 shorten the life of the API's tokens in Logto's Console, or see \
                 RevocationsBuilder::longest_token_life",
                life.as_secs(),
                longest.as_secs()
            ),
        }
    }
}

fn write_wrong_audience(f: &mut fmt::Formatter<'_>, mismatch: &Mismatch) -> fmt::Result {
    if mismatch.expected().next().is_none() {
        return write!(
            f,
            "aud is \"{}\", expected \"urn:logto:organization:<id>\": to accept tokens for an \
             API, see TrustedIssuer::audience",
            mismatch.found()
        );
    }
    write!(f, "aud is {mismatch}")?;
    if mismatch.found().starts_with("urn:logto:organization:") {
        f.write_str("; it is an organization permission token: see TrustedIssuer::organizations")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_how_to_fix_the_problem() {
        let audience = |found, expected: &[&str]| {
            let expected: Arc<[Box<str>]> = expected.iter().map(|one| Box::from(*one)).collect();
            Mismatch::new(found, &expected)
        };
        let shop = |found| InvalidToken::WrongAudience(audience(found, &["https://shopping.api"]));
        for (reason, advice) in [
            (InvalidToken::NotAJwt, "ask Logto for a `resource`"),
            (shop("https://shopping.api/"), "mind the trailing slash"),
            (shop("urn:logto:organization:acme"), "TrustedIssuer::organizations"),
            (
                InvalidToken::UntrustedIssuer(audience(
                    "https://t.logto.app/oidc/",
                    &["https://t.logto.app/oidc"],
                )),
                "mind the trailing slash",
            ),
            (
                InvalidToken::WrongAudience(audience("https://shopping.api", &[])),
                "expected \"urn:logto:organization:<id>\"",
            ),
            (InvalidToken::WrongType(Some("JWT".into())), "ID token"),
            (InvalidToken::WrongType(None), "ID token"),
            (InvalidToken::Expired { ago: Duration::from_secs(3) }, "clock"),
            (InvalidToken::NotYetValid { wait: Duration::from_secs(3) }, "clock"),
        ] {
            assert!(reason.to_string().contains(advice), "{reason}");
        }
        let other = shop("https://x");
        assert!(!other.to_string().contains("slash"));
    }

    #[test]
    fn message_gives_advice_if_only_the_host_of_the_issuer_differs() {
        let untrusted = |found: &str| {
            let expected: Arc<[Box<str>]> = Arc::from(["http://localhost:3001/oidc".into()]);
            InvalidToken::UntrustedIssuer(Mismatch::new(found, &expected)).to_string()
        };
        for found in ["http://127.0.0.1:3001/oidc", "http://logto:3001/oidc"] {
            assert!(untrusted(found).contains("only the host differs"), "{found}");
        }
        for found in ["http://127.0.0.1:3002/oidc", "https://127.0.0.1:3001/oidc", "logto", ""] {
            assert!(!untrusted(found).contains("only the host differs"), "{found}");
        }
    }

    #[test]
    fn a_mismatch_gives_the_found_and_the_expected_values() {
        let expected: Arc<[Box<str>]> = Arc::from(["https://a".into(), "https://b".into()]);
        let mismatch = Mismatch::new("https://c\n", &expected);
        assert_eq!(mismatch.found(), "https://c\\n");
        assert_eq!(mismatch.expected().collect::<Vec<_>>(), ["https://a", "https://b"]);
        assert_eq!(mismatch.to_string(), r#""https://c\n", expected "https://a", "https://b""#);
    }
}
