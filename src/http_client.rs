//! HTTP clients for the identity server, and bounded reads of its responses.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

#[cfg(feature = "client")]
use reqwest::RequestBuilder;
use reqwest::{Client, ClientBuilder, Response, redirect::Policy};
use url::Url;

use crate::{escape::Escaped, url::is_loopback};

/// Builds HTTP clients from the user's `ClientBuilder`. The settings that the crate requires
/// override the user's settings.
#[derive(Clone, Default)]
pub(crate) struct HttpClients(Option<Arc<dyn Fn() -> ClientBuilder + Send + Sync>>);

impl HttpClients {
    pub(crate) fn from_fn(make: impl Fn() -> ClientBuilder + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(make)))
    }

    /// Builds a client that keeps no idle connections. Logto closes an idle connection after 5 s,
    /// and the crate rarely fetches keys or tokens twice within 5 s.
    pub(crate) fn build(&self, url: &Url, timeout: Duration) -> Result<Client, reqwest::Error> {
        self.builder(url, timeout).pool_max_idle_per_host(0).build()
    }

    /// Builds a client for many requests in a row. The client closes idle connections before Logto
    /// closes them.
    #[cfg(feature = "client")]
    pub(crate) fn build_pooling(
        &self,
        url: &Url,
        timeout: Duration,
    ) -> Result<Client, reqwest::Error> {
        self.builder(url, timeout).pool_idle_timeout(BEFORE_LOGTO_CLOSES).build()
    }

    /// Returns a builder with the settings that the crate requires:
    /// - no redirects, because a redirect with status 307 would send a secret to another host
    /// - a timeout for the whole request
    /// - no compression, because a small compressed body could decompress to a large body
    /// - no proxy for loopback addresses
    /// - no plain `http` if the URL is `https`
    /// - no log messages with the bytes that a connection sends and receives
    fn builder(&self, url: &Url, timeout: Duration) -> ClientBuilder {
        if url.scheme() == "http" && !is_loopback(url) {
            tracing::warn!(host = ?url.host_str(), "plain http to this host is allowed");
        }
        let builder = self.0.as_ref().map_or_else(Client::builder, |make| make());
        let builder = if is_loopback(url) { builder.no_proxy() } else { builder };
        builder
            .redirect(Policy::none())
            .timeout(timeout)
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .connection_verbose(false)
            .https_only(url.scheme() == "https")
    }
}

impl fmt::Debug for HttpClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "HttpClients(user's)" } else { "HttpClients" })
    }
}

/// Returns the client. The first call builds the client. If building fails, the next call tries
/// again, because the failure may be temporary. For example, the process may have had too many open
/// files.
pub(crate) fn get_or_build(
    cell: &OnceLock<Client>,
    build: impl FnOnce() -> Result<Client, reqwest::Error>,
) -> Result<&Client, reqwest::Error> {
    if let Some(client) = cell.get() {
        return Ok(client);
    }
    let client = build()?;
    Ok(cell.get_or_init(|| client))
}

/// Sends the request, at most twice. If the connection cannot be established, the function sends
/// the request a second time. If the connection breaks later, the function sends the request a
/// second time only if `repeatable` is set.
#[cfg(feature = "client")]
pub(crate) async fn send(
    request: RequestBuilder,
    repeatable: bool,
) -> Result<Response, reqwest::Error> {
    let again = request.try_clone();
    match (request.send().await, again) {
        (Err(error), Some(again))
            if error.is_connect() || repeatable && error.is_request() && !error.is_timeout() =>
        {
            again.send().await
        }
        (sent, _) => sent,
    }
}

/// The reason why a body was not read.
#[derive(Debug)]
pub(crate) enum BodyError {
    TooLarge,
    Broken(reqwest::Error),
}

