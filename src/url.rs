//! Validates the URLs in settings.

use url::Url;

use crate::error::ConfigError;

/// The rule for plain `http` to hosts that are not loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    HttpsOrLoopback,
    AllowHttp,
}

/// Parses an `http` or `https` URL. Refuses a query, a fragment and user information. An error
/// contains the name of the setting.
pub(crate) fn parse_url(setting: &'static str, text: &str) -> Result<Url, ConfigError> {
    let refuse = |advice: &'static str| Err(ConfigError::new(setting, advice));
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return refuse("the URL must not contain spaces or control characters");
    }
    let Ok(url) = Url::parse(text) else {
        return refuse("not an absolute URL: expected a value like https://tenant.logto.app");
    };
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return refuse("not an http or https URL: expected a value like https://tenant.logto.app");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("the URL must not contain a user name or password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("the URL must not contain a query or fragment");
    }
    Ok(url)
}

/// Parses a URL as [`parse_url`] does. Also refuses plain `http`, unless the host is loopback or a
/// setting allows plain `http`.
pub(crate) fn check_url(
    setting: &'static str,
    text: &str,
    transport: Transport,
) -> Result<Url, ConfigError> {
    let url = parse_url(setting, text)?;
    if is_permitted(&url, transport) {
        return Ok(url);
    }
    Err(ConfigError::new(
        setting,
        format!(
            "plain http to a host that is not loopback: use https, or, inside a network you \
             trust, call dangerously_allow_http() or set {ALLOW_HTTP}=1"
        ),
    ))
}

/// Returns whether the scheme of the URL is permitted. `https` is always permitted. Plain `http` is
/// permitted only if the host is loopback or a setting allows plain `http`.
pub(crate) fn is_permitted(url: &Url, transport: Transport) -> bool {
    url.scheme() == "https"
        || is_loopback(url)
        || transport == Transport::AllowHttp
        || is_http_allowed()
}

/// Returns whether the environment allows plain `http` to any host.
fn is_http_allowed() -> bool {
    std::env::var(ALLOW_HTTP).is_ok_and(|value| value == "1")
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

const ALLOW_HTTP: &str = "LOGTO_ALLOW_HTTP";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_with_a_query_fragment_or_user_info_is_refused() {
        for (text, advice) in [
            ("https://tenant.logto.app", None),
            ("http://localhost:3001/oidc", None),
            ("", Some("not an absolute URL")),
            ("tenant.logto.app", Some("not an absolute URL")),
            ("ftp://tenant.logto.app", Some("not an http or https URL")),
            ("mailto:alice@example.com", Some("not an http or https URL")),
            ("https://tenant.logto.app ", Some("spaces or control characters")),
            ("https://tenant\n.logto.app", Some("spaces or control characters")),
            ("https://alice@tenant.logto.app", Some("a user name or password")),
            ("https://:secret@tenant.logto.app", Some("a user name or password")),
            ("https://tenant.logto.app?a=b", Some("a query or fragment")),
            ("https://tenant.logto.app#a", Some("a query or fragment")),
        ] {
            let error = parse_url("endpoint", text).err().map(|error| error.to_string());
            match advice {
                None => assert_eq!(error, None, "{text}"),
                Some(advice) => {
                    let error = error.unwrap();
                    assert!(error.starts_with("endpoint: ") && error.contains(advice), "{error}");
                }
            }
        }
    }

    #[test]
    fn plain_http_is_refused_unless_the_host_is_loopback_or_http_is_allowed() {
        let check = |text, transport| check_url("jwks_uri", text, transport).is_ok();
        for (text, https_or_loopback) in [
            ("https://logto/oidc/jwks", true),
            ("http://localhost:3001/oidc/jwks", true),
            ("http://127.0.0.1/oidc/jwks", true),
            ("http://[::1]:3001/oidc/jwks", true),
            ("http://logto:3001/oidc/jwks", false),
            ("http://localhost.example/oidc/jwks", false),
            ("http://127.0.0.1.example/oidc/jwks", false),
            ("http://10.0.0.1/oidc/jwks", false),
        ] {
            assert_eq!(check(text, Transport::HttpsOrLoopback), https_or_loopback, "{text}");
            assert!(check(text, Transport::AllowHttp), "{text}");
        }
    }
}
