//! The error for a valid token that does not satisfy a condition of a guard or a handler.

use std::{error::Error, fmt};

use crate::error::mismatch::Mismatch;

/// The condition that the token, although valid, does not satisfy. The condition comes from a
/// [`Require`](crate::Require) guard or from a handler.
///
/// ```
/// use tower_logto::{AuthError, error::{AuthErrorKind, FailedCondition}};
///
/// fn needs_a_user(error: &AuthError) -> bool {
///     matches!(error.kind(), AuthErrorKind::FailedCondition(FailedCondition::User))
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailedCondition {
    /// The token does not belong to a machine-to-machine application, and the guard has
    /// [`Require::machine`](crate::Require::machine).
    Machine,
    /// The token does not belong to a user, and the guard has
    /// [`Require::user`](crate::Require::user).
    User,
    /// [`Require::client_ids`](crate::Require::client_ids) does not list the application that
    /// requested the token.
    ClientId(Mismatch),
    /// The token is not from the issuer that [`Require::issuer`](crate::Require::issuer) or
    /// [`AccessToken::require_issuer`](crate::AccessToken::require_issuer) requires.
    Issuer(Mismatch),
    /// The token is not for the API that [`Require::audience`](crate::Require::audience) or
    /// [`AccessToken::require_audience`](crate::AccessToken::require_audience) requires.
    /// [`Mismatch::found`] returns the first audience of the token.
    Audience(Mismatch),
    /// The claims do not deserialize into the `T` of `Claims<T>` or
    /// [`AccessToken::claims`](crate::AccessToken::claims). The error message contains the name of
    /// the field, but no value from the token.
    CustomClaims(Box<str>),
}

impl Error for FailedCondition {}

impl fmt::Display for FailedCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str(
                "the token does not belong to a machine-to-machine application, and the route has \
                 a guard with Require::machine",
            ),
            Self::User => f.write_str(
                "the token does not belong to a user, and the route has a guard with Require::user",
            ),
            Self::ClientId(mismatch) => {
                write!(f, "client_id is {mismatch}; see Require::client_ids")
            }
            Self::Issuer(mismatch) => write!(f, "iss is {mismatch}; see Require::issuer"),
            Self::Audience(mismatch) => write!(f, "aud is {mismatch}; see Require::audience"),
            Self::CustomClaims(problem) => write!(
                f,
                "the claims do not have the type that the handler requires: {problem}; check the \
                 tenant's custom-claims script, or make the field an Option"
            ),
        }
    }
}