/// Reads a body of at most `limit` bytes. Counts the received bytes, and does not rely on
/// `Content-Length`.
pub(crate) async fn read_body(mut response: Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Describes why a request failed: the root cause, and advice about certificates and proxies.
pub(crate) fn describe_failure(url: &Url, error: &reqwest::Error) -> String {
    let cause = Escaped::root_cause(error).to_string();
    let proxy = environment_proxy(url, |name| std::env::var_os(name).is_some());
    with_advice(cause, proxy.filter(|_| error.is_connect()))
}

fn with_advice(mut cause: String, proxy: Option<&str>) -> String {
    // The certificate errors of rustls and of the platforms' verifiers contain one of these words.
    if cause.contains("certificate") || cause.contains("UnknownIssuer") {
        cause.push_str(
            "; if the CA is private, set SSL_CERT_FILE to the CA's file, add the CA to the \
             system's store, or set the CA with http_client_builder",
        );
    }
    if let Some(variable) = proxy {
        cause.push_str("; the environment variable ");
        cause.push_str(variable);
        cause.push_str(
            " is set, so the client may have connected through a proxy, unless NO_PROXY excludes \
             the host",
        );
    }
    cause
}

/// Returns the name of the environment variable that makes reqwest use a proxy for this URL. The
/// value of the variable is not returned, because it may contain credentials.
fn environment_proxy(url: &Url, is_set: impl Fn(&str) -> bool) -> Option<&'static str> {
    if is_loopback(url) {
        return None;
    }
    let names = match url.scheme() {
        "https" => ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
        _ => ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
    };
    names.into_iter().find(|name| is_set(name))
}

/// The error message for a client that cannot be built. The message mentions the usual cause:
/// missing CA certificates.
pub(crate) const NO_CLIENT: &str = "the HTTP client could not be built: are CA certificates \
                                    installed (Debian's package ca-certificates)?";
/// The time after which the client closes an idle connection. Logto closes idle connections after
/// 5 s. The client closes them 1 s earlier, to allow for network latency.
#[cfg(feature = "client")]
const BEFORE_LOGTO_CLOSES: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn failures_behind_a_proxy_or_with_an_unknown_ca_have_advice() {
        let proxy = |url: &str, set: &str| {
            environment_proxy(&url.parse().unwrap(), |name| set.split(' ').any(|one| one == name))
        };
        for (url, set, expected) in [
            ("https://tenant.logto.app/", "HTTPS_PROXY HTTP_PROXY", Some("HTTPS_PROXY")),
            ("https://tenant.logto.app/", "HTTP_PROXY all_proxy", Some("all_proxy")),
            ("https://tenant.logto.app/", "HTTP_PROXY", None),
            ("http://logto:3001/", "http_proxy", Some("http_proxy")),
            ("http://localhost:3001/", "HTTP_PROXY ALL_PROXY", None),
        ] {
            assert_eq!(proxy(url, set), expected, "{url} {set}");
        }
        let refused = with_advice("Connection refused".into(), Some("HTTPS_PROXY"));
        assert!(refused.starts_with("Connection refused; "), "{refused}");
        assert!(refused.contains("the environment variable HTTPS_PROXY"), "{refused}");
        let unknown = with_advice("invalid peer certificate: UnknownIssuer".into(), None);
        assert!(unknown.contains("SSL_CERT_FILE"), "{unknown}");
        assert_eq!(with_advice("Connection refused".into(), None), "Connection refused");
    }

    #[test]
    fn a_client_is_built_once_and_again_only_after_a_failure() {
        let cell = OnceLock::new();
        let attempts = Cell::new(0);
        let build = || {
            attempts.set(attempts.get() + 1);
            let valid = Client::builder().tls_certs_only([]);
            if attempts.get() == 1 { valid.user_agent("\n").build() } else { valid.build() }
        };
        assert!(get_or_build(&cell, build).is_err());
        assert!(get_or_build(&cell, build).is_ok());
        assert!(get_or_build(&cell, build).is_ok());
        assert_eq!(attempts.get(), 2);
    }
}
