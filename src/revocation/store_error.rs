//! Why rules are not stored.

use std::{error::Error, fmt};

/// Why rules could not be stored. They apply in this process, but others may not learn of them.
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
