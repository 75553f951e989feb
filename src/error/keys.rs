//! Why an issuer's signing keys are unavailable.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

/// The issuer's signing keys are unavailable.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeysUnavailable {
    /// The time until the next attempt. The `Retry-After` header is at least 1 s.
    pub retry_after: Duration,
    /// Why the last attempt failed.
    pub cause: KeysError,
}

impl KeysUnavailable {
    /// Creates the error for keys that the next request may fetch immediately.
    pub(crate) const fn retry_now(cause: KeysError) -> Self {
        Self { retry_after: Duration::ZERO, cause }
    }
}

/// Why an issuer's keys could not be fetched.
///
/// [`Display`](fmt::Display) names the cause. [`source`](Error::source) is the HTTP client's error.
/// Two errors are equal if their messages and [`is_timeout`](Self::is_timeout) are equal.
#[derive(Debug, Clone)]
pub struct KeysError {
    message: Cow<'static, str>,
    is_timeout: bool,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl KeysError {
    pub(crate) fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), is_timeout: false, source: None }
    }

    pub(crate) fn timeout(message: impl Into<Cow<'static, str>>) -> Self {
        Self { is_timeout: true, ..Self::new(message) }
    }

    pub(crate) fn caused_by(
        message: impl Into<Cow<'static, str>>,
        source: Arc<dyn Error + Send + Sync>,
    ) -> Self {
        Self { source: Some(source), ..Self::new(message) }
    }

    /// Returns whether the JWKS endpoint did not answer in time.
    pub const fn is_timeout(&self) -> bool {
        self.is_timeout
    }
}

impl PartialEq for KeysError {
    fn eq(&self, other: &Self) -> bool {
        self.message == other.message && self.is_timeout == other.is_timeout
    }
}

impl Eq for KeysError {}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for KeysError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
