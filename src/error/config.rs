//! Why a setting cannot work.

use std::{borrow::Cow, error::Error, fmt};

/// A setting that cannot work; found at start, before anything is served.
///
/// ```
/// use tower_logto::Issuer;
///
/// let error = Issuer::logto("tenant.logto.app").unwrap_err();
/// assert_eq!(error.setting(), "endpoint");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    setting: &'static str,
    advice: Cow<'static, str>,
}

impl ConfigError {
    pub(crate) fn new(setting: &'static str, advice: impl Into<Cow<'static, str>>) -> Self {
        Self { setting, advice: advice.into() }
    }

    /// The name of the setting.
    #[must_use]
    pub const fn setting(&self) -> &'static str {
        self.setting
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.advice)
    }
}

impl Error for ConfigError {}
