//! The client for machine-to-machine tokens, and its settings.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{HeaderMap, header::AUTHORIZATION};
use reqwest::{ClientBuilder, RequestBuilder};

use crate::{
    clock::{Clock, SystemClock},
    error::ConfigError,
    http_client::HttpClients,
    issuer::Issuer,
    m2m::{
        cache::TokenCache,
        endpoint::{ClientAuthentication, Credentials, TokenEndpoint},
        error::TokenRequestError,
        request::TokenRequest,
        token::IssuedToken,
    },
    url::Transport,
};

/// Gets access tokens by client credentials (RFC 6749 §4.4), and keeps them while they live.
/// Cheap to clone; one per application, shared by all its callers.
///
/// Making one does no I/O and starts no task. A token is fetched when the first caller asks for
/// it, once however many wait, and again shortly before it expires, in the background of a
/// caller's tokio runtime.
///
/// ```no_run
/// use tower_logto::{m2m::{TokenClient, TokenRequest}, Issuer};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let tokens = TokenClient::new(&issuer, "app id", std::env::var("LOGTO_APP_SECRET")?)?;
///
/// let request = TokenRequest::resource("https://shopping.api").scopes(["read:products"]);
/// let token = tokens.token(&request).await?;
/// println!("{:?} until {:?}", token.scopes(), token.expires_at());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TokenClient(pub(crate) Arc<TokenCache>);

impl TokenClient {
    /// For one application of an issuer, with the defaults of [`TokenClientBuilder`].
    ///
    /// # Errors
    /// The setting that cannot work, by name.
    pub fn new(
        issuer: &Issuer,
        app_id: impl Into<String>,
        app_secret: impl Into<String>,
    ) -> Result<Self, ConfigError> {
        Self::builder(issuer, app_id, app_secret).build()
    }

    /// For other settings.
    #[must_use]
    pub fn builder(
        issuer: &Issuer,
        app_id: impl Into<String>,
        app_secret: impl Into<String>,
    ) -> TokenClientBuilder {
        TokenClientBuilder {
            token_endpoint: issuer.token_endpoint(),
            app_id: app_id.into(),
            app_secret: app_secret.into(),
            authentication: ClientAuthentication::default(),
            transport: Transport::HttpsOrLoopback,
            timeout: DEFAULT_TIMEOUT,
            refresh_margin: None,
            max_entries: DEFAULT_MAX_ENTRIES,
            clients: HttpClients::default(),
            clock: Arc::new(SystemClock),
        }
    }

    /// A living token with every scope that the request requires: the one that is held, without
    /// waiting, or else a new one.
    ///
    /// Dropping the future is harmless: others who wait get their token all the same. Wants a
    /// tokio runtime with its timer on.
    ///
    /// # Errors
    /// Why there is none. While a failed request is backed off, the last error comes at once, with
    /// [`retry_after`](TokenRequestError::retry_after).
    pub async fn token(&self, request: &TokenRequest) -> Result<IssuedToken, TokenRequestError> {
        self.0.token(request).await
    }

    /// Drops this token because a service has refused it, so that the next caller gets a new one.
    ///
    /// Only the token that is named is dropped, not one that has taken its place; and a successor
    /// is kept for 10 s, doubling up to 10 min while it is refused as well: a service that answers
    /// 401 to everything costs no token per request.
    pub fn invalidate(&self, token: &IssuedToken) {
        self.0.invalidate(token);
    }

    /// Sets the `Authorization` of a reqwest request, in place of any other.
    ///
    /// ```no_run
    /// # use tower_logto::m2m::{TokenClient, TokenRequest};
    /// # async fn example(tokens: TokenClient, client: reqwest::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let request = TokenRequest::resource("https://shopping.api").scopes(["read:products"]);
    /// let get = client.get("https://shopping.example/products");
    /// let response = tokens.authorize(get, &request).await?.send().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`token`](Self::token).
    pub async fn authorize(
        &self,
        builder: RequestBuilder,
        request: &TokenRequest,
    ) -> Result<RequestBuilder, TokenRequestError> {
        let authorization = self.token(request).await?.authorization();
        // `RequestBuilder::header` would add it to one that is there already.
        Ok(builder.headers(HeaderMap::from_iter([(AUTHORIZATION, authorization)])))
    }
}

impl fmt::Debug for TokenClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenClient").field(&self.0.endpoint).finish()
    }
}

