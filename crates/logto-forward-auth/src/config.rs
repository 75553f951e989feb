//! The configuration file.

use std::{fs, net::SocketAddr, path::Path};

use serde::Deserialize;
use tower_logto::{Validator, settings::Settings};

use crate::rules::{RuleSettings, Rules};

/// Everything that the file configures.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) proxy: Proxy,
    pub(crate) validator: Validator,
    pub(crate) rules: Rules,
}

/// The proxy that asks. It determines the headers with the original request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Proxy {
    Nginx,
    Caddy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: SocketAddr,
    proxy: Proxy,
    logto: Settings,
    #[serde(default)]
    rule: Vec<RuleSettings>,
}

impl Config {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// Returns the problem, with the name of the file, and the line or the key.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let text = fs::read_to_string(path)
            .map_err(|error| format!("{name}: the file cannot be read: {error}"))?;
        Self::parse(&text).map_err(|problem| format!("{name}: {problem}"))
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let File { listen, proxy, logto, rule } =
            toml::from_str(text).map_err(|error| error.to_string())?;
        let validator = logto.validator().map_err(|error| format!("[logto] {error}"))?;
        Ok(Self { listen, proxy, validator, rules: Rules::new(rule)? })
    }
}

impl Proxy {
    /// The headers with the method and the target of the original request.
    pub(crate) const fn headers(self) -> (&'static str, &'static str) {
        match self {
            Self::Nginx => ("x-original-method", "x-original-uri"),
            Self::Caddy => ("x-forwarded-method", "x-forwarded-uri"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_name_the_line_or_the_key() {
        let valid = "listen = \"127.0.0.1:0\"\nproxy = \"nginx\"\n[logto]\n\
                     endpoint = \"https://tenant.logto.app\"\nresource = \"https://shop\"\n\
                     [[rule]]\nmethods = [\"GET\"]\npath = \"/\"\n";
        Config::parse(valid).unwrap();
        for (from, to, expected) in [
            ("127.0.0.1:0", "localhost", "invalid socket address"),
            ("nginx", "haproxy", "unknown variant `haproxy`, expected `nginx` or `caddy`"),
            ("endpoint", "endpont", "unknown field `endpont`"),
            ("https://tenant", "tenant", "[logto] endpoint: not an absolute URL"),
            ("resource = \"https://shop\"", "", "[logto] resource: not set"),
            ("[[rule]]", "[[rules]]", "unknown field `rules`"),
            ("path = \"/\"", "path = \"x\"", "rule 1 (\"x\")"),
        ] {
            let error = Config::parse(&valid.replace(from, to)).unwrap_err();
            assert!(error.contains(expected), "{error}, expected {expected}");
        }
    }
}
