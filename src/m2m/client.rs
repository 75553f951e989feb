//! The client for machine-to-machine tokens, and its settings.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use reqwest::{Client, ClientBuilder, RequestBuilder, Url};

use crate::{
    clock::{Clock, SystemClock},
    error::ConfigError,
    http_client::HttpClients,
    issuer::Issuer,
    m2m::{
        cache::TokenCache,
        credentials::{ClientAuthentication, ClientCredentials, ClientSecret},
        error::TokenRequestError,
        token::IssuedToken,
        token_endpoint::TokenEndpoint,
        token_request::TokenRequest,
    },
    url::Transport,
};

/// Requests access tokens with the client credentials grant (RFC 6749 §4.4), caches them, and
/// refreshes them before they expire.
///
/// A client is cheap to clone. Create one client for each Logto application whose credentials your
/// program uses, and share that client across the program.
///
/// ```no_run
/// use tower_logto::{m2m::{ClientSecret, TokenClient, TokenRequest}, Issuer};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let secret = ClientSecret::new(std::env::var("LOGTO_APP_SECRET")?);
/// let tokens = TokenClient::new(&issuer, "app id", secret)?;
///
/// let request = TokenRequest::resource("https://shopping.api").scopes(["read:products"]);
/// let token = tokens.token(&request).await?;
/// println!("{:?} until {:?}", token.scopes(), token.expires_at());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TokenClient(Arc<TokenCache>);

impl TokenClient {
    /// Creates a client for the machine-to-machine application with this id. The client uses the
    /// default settings of [`TokenClientBuilder`]. This constructor does no I/O and starts no task.
    ///
    /// # Errors
    /// Returns an error that names the invalid setting.
    pub fn new(
        issuer: &Issuer,
        app_id: impl Into<String>,
        app_secret: ClientSecret,
    ) -> Result<Self, ConfigError> {
        Self::builder(issuer, app_id, app_secret).build()
    }

    /// Returns a builder for a client with other settings.
    pub fn builder(
        issuer: &Issuer,
        app_id: impl Into<String>,
        app_secret: ClientSecret,
    ) -> TokenClientBuilder {
        TokenClientBuilder {
            token_endpoint: issuer.token_endpoint(),
            app_id: app_id.into(),
            app_secret,
            authentication: ClientAuthentication::default(),
            transport: Transport::HttpsOrLoopback,
            timeout: DEFAULT_TIMEOUT,
            refresh_margin: None,
            token_cache_capacity: DEFAULT_TOKEN_CACHE_CAPACITY,
            clients: HttpClients::default(),
            clock: Arc::new(SystemClock),
        }
    }

    /// Returns a token that has not expired and has every scope that the request requires.
    ///
    /// If such a token is cached, the future completes immediately. Otherwise, the future waits for
    /// the token request that all concurrent calls share.
    ///
    /// # Errors
    /// Returns an error if no token is available. Further calls then fail immediately with the same
    /// error, until the delay from [`retry_after`](TokenRequestError::retry_after) has passed.
    ///
    /// # Cancel safety
    /// This method is cancel safe. If the future is dropped, the token request continues in its own
    /// task, and other calls can use the result.
    ///
    /// # Runtime
    /// A token request needs a tokio runtime with I/O and time enabled. The request runs on the
    /// runtime of the call that starts the request.
    pub async fn token(&self, request: &TokenRequest) -> Result<IssuedToken, TokenRequestError> {
        self.0.token(request).await
    }

    /// Reports a token that a service has refused. Inside a tokio runtime, this method starts to
    /// fetch the token's successor in the background. Outside a runtime, the next call of
    /// [`token`](Self::token) starts the fetch.
    ///
    /// Until the successor arrives, [`token`](Self::token) returns the refused token, because other
    /// services may accept it. To repeat the refused call, use [`successor`](Self::successor)
    /// instead. The client drops the refused token when it expires, or when Logto responds with
    /// `invalid_client` or `access_denied`.
    ///
    /// This method affects only the given token, not its successor. For 10 s after the
    /// invalidation, the client keeps the successor, even if a service refuses the successor too.
    /// Each further invalidation doubles this period, up to 10 min. Therefore, a service that
    /// answers every call with `401` does not cause a token request for every call.
    pub fn invalidate(&self, token: &IssuedToken) {
        self.0.invalidate(token);
    }

