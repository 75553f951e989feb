//! The outcome of a validation, as a value that the tests can compare.

use tower_logto::{
    AccessToken, AuthError, TokenKind,
    error::{AuthErrorKind, FailedCondition, InvalidRequest, InvalidToken},
};

/// Accepted, or the reason for the refusal. If an error contains text from a token or a setting,
/// the reason omits that text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    // 401, 400
    MissingToken,
    SeveralAuthorizationHeaders,
    MalformedCredentials,
    // 401 invalid_token
    Oversized,
    NotAJwt,
    Malformed,
    DuplicateMember,
    AlgorithmNotAllowed,
    WrongType,
    CriticalHeader,
    UntrustedIssuer,
    WrongAudience,
    AmbiguousAudience,
    MissingClaim(&'static str),
    MalformedClaim(&'static str),
    Expired,
    NotYetValid,
    SenderConstrained,
    UnknownKey,
    AmbiguousKey,
    KeyAlgorithmMismatch,
    BadSignature,
    // 403
    CustomClaims,
    InsufficientScope,
    WrongOrganization,
    WrongKind(TokenKind),
    // 503
    KeysUnavailable,
    /// An error that has no variant of its own, for example an error with status 500.
    Other,
}

impl Outcome {
    pub(crate) fn of(result: &Result<AccessToken, AuthError>) -> Self {
        result.as_ref().map_or_else(Self::of_error, |_| Self::Accepted)
    }

    pub(crate) fn of_error(error: &AuthError) -> Self {
        match error.kind() {
            AuthErrorKind::MissingToken => Self::MissingToken,
            AuthErrorKind::InvalidRequest(InvalidRequest::SeveralAuthorizationHeaders) => {
                Self::SeveralAuthorizationHeaders
            }
            AuthErrorKind::InvalidRequest(InvalidRequest::MalformedCredentials) => {
                Self::MalformedCredentials
            }
            AuthErrorKind::InvalidToken(reason) => Self::of_invalid_token(reason),
            AuthErrorKind::InsufficientScope { .. } => Self::InsufficientScope,
            AuthErrorKind::WrongOrganization { .. } => Self::WrongOrganization,
            AuthErrorKind::WrongKind(kind) => Self::WrongKind(*kind),
            AuthErrorKind::FailedCondition(FailedCondition::CustomClaims(_)) => Self::CustomClaims,
            AuthErrorKind::KeysUnavailable(_) => Self::KeysUnavailable,
            _ => Self::Other,
        }
    }

    fn of_invalid_token(reason: &InvalidToken) -> Self {
        match reason {
            InvalidToken::Oversized => Self::Oversized,
            InvalidToken::NotAJwt => Self::NotAJwt,
            InvalidToken::Malformed(_) => Self::Malformed,
            InvalidToken::DuplicateMember => Self::DuplicateMember,
            InvalidToken::AlgorithmNotAllowed(_) => Self::AlgorithmNotAllowed,
            InvalidToken::WrongType(_) => Self::WrongType,
            InvalidToken::CriticalHeader => Self::CriticalHeader,
            InvalidToken::UntrustedIssuer(_) => Self::UntrustedIssuer,
            InvalidToken::WrongAudience(_) => Self::WrongAudience,
            InvalidToken::AmbiguousAudience => Self::AmbiguousAudience,
            InvalidToken::MissingClaim(claim) => Self::MissingClaim(claim),
            InvalidToken::MalformedClaim(claim) => Self::MalformedClaim(claim),
            InvalidToken::Expired { .. } => Self::Expired,
            InvalidToken::NotYetValid { .. } => Self::NotYetValid,
            InvalidToken::SenderConstrained => Self::SenderConstrained,
            InvalidToken::UnknownKey(_) => Self::UnknownKey,
            InvalidToken::AmbiguousKey => Self::AmbiguousKey,
            InvalidToken::KeyAlgorithmMismatch(_) => Self::KeyAlgorithmMismatch,
            InvalidToken::BadSignature => Self::BadSignature,
            _ => Self::Other,
        }
    }

    /// Returns the HTTP status that the response must have. RFC 6750 §3.1 specifies the statuses
    /// 400, 401 and 403.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::Accepted => 200,
            Self::SeveralAuthorizationHeaders | Self::MalformedCredentials => 400,
            Self::InsufficientScope
            | Self::WrongOrganization
            | Self::WrongKind(_)
            | Self::CustomClaims => 403,
            Self::KeysUnavailable => 503,
            Self::Other => 500,
            _ => 401,
        }
    }
}
