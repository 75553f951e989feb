//! The reasons for which a request or a token is refused: rich for the operator, poor for the caller.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use crate::{algorithm::Algorithm, escape::Escaped};

/// Why a token is not one to trust here.
///
/// [`Display`](fmt::Display) tells the operator what was found and what to do about it; text of the
/// token stands in it only escaped and cut short.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidToken {
    /// Larger than the limit, 16 KiB by default.
    Oversized,
    /// Not three segments: an opaque token, most likely.
    NotAJwt,
    /// The named part is not what RFC 7515 and RFC 7519 ask for.
    Malformed(&'static str),
    /// The header or the payload has the same member twice, or more than 64 of them; objects inside
    /// them are not looked at.
    DuplicateMember,
    /// `alg` is not in the issuer's allow-list.
    AlgorithmNotAllowed(Escaped),
    /// `typ` is not `at+jwt` (RFC 9068 §4).
    WrongType(Option<Escaped>),
    /// A `crit` header (RFC 7515 §4.1.11): no extension is understood here.
    CriticalHeader,
    /// `iss` is none of the trusted issuers.
    UntrustedIssuer {
        /// What the token says.
        found: Escaped,
        /// The trusted issuers.
        trusted: Arc<[Box<str>]>,
    },
    /// `aud` holds none of the issuer's audiences.
    WrongAudience {
        /// What the token says; the first of several.
        found: Escaped,
        /// The audiences that are accepted.
        expected: Arc<[Box<str>]>,
    },
    /// `aud` names several kinds of audience, or an organization that the claim contradicts.
    AmbiguousAudience,
    /// A claim that has to be there is not.
    MissingClaim(&'static str),
    /// A claim has the wrong type or an absurd value.
    MalformedClaim(&'static str),
    /// `exp` has passed, the clock tolerance included.
    Expired {
        /// How long since `exp` itself.
        ago: Duration,
    },
    /// `nbf` has not come yet, the clock tolerance included.
    NotYetValid {
        /// How long until `nbf` itself.
        wait: Duration,
    },
    /// A `cnf` claim: the token is bound to a key, and not for use as a plain bearer token.
    SenderConstrained,
    /// No key of the issuer has this `kid`.
    UnknownKey(Option<Escaped>),
    /// More than one key fits a token that names none.
    AmbiguousKey,
    /// The key is there, but not for this algorithm.
    KeyAlgorithmMismatch(Algorithm),
    /// The signature does not verify.
    BadSignature,
    /// The claims do not have the shape that the handler's `Claims<T>` asks for; what serde missed,
    /// without any value.
    CustomClaims(Box<str>),
}

impl InvalidToken {
    pub(crate) fn unknown_key(kid: Option<&str>) -> Self {
        Self::UnknownKey(kid.map(Escaped::new))
    }

    pub(crate) fn untrusted_issuer(found: &str, trusted: &Arc<[Box<str>]>) -> Self {
        Self::UntrustedIssuer { found: Escaped::new(found), trusted: Arc::clone(trusted) }
    }

    /// For the caller: what kind of fault, nothing of the token and nothing of the settings.
    pub(crate) const fn for_caller(&self) -> &'static str {
        match self {
            Self::Oversized => "the access token is too large",
            Self::NotAJwt => "the access token is not a JWT",
            Self::Malformed(_) | Self::DuplicateMember => "the access token is malformed",
            Self::AlgorithmNotAllowed(_) | Self::KeyAlgorithmMismatch(_) => {
                "the signature algorithm is not accepted"
            }
            Self::WrongType(_) => "the token is not an access token",
            Self::CriticalHeader => "the access token asks for an unknown extension",
            Self::UntrustedIssuer { .. } => "the access token is from an unknown issuer",
            Self::WrongAudience { .. } | Self::AmbiguousAudience => {
                "the access token is not for this resource"
            }
            Self::MissingClaim(_) | Self::MalformedClaim(_) | Self::CustomClaims(_) => {
                "the access token lacks a required claim"
            }
            Self::Expired { .. } => "the access token expired",
            Self::NotYetValid { .. } => "the access token is not valid yet",
            Self::SenderConstrained => "the access token is bound to a key",
            Self::UnknownKey(_) | Self::AmbiguousKey => {
                "the access token is signed with an unknown key"
            }
            Self::BadSignature => "the signature is invalid",
        }
    }
}

impl Error for InvalidToken {}

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAJwt => f.write_str(
                "the token is not a JWT: Logto gives opaque access tokens when no API is asked \
                 for; ask Logto for a `resource`, the API's resource indicator",
            ),
            Self::Malformed(part) => write!(f, "malformed token: {part}"),
            Self::DuplicateMember => {
                f.write_str("a member stands twice, or there are more than 64")
            }
            Self::AlgorithmNotAllowed(found) => write!(
                f,
                "alg is {found}, not in the issuer's allow-list: see TrustedIssuer::algorithms"
            ),
            Self::WrongType(None) => f.write_str(
                "no typ: an ID token of Logto 1.42, perhaps; send the access token (typ at+jwt)",
            ),
            Self::WrongType(Some(found)) => write!(
                f,
                "typ is {found}, expected \"at+jwt\": typ JWT is an ID token; send the access token"
            ),
            Self::UntrustedIssuer { found, trusted } => {
                write!(f, "iss is {found}, trusted: {}", List(trusted))?;
                hint_at_slash(f, found, trusted)
            }
            Self::WrongAudience { found, expected } => {
                write!(f, "aud is {found}, expected ")?;
                if expected.is_empty() {
                    return f.write_str(
                        "\"urn:logto:organization:<id>\" and no API's: see TrustedIssuer::audience",
                    );
                }
                List(expected).fmt(f)?;
                if found.0.starts_with("urn:logto:organization:") {
                    f.write_str(": an organization permission token; TrustedIssuer::organizations lets them in")?;
                }
                hint_at_slash(f, found, expected)
            }
            Self::AmbiguousAudience => {
                f.write_str("aud and organization_id name several resources or organizations")
            }
            Self::MissingClaim(claim) => write!(f, "the claim {claim} is missing"),
            Self::MalformedClaim(claim) => write!(f, "the claim {claim} has the wrong form"),
            Self::Expired { ago } => write!(
                f,
                "exp was {} s ago, more than the clock tolerance: ask Logto for a new one; if it is \
                 fresh, compare this machine's clock with Logto's",
                ago.as_secs()
            ),
            Self::NotYetValid { wait } => write!(
                f,
                "nbf is in {} s, more than the clock tolerance: compare this machine's clock with \
                 Logto's",
                wait.as_secs()
            ),
            Self::SenderConstrained => f.write_str(
                "a cnf claim: the token is bound to a key (DPoP or mTLS), which is not supported",
            ),
            Self::UnknownKey(Some(kid)) => write!(
                f,
                "no usable key with kid {kid} in the issuer's key set: was it rotated out, or is \
                 the token another tenant's?"
            ),
            Self::UnknownKey(None) => f.write_str("no kid, and no key that fits the algorithm"),
            Self::AmbiguousKey => f.write_str("no kid, and more than one key that fits"),
            Self::KeyAlgorithmMismatch(algorithm) => {
                write!(f, "the key of this kid is not for {algorithm}")
            }
            Self::CustomClaims(missed) => {
                write!(f, "the claims lack the shape the handler asks for: {missed}")
            }
            Self::Oversized => f.write_str(
                "the token is larger than ValidatorBuilder::max_token_size, 16 KiB by default",
            ),
            Self::CriticalHeader => {
                f.write_str("a crit header (RFC 7515 §4.1.11): no extension is understood here")
            }
            Self::BadSignature => f.write_str(
                "the signature does not verify with the issuer's key: the token was changed, or \
                 signed with another key under this kid",
            ),
        }
    }
}