    /// [Invalidates](Self::invalidate) the token `refused`, which a service has refused, and
    /// returns the token's successor.
    ///
    /// A token that recently replaced an invalidated token is not invalidated (see
    /// [`invalidate`](Self::invalidate)). If `refused` is such a token, the method returns the same
    /// token again. Before you repeat the refused call, check that the
    /// [`secret`](IssuedToken::secret) of the returned token differs from the secret of the token
    /// `refused`.
    ///
    /// # Errors
    /// Returns the errors of [`token`](Self::token). The notes of `token` on cancel safety and on
    /// the runtime apply to this method too.
    pub async fn successor(&self, refused: &IssuedToken) -> Result<IssuedToken, TokenRequestError> {
        self.0.token_other_than(refused).await
    }

    /// Sets the `Authorization` header of a reqwest request, and replaces an existing
    /// `Authorization` header.
    ///
    /// If the service may refuse the token, use [`send`](Self::send), which repeats the request
    /// with a new token.
    ///
    /// ```no_run
    /// # use tower_logto::m2m::{TokenClient, TokenRequest};
    /// # type Error = Box<dyn std::error::Error>;
    /// # async fn example(tokens: TokenClient, client: reqwest::Client) -> Result<(), Error> {
    /// let request = TokenRequest::resource("https://shopping.api").scopes(["read:products"]);
    /// let get = client.get("https://shopping.example/products");
    /// let response = tokens.authorize(get, &request).await?.send().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns the errors of [`token`](Self::token). The notes of `token` on cancel safety and on
    /// the runtime apply to this method too.
    pub async fn authorize(
        &self,
        builder: RequestBuilder,
        request: &TokenRequest,
    ) -> Result<RequestBuilder, TokenRequestError> {
        Ok(self.token(request).await?.attach_to(builder))
    }

    /// Returns whether plain `http` to addresses other than loopback is allowed.
    pub(crate) fn transport(&self) -> Transport {
        self.0.endpoint().transport
    }

    /// Builds an HTTP client with the settings of this token client. The HTTP client keeps idle
    /// connections, because it sends many requests to the same address.
    pub(crate) fn build_pooling_http_client(&self, url: &Url) -> Result<Client, reqwest::Error> {
        let TokenEndpoint { clients, timeout, .. } = self.0.endpoint();
        clients.build_pooling(url, *timeout)
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.0.clock()
    }

    #[cfg(test)]
    pub(crate) fn token_endpoint(&self) -> &Url {
        &self.0.endpoint().url
    }
}

impl fmt::Debug for TokenClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenClient").field(self.0.endpoint()).finish()
    }
}

/// The settings of a [`TokenClient`].
///
/// ```
/// use std::time::Duration;
/// use tower_logto::{Issuer, m2m::{ClientAuthentication, ClientSecret, TokenClient}};
///
/// // The issuer is the public address. Tokens are requested at an address inside the cluster.
/// let issuer = Issuer::logto("https://auth.example.com")?;
/// let tokens = TokenClient::builder(&issuer, "app id", ClientSecret::new("app secret"))
///     .token_endpoint("http://logto:3001/oidc/token")
///     .dangerously_allow_http()
///     .authentication(ClientAuthentication::Post)
///     .timeout(Duration::from_secs(5))
///     .build()?;
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct TokenClientBuilder {
    token_endpoint: String,
    app_id: String,
    app_secret: ClientSecret,
    authentication: ClientAuthentication,
    transport: Transport,
    timeout: Duration,
    refresh_margin: Option<Duration>,
    token_cache_capacity: usize,
    clients: HttpClients,
    clock: Arc<dyn Clock>,
}

impl TokenClientBuilder {
    /// Sets the address of the token endpoint. Default: `{issuer}/token`.
    pub fn token_endpoint(mut self, url: impl Into<String>) -> Self {
        self.token_endpoint = url.into();
        self
    }

    /// Allows plain `http` to addresses other than loopback, for the token endpoint and the
    /// Management API.
    ///
    /// Anyone who can read this traffic learns the app secret. Use this setting only inside a
    /// network that you trust. The environment variable `LOGTO_ALLOW_HTTP=1` has the same effect
    /// without a new build.
    pub const fn dangerously_allow_http(mut self) -> Self {
        self.transport = Transport::AllowHttp;
        self
    }

