//! The error for an invalid setting.

use std::{borrow::Cow, error::Error, fmt};

/// An invalid setting. Constructors and `build()` return it before the service starts.
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
    issuer: Option<Box<str>>,
    advice: Cow<'static, str>,
}

impl ConfigError {
    pub(crate) fn new(setting: &'static str, advice: impl Into<Cow<'static, str>>) -> Self {
        Self { setting, issuer: None, advice: advice.into() }
    }

    /// Adds the issuer that has the setting to the message.
    pub(crate) fn of_issuer(self, issuer: &str) -> Self {
        Self { issuer: Some(issuer.into()), ..self }
    }

    /// Returns the name of the setting.
    pub const fn setting(&self) -> &'static str {
        self.setting
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.setting)?;
        if let Some(issuer) = &self.issuer {
            write!(f, " of issuer {issuer:?}")?;
        }
        write!(f, ": {}", self.advice)
    }
}

impl Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_setting_and_the_issuer() {
        let error = ConfigError::new("audience", "it is empty");
        assert_eq!(error.to_string(), "audience: it is empty");
        let error = error.of_issuer("https://t.logto.app/oidc");
        assert_eq!(
            error.to_string(),
            r#"audience of issuer "https://t.logto.app/oidc": it is empty"#
        );
        assert_eq!(error.setting(), "audience");
    }
}
