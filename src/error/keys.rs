//! Why an issuer's signing keys are unavailable.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

/// The issuer's keys cannot be had at the moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KeysUnavailable {
    /// How long to wait before the next attempt; at least a second when sent as `Retry-After`.
    pub retry_after: Duration,
    /// What the last attempt met.
    pub cause: KeysError,
}

impl KeysUnavailable {
    /// The next attempt may be made at once.
    pub(crate) const fn at_once(cause: KeysError) -> Self {
        Self { retry_after: Duration::ZERO, cause }
    }
}

/// Why an issuer's keys could not be fetched.
///
/// [`Display`](fmt::Display) says what was met, [`source`](Error::source) the HTTP client's cause.
#[derive(Debug, Clone)]
pub struct KeysError {
    met: Cow<'static, str>,
    timeout: bool,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl KeysError {
    pub(crate) fn new(met: impl Into<Cow<'static, str>>) -> Self {
        Self { met: met.into(), timeout: false, source: None }
    }

    pub(crate) fn timeout(met: impl Into<Cow<'static, str>>) -> Self {
        Self { timeout: true, ..Self::new(met) }
    }

    /// Logs it as well: the service is wired wrongly.
    pub(crate) fn without_runtime() -> Self {
        let met = "keys cannot be fetched outside a tokio runtime";
        tracing::error!(met);
        Self::new(met)
    }

    pub(crate) fn caused_by(
        met: impl Into<Cow<'static, str>>,
        source: Arc<dyn Error + Send + Sync>,
    ) -> Self {
        Self { source: Some(source), ..Self::new(met) }
    }

    /// Whether the JWKS endpoint was too slow, rather than wrong.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        self.timeout
    }
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.met)
    }
}

impl Error for KeysError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