/// The settings of a [`TokenClient`].
///
/// ```
/// use std::time::Duration;
/// use tower_logto::{m2m::{ClientAuthentication, TokenClient}, Issuer};
///
/// // Tokens are fetched by the cluster's name, the issuer is what they say.
/// let issuer = Issuer::logto("https://auth.example.com")?;
/// let tokens = TokenClient::builder(&issuer, "app id", "app secret")
///     .token_endpoint("http://logto:3001/oidc/token")
///     .dangerously_allow_http()
///     .authentication(ClientAuthentication::Post)
///     .timeout(Duration::from_secs(5))
///     .build()?;
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
pub struct TokenClientBuilder {
    token_endpoint: String,
    app_id: String,
    app_secret: String,
    authentication: ClientAuthentication,
    transport: Transport,
    timeout: Duration,
    refresh_margin: Option<Duration>,
    max_entries: usize,
    clients: HttpClients,
    clock: Arc<dyn Clock>,
}

impl TokenClientBuilder {
    /// Asks this address for tokens; `{issuer}/token` by default.
    #[must_use]
    pub fn token_endpoint(mut self, url: impl Into<String>) -> Self {
        self.token_endpoint = url.into();
        self
    }

    /// Allows a token endpoint, and a Management API, over plain `http` at an address that is not
    /// loopback.
    ///
    /// Whoever can read that traffic has the app's secret: only inside a network you trust. The
    /// environment variable `LOGTO_ALLOW_HTTP=1` does the same without a new build.
    #[must_use]
    pub const fn dangerously_allow_http(mut self) -> Self {
        self.transport = Transport::AllowHttp;
        self
    }

    /// How the application proves who it is; [`ClientAuthentication::Basic`] by default.
    #[must_use]
    pub const fn authentication(mut self, authentication: ClientAuthentication) -> Self {
        self.authentication = authentication;
        self
    }

    /// How long a token request, and each attempt of a [`ManagementApi`](crate::m2m::ManagementApi) call
    /// with these tokens, may take in all; 10 s by default, 100 ms to 5 min.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long before its expiry a token is refreshed, at most half of its life; by default 60 s
    /// or a tenth of its life, whichever is less. Up to half as long again is added at random.
    ///
    /// The first caller in that time starts the refresh and is served with the present token; a
    /// token that nobody asks for is not refreshed, since Logto Cloud bills them.
    #[must_use]
    pub const fn refresh_margin(mut self, margin: Duration) -> Self {
        self.refresh_margin = Some(margin);
        self
    }

    /// How many kinds of token are kept, the least recently used ones giving way; 1,000 by
    /// default, at least 1. With tokens per organization, as many as there are organizations in use.
    #[must_use]
    pub const fn token_cache_capacity(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    /// Makes the client that fetches tokens, for a proxy, a private CA or a user agent.
    ///
    /// Redirects, timeout, compression and connection pooling are set by this crate, last; a
    /// loopback address is never asked through a proxy.
    #[must_use]
    pub fn http_client_builder(
        mut self,
        make: impl Fn() -> ClientBuilder + Send + Sync + 'static,
    ) -> Self {
        self.clients = HttpClients::from_fn(make);
        self
    }

    /// Takes the time from this clock instead of the system's.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The client; no I/O happens, no task starts.
    ///
    /// # Errors
    /// The setting that cannot work, by name.
    pub fn build(self) -> Result<TokenClient, ConfigError> {
        if self.timeout < MIN_TIMEOUT || self.timeout > MAX_TIMEOUT {
            return Err(ConfigError::new("timeout", "between 100 ms and 5 min"));
        }
        if self.max_entries == 0 {
            return Err(ConfigError::new("token_cache_capacity", "at least one"));
        }
        let endpoint = TokenEndpoint {
            url: crate::url::check_url("token_endpoint", &self.token_endpoint, self.transport)?,
            transport: self.transport,
            clients: self.clients,
            timeout: self.timeout,
            credentials: Credentials::new(self.app_id, self.app_secret, self.authentication)?,
            client: OnceLock::new(),
        };
        let cache = TokenCache::new(endpoint, self.refresh_margin, self.max_entries, self.clock);
        Ok(TokenClient(Arc::new(cache)))
    }
}

impl fmt::Debug for TokenClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenClientBuilder")
            .field("token_endpoint", &self.token_endpoint)
            .field("app_id", &self.app_id)
            .field("authentication", &self.authentication)
            .field("timeout", &self.timeout)
            .field("refresh_margin", &self.refresh_margin)
            .field("max_entries", &self.max_entries)
            .finish_non_exhaustive()
    }
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const MIN_TIMEOUT: Duration = Duration::from_millis(100);
const MAX_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const DEFAULT_MAX_ENTRIES: usize = 1_000;