fn hint_at_slash(
    f: &mut fmt::Formatter<'_>,
    found: &Escaped,
    expected: &[Box<str>],
) -> fmt::Result {
    let bare = found.0.trim_end_matches('/');
    let mut others = expected.iter().filter(|one| one.as_ref() != found.0.as_ref());
    if others.any(|one| one.trim_end_matches('/') == bare) {
        f.write_str(": mind the trailing slash")?;
    }
    Ok(())
}

struct List<'a>(&'a [Box<str>]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, item) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{item:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_escaped_and_short() {
        let text = format!("a\"b\r\n\u{1b}[31m\u{202e}é{}", "x".repeat(1000));
        let excerpt = Escaped::new(&text).to_string();
        assert!(excerpt.chars().all(|c| c.is_ascii_graphic() || c == ' ' || c == '…'), "{excerpt}");
        assert!(excerpt.starts_with("\"a\\\"b\\r\\n\\u{1b}[31m\\u{202e}\\u{e9}xxx"), "{excerpt}");
        assert!(excerpt.len() < 200);
    }

    #[test]
    fn the_operator_is_told_what_to_do() {
        let expected: Arc<[Box<str>]> = Arc::from(["https://shopping.api".into()]);
        for (reason, advice) in [
            (InvalidToken::NotAJwt, "ask Logto for a `resource`"),
            (
                InvalidToken::WrongAudience {
                    found: Escaped::new("https://shopping.api/"),
                    expected: expected.clone(),
                },
                "mind the trailing slash",
            ),
            (
                InvalidToken::WrongAudience {
                    found: Escaped::new("urn:logto:organization:acme"),
                    expected: expected.clone(),
                },
                "TrustedIssuer::organizations",
            ),
            (
                InvalidToken::UntrustedIssuer {
                    found: Escaped::new("https://t.logto.app/oidc/"),
                    trusted: Arc::from(["https://t.logto.app/oidc".into()]),
                },
                "mind the trailing slash",
            ),
            (
                InvalidToken::WrongAudience {
                    found: Escaped::new("https://shopping.api"),
                    expected: Arc::from([]),
                },
                "expected \"urn:logto:organization:<id>\"",
            ),
            (InvalidToken::WrongType(Some(Escaped::new("JWT"))), "ID token"),
            (InvalidToken::WrongType(None), "ID token"),
            (InvalidToken::Expired { ago: Duration::from_secs(3) }, "clock"),
            (InvalidToken::NotYetValid { wait: Duration::from_secs(3) }, "clock"),
        ] {
            assert!(reason.to_string().contains(advice), "{reason}");
        }
        let other = InvalidToken::WrongAudience { found: Escaped::new("https://x"), expected };
        assert!(!other.to_string().contains("slash"));
    }
}
