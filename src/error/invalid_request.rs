//! Why a request is malformed.

use std::{error::Error, fmt};

/// What is wrong with a request (RFC 6750 §3.1 `invalid_request`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// More than one `Authorization` header.
    SeveralAuthorizationHeaders,
    /// `Bearer` without a token, or with characters no token has.
    MalformedCredentials,
    /// Not exactly one value in the header that names the organization.
    OrganizationHeader,
}

impl InvalidRequest {
    pub(crate) const fn for_caller(self) -> &'static str {
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
        f.write_str(self.for_caller())
    }
}
