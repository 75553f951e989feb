//! The error that is returned if rules cannot be stored.

use std::{error::Error, fmt};

/// The reason why rules could not be written to Redis. The rules apply in this process, but other
/// instances may not receive them.
///
/// ```
/// use tower_logto::revocation::{Revocations, StoreError};
///
/// async fn suspend(revocations: &Revocations, user: &str) -> Result<(), StoreError> {
///     revocations.block_subject(user).await
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError(Box<str>);

impl StoreError {
    #[cfg(feature = "redis")]
    pub(super) fn new(why: &str) -> Self {
        let outcome = "Redis has not stored the rules, so they apply in this process only";
        Self(format!("{outcome}: {why}").into())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for StoreError {}
