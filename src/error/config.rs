//! The error for an invalid setting.

use std::{borrow::Cow, error::Error, fmt};

/// The error for an invalid setting. Constructors and `build()` return this error before the
/// service starts.
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
    /// The name of the setting in a configuration file, or the name of its environment variable.
    written_as: Option<Box<str>>,
    issuer: Option<Box<str>>,
    advice: Cow<'static, str>,
}

impl ConfigError {
    pub(crate) fn new(setting: &'static str, advice: impl Into<Cow<'static, str>>) -> Self {
        Self { setting, written_as: None, issuer: None, advice: advice.into() }
    }

    /// Adds the issuer of the invalid setting to the message.
    pub(crate) fn of_issuer(self, issuer: &str) -> Self {
        Self { issuer: Some(issuer.into()), ..self }
    }

    /// Replaces the setter's name in the message with a configuration key or an environment
    /// variable. If an earlier call has already replaced the name, this call does not replace it
    /// again. Also removes the issuer from the message, because
    /// [`Settings`](crate::settings::Settings) specifies only one issuer.
    pub(crate) fn written_as(self, name: Box<str>) -> Self {
        Self { written_as: Some(self.written_as.unwrap_or(name)), issuer: None, ..self }
    }

    /// Returns the setting's name in Rust code, which is the name of a setter or of an argument. If
    /// the setting comes from [`Settings`](crate::settings::Settings), this method returns the same
    /// name, but the message contains the configuration key or the environment variable. If an
    /// environment variable cannot be read or parsed, this method returns the name of the variable.
    pub const fn setting(&self) -> &'static str {
        self.setting
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.written_as.as_deref().unwrap_or(self.setting))?;
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
    fn message_contains_the_setting_and_the_issuer() {
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
