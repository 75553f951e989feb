//! Why an issuer's signing keys are unavailable.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

/// The issuer's signing keys are unavailable.
///
/// ```
/// use tower_logto::{AuthError, error::AuthErrorKind};
///
/// fn explain(error: &AuthError) {
///     if let AuthErrorKind::KeysUnavailable(unavailable) = error.kind() {
///         eprintln!("{}; again in {:?}", unavailable.cause, unavailable.retry_after);
///     }
/// }
/// ```
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
/// [`Display`](fmt::Display) names the cause and, if it is known, what to do about it.
///
/// ```
/// use tower_logto::{Validator, error::KeysError};
///
/// /// Tells at the start whether Logto responds. The service works without this, too.
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

/// There is no source: the message contains the cause.
impl Error for KeysError {}
