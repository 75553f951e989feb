//! The reasons why a request is malformed.

use std::{error::Error, fmt};

/// The reason why a request is malformed (RFC 6750 §3.1 `invalid_request`).
///
/// ```
/// use tower_logto::{AuthError, error::{AuthErrorKind, InvalidRequest}};
///
/// fn has_two_headers(error: &AuthError) -> bool {
///     let two = InvalidRequest::SeveralAuthorizationHeaders;
///     *error.kind() == AuthErrorKind::InvalidRequest(two)
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// The request has more than one `Authorization` header.
    SeveralAuthorizationHeaders,
    /// The `Bearer` credentials contain no token, or contain characters that RFC 6750 §2.1 does not
    /// allow.
    MalformedCredentials,
    /// The header with the id of the organization is absent, repeated or not ASCII.
    OrganizationHeader,
}

impl InvalidRequest {
    /// Returns the public description, which the caller gets in the response.
    pub(crate) const fn public_description(self) -> &'static str {
        match self {
            Self::SeveralAuthorizationHeaders => "more than one Authorization header",
            Self::MalformedCredentials => "malformed Bearer credentials",
            Self::OrganizationHeader => "the organization header must have exactly one value",
        }
    }
}

impl Error for InvalidRequest {}

impl fmt::Display for InvalidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SeveralAuthorizationHeaders => {
                "the request has more than one Authorization header: send exactly one"
            }
            Self::MalformedCredentials => {
                "the Bearer credentials are malformed: send `Authorization: Bearer <token>` with \
                 the access token as Logto issued it"
            }
            Self::OrganizationHeader => {
                "the header of Require::organization_in_header is absent, repeated or not ASCII: \
                 send it once, with the id of the organization"
            }
        })
    }
}
