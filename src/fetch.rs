//! HTTP to the identity server: which addresses may be asked, by which client, for how many bytes.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

#[cfg(feature = "client")]
use reqwest::RequestBuilder;
use reqwest::{Client, ClientBuilder, Response, Url, redirect::Policy};

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

/// Makes the clients: from the user's `ClientBuilder`, if any, with what must hold set last.
#[derive(Clone, Default)]
pub(crate) struct HttpClients(Option<Arc<dyn Fn() -> ClientBuilder + Send + Sync>>);

impl HttpClients {
    pub(crate) fn from_fn(make: impl Fn() -> ClientBuilder + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(make)))
    }

    /// A client for this address that keeps no idle connections: keys and tokens are fetched so
    /// rarely that Logto, which closes idle connections after 5 s, would have closed every one.
    pub(crate) fn build(&self, url: &Url, timeout: Duration) -> Result<Client, reqwest::Error> {
        self.builder(url, timeout).pool_max_idle_per_host(0).build()
    }

    /// The same for an address that is asked many times in a row; connections are given up before
    /// Logto closes them.
    #[cfg(feature = "client")]
    pub(crate) fn build_pooling(
        &self,
        url: &Url,
        timeout: Duration,
    ) -> Result<Client, reqwest::Error> {
        self.builder(url, timeout).pool_idle_timeout(BEFORE_LOGTO_CLOSES).build()
    }

    /// No redirects (a 307 would carry a secret to another host), a total timeout, no compression
    /// (a small body could become a huge one), no proxy for loopback, no bytes of the connection
    /// in the log.
    fn builder(&self, url: &Url, timeout: Duration) -> ClientBuilder {
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

/// The client, built when it is first needed. One that cannot be built may be the next time, when
/// there are files to open again: so no failure is kept.
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

/// Sends; once more if the connection breaks before anything was answered. That could do a thing
/// twice, so it has to be `repeatable`, unless there was no connection at all.
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

/// Why a body could not be read.
#[derive(Debug)]
pub(crate) enum BodyError {
    TooLarge,
    Broken(reqwest::Error),
}

/// Reads a body of at most `limit` bytes, counted as they come.
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

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Why a client cannot be built, nearly always.
pub(crate) const NO_CLIENT: &str = "the HTTP client could not be built: are CA certificates \
                                    installed (Debian's package ca-certificates)?";
const ALLOW_HTTP: &str = "LOGTO_ALLOW_HTTP";
/// Logto closes a connection that was idle for 5 s; the rest is for the way there.
#[cfg(feature = "client")]
const BEFORE_LOGTO_CLOSES: Duration = Duration::from_secs(4);
