//! The error that reports unavailable signing keys. The error contains the reason why the keys
//! could not be fetched.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

/// The issuer's signing keys are unavailable.
///
/// ```
/// use tower_logto::{AuthError, error::AuthErrorKind};
///
/// fn explain(error: &AuthError) {
///     if let AuthErrorKind::KeysUnavailable(unavailable) = error.kind() {
///         eprintln!("{}; next attempt in {:?}", unavailable.cause, unavailable.retry_after);
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeysUnavailable {
    /// The time until the next attempt to fetch the keys. The `Retry-After` header contains this
    /// time, rounded up to whole seconds. The header value is at least 1.
    pub retry_after: Duration,
    /// The reason why the last attempt failed.
    pub cause: KeysError,
}

impl KeysUnavailable {
    /// Creates the error for a request that the caller may retry immediately.
    pub(crate) const fn retry_now(cause: KeysError) -> Self {
        Self { retry_after: Duration::ZERO, cause }
    }
}

/// The reason why an issuer's keys could not be fetched.
///
/// [`Display`](fmt::Display) gives the cause and, if possible, says how to fix the problem.
///
/// ```
/// use tower_logto::{Validator, error::KeysError};
///
/// /// Reports at startup whether Logto responds. This check is optional.
/// async fn start(validator: &Validator) {
///     if let Err(error) = validator.warm_up().await {
///         eprintln!("no keys yet: {error} (timeout: {})", error.is_timeout());
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysError {
    message: Cow<'static, str>,
    is_timeout: bool,
}

impl KeysError {
    pub(crate) fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), is_timeout: false }
    }

    pub(crate) fn timeout(message: impl Into<Cow<'static, str>>) -> Self {
        Self { is_timeout: true, ..Self::new(message) }
    }

    /// Returns whether the JWKS endpoint did not answer in time.
    pub const fn is_timeout(&self) -> bool {
        self.is_timeout
    }
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// `source` returns `None`, because the message already contains the cause.
impl Error for KeysError {}
