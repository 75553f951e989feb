//! Checks whether a token is revoked. Without the feature `revocation`, no token is revoked.

#[cfg(feature = "revocation")]
mod checked;
#[cfg(not(feature = "revocation"))]
mod ignored;

#[cfg(feature = "revocation")]
pub(crate) use checked::*;
#[cfg(not(feature = "revocation"))]
pub(crate) use ignored::*;