    /// Sets how the application authenticates. Default: [`ClientAuthentication::Basic`].
    pub const fn authentication(mut self, authentication: ClientAuthentication) -> Self {
        self.authentication = authentication;
        self
    }

    /// Sets the timeout of a whole token request. The timeout must be from 100 ms to 5 min.
    /// Default: 10 s.
    ///
    /// A [`ManagementApi`](crate::m2m::ManagementApi) that uses this client applies the timeout to
    /// each attempt of a call.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the time between the refresh of a token and the token's expiry. If this margin is
    /// longer than half of the token's lifetime, the client uses half of the lifetime instead.
    /// Default: 60 s or a tenth of the lifetime, whichever is shorter.
    ///
    /// The client lengthens the margin at random, by up to 50 %. The first call within the margin
    /// starts the refresh and returns the cached token. The client does not refresh a token that no
    /// call asks for, because Logto Cloud charges for tokens.
    pub const fn refresh_margin(mut self, margin: Duration) -> Self {
        self.refresh_margin = Some(margin);
        self
    }

    /// Sets the maximum number of cached tokens. The number must be at least 1. Default: 1,000.
    ///
    /// If the cache is full, it removes the least recently used token. If each organization has its
    /// own token, the capacity should cover all organizations in use.
    pub const fn token_cache_capacity(mut self, tokens: usize) -> Self {
        self.token_cache_capacity = tokens;
        self
    }

    /// Sets a function that configures the HTTP client, for example for a proxy, a private CA or a
    /// user agent.
    ///
    /// The crate calls your function each time it builds an HTTP client. The first token request
    /// builds the HTTP client for all token requests. Each
    /// [`ManagementApi`](crate::m2m::ManagementApi) builds a separate HTTP client for each runtime
    /// on which it is called. If the HTTP client cannot be built, the next request tries again.
    ///
    /// In the returned `ClientBuilder`, the crate overrides the settings for redirects, timeout,
    /// compression, connection pooling, verbose logging and `https_only`. The crate never uses a
    /// proxy for loopback addresses.
    pub fn http_client_builder(
        mut self,
        make: impl Fn() -> ClientBuilder + Send + Sync + 'static,
    ) -> Self {
        self.clients = HttpClients::from_fn(make);
        self
    }

    /// Sets the clock. Default: the system's clock.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Validates the settings and creates the client. This method does no I/O and starts no task.
    ///
    /// # Errors
    /// Returns an error that names the invalid setting.
    pub fn build(self) -> Result<TokenClient, ConfigError> {
        if self.timeout < MIN_TIMEOUT || self.timeout > MAX_TIMEOUT {
            let found = self.timeout;
            let advice = format!("expected a time from 100 ms to 5 min, found {found:?}");
            return Err(ConfigError::new("timeout", advice));
        }
        if self.token_cache_capacity == 0 {
            return Err(ConfigError::new("token_cache_capacity", "expected at least 1, found 0"));
        }
        let url = crate::url::check_url("token_endpoint", &self.token_endpoint, self.transport)?;
        let credentials =
            ClientCredentials::new(self.app_id, self.app_secret, self.authentication)?;
        let endpoint = TokenEndpoint {
            url,
            transport: self.transport,
            clients: self.clients,
            timeout: self.timeout,
            credentials,
            client: OnceLock::new(),
        };
        let capacity = self.token_cache_capacity;
        let cache = TokenCache::new(endpoint, self.refresh_margin, capacity, self.clock);
        Ok(TokenClient(Arc::new(cache)))
    }
}

impl fmt::Debug for TokenClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenClientBuilder")
            .field("token_endpoint", &crate::escape::without_user_info(&self.token_endpoint))
            .field("app_id", &self.app_id)
            .field("authentication", &self.authentication)
            .field("timeout", &self.timeout)
            .field("refresh_margin", &self.refresh_margin)
            .field("token_cache_capacity", &self.token_cache_capacity)
            .finish_non_exhaustive()
    }
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const MIN_TIMEOUT: Duration = Duration::from_millis(100);
const MAX_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const DEFAULT_TOKEN_CACHE_CAPACITY: usize = 1_000;
