//! Which URLs of the identity server are accepted as settings.

use url::Url;

use crate::error::ConfigError;

/// Whether plain `http` may be spoken with addresses that are not loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    HttpsOrLoopback,
    AllowHttp,
}

/// Parses an `http` or `https` URL without query, fragment and user; `setting` names it in errors.
pub(crate) fn parse_url(setting: &'static str, text: &str) -> Result<Url, ConfigError> {
    let refuse = |advice: &'static str| Err(ConfigError::new(setting, advice));
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return refuse("a URL holds no spaces or control characters");
    }
    let Ok(url) = Url::parse(text) else {
        return refuse("not an absolute URL; expected something like https://tenant.logto.app");
    };
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return refuse("expected an https:// URL, something like https://tenant.logto.app");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("a user name or password does not belong into this URL");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("a query or fragment does not belong into this URL");
    }
    Ok(url)
}

/// The same, and that it is `https`, loopback, or `http` that was allowed by name.
pub(crate) fn check_url(
    setting: &'static str,
    text: &str,
    transport: Transport,
) -> Result<Url, ConfigError> {
    let url = parse_url(setting, text)?;
    let by_environment = || std::env::var(ALLOW_HTTP).is_ok_and(|value| value == "1");
    if url.scheme() == "https" || is_loopback(&url) {
        return Ok(url);
    }
    if transport == Transport::AllowHttp || by_environment() {
        tracing::warn!(setting, host = ?url.host_str(), "plain http is allowed by name");
        return Ok(url);
    }
    Err(ConfigError::new(
        setting,
        format!(
            "plain http to a host that is not loopback: use https, or allow it by name with \
             dangerously_allow_http or {ALLOW_HTTP}=1 inside a network you trust"
        ),
    ))
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

const ALLOW_HTTP: &str = "LOGTO_ALLOW_HTTP";
