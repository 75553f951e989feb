//! Which condition of a guard a token fails.

use std::{error::Error, fmt};

use crate::error::mismatch::Mismatch;

/// The condition of [`Require`](crate::Require) that a valid token fails.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailedCondition {
    /// [`Require::machine`](crate::Require::machine): the token belongs to a user.
    Machine,
    /// [`Require::user`](crate::Require::user): the token belongs to an application.
    User,
    /// [`Require::client_ids`](crate::Require::client_ids): another application asked for the
    /// token.
    ClientId(Mismatch),
    /// [`Require::issuer`](crate::Require::issuer): another trusted issuer issued the token.
    Issuer(Mismatch),
    /// [`Require::audience`](crate::Require::audience): the token is for another API. The found
    /// value is the first audience of the token.
    Audience(Mismatch),
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
        }
    }
}
