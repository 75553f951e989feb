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

use crate::url::is_loopback;

/// Builds HTTP clients. The user's `ClientBuilder` comes first, what the crate requires last.
#[derive(Clone, Default)]
pub(crate) struct HttpClients(Option<Arc<dyn Fn() -> ClientBuilder + Send + Sync>>);

impl HttpClients {
    pub(crate) fn from_fn(make: impl Fn() -> ClientBuilder + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(make)))
    }

    /// Builds a client without idle connections. Keys and tokens are fetched so rarely that Logto,
    /// which closes idle connections after 5 s, would have closed every one.
    pub(crate) fn build(&self, url: &Url, timeout: Duration) -> Result<Client, reqwest::Error> {
        self.builder(url, timeout).pool_max_idle_per_host(0).build()
    }

    /// Builds a client for many requests in a row. It closes idle connections before Logto does.
    #[cfg(feature = "client")]
    pub(crate) fn build_pooling(
        &self,
        url: &Url,
        timeout: Duration,
    ) -> Result<Client, reqwest::Error> {
        self.builder(url, timeout).pool_idle_timeout(BEFORE_LOGTO_CLOSES).build()
    }

    /// No redirects (a 307 would carry a secret to another host), a total timeout, no compression
    /// (a small body could become a huge one), no proxy for loopback, and no bytes of the
    /// connection in the log.
    fn builder(&self, url: &Url, timeout: Duration) -> ClientBuilder {
        if url.scheme() == "http" && !is_loopback(url) {
            tracing::warn!(host = ?url.host_str(), "plain http is allowed to this host");
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

/// Returns the client, and builds it at the first call. A failure is not kept: the next call may
/// succeed, for example when files can be opened again.
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

/// Sends the request, and once more if the connection breaks before a response. Unless connecting
/// failed, only a `repeatable` request is sent again.
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

/// Why a body was not read.
#[derive(Debug)]
pub(crate) enum BodyError {
    TooLarge,
    Broken(reqwest::Error),
}

/// Reads a body of at most `limit` bytes. Counts them as they arrive, whatever the headers say.
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

/// The usual reason why a client cannot be built.
pub(crate) const NO_CLIENT: &str = "the HTTP client could not be built: are CA certificates \
                                    installed (Debian's package ca-certificates)?";
/// Logto closes a connection that is idle for 5 s. The rest is for network latency.
#[cfg(feature = "client")]
const BEFORE_LOGTO_CLOSES: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_client_is_built_once_and_a_failure_is_not_kept() {
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
