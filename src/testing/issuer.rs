//! A simulated Logto server on a loopback port, and its settings.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use crate::{
    Algorithm, Clock, Issuer, TrustedIssuer, Validator,
    clock::SystemClock,
    error::ConfigError,
    testing::{
        app::TestApp,
        key::SigningKey,
        server::{
            Server, endpoints,
            key_ring::KeyRing,
            state::{Faults, IssuerState, MANAGEMENT_API, ORGANIZATIONS_RESOURCE},
        },
        token::{TokenBuilder, random_id},
    },
};

/// A simulated Logto server that listens on 127.0.0.1. The server has a discovery document, a key
/// set, a token endpoint and a part of the Management API.
///
/// [`token`](Self::token) builds tokens without an HTTP request.
///
/// All clones share the same server, which stops when the last clone is dropped. The server runs on
/// its own thread, so tests with different runtimes can share it.
///
/// ```
/// use tower_logto::testing::TestIssuer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let issuer = TestIssuer::start().await?;
/// let validator = issuer.validator("https://shopping.api")?;
///
/// let token = issuer.token().audience("https://shopping.api").scopes(["read:products"]).build();
/// let token = validator.validate(&token).await?;
/// assert!(token.require_scopes(["read:products"]).is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TestIssuer {
    server: Arc<Server>,
    state: Arc<IssuerState>,
}

impl TestIssuer {
    /// The resource indicator of the Management API in self-hosted Logto.
    pub const MANAGEMENT_API: &str = MANAGEMENT_API;

    /// Starts a server on any free port, with an ES384 key and the system clock.
    ///
    /// # Errors
    /// Returns an error if the server cannot open a port on 127.0.0.1 or start its thread.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// Returns a builder, which sets the port, the clock, the applications and so on.
    pub fn builder() -> TestIssuerBuilder {
        TestIssuerBuilder::default()
    }

    /// Returns the Logto endpoint, `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        self.state.endpoint.clone()
    }

    /// Returns the `iss` of the tokens. It is `{endpoint}/oidc`, unless
    /// [`TestIssuerBuilder::issuer`] sets another value.
    pub fn issuer(&self) -> Issuer {
        self.state.issuer.clone()
    }

    /// Returns the URL of the key set.
    pub fn jwks_uri(&self) -> String {
        format!("{}/oidc/jwks", self.state.endpoint)
    }

    /// Returns the URL of the token endpoint.
    pub fn token_endpoint(&self) -> String {
        format!("{}/oidc/token", self.state.endpoint)
    }

    /// Returns a [`TrustedIssuer`] for this server and one audience. You can add further settings
    /// to the returned value.
    pub fn trusted(&self, audience: impl Into<String>) -> TrustedIssuer {
        TrustedIssuer::new(&self.issuer()).audience(audience).jwks_uri(self.jwks_uri())
    }

    /// Returns a validator for one audience, with the default settings and this issuer's clock.
    ///
    /// # Errors
    /// If the audience is invalid, the method returns the error of
    /// [`ValidatorBuilder::build`](crate::ValidatorBuilder::build).
    pub fn validator(&self, audience: impl Into<String>) -> Result<Validator, ConfigError> {
        let clock = SharedClock(Arc::clone(&self.state.clock));
        Validator::builder().trust(self.trusted(audience)).clock(clock).build()
    }

    /// Returns a builder for an access token.
    ///
    /// By default, the token is a machine-to-machine token for `https://shopping.api` and has no
    /// scopes. The token expires after the [`token_ttl`](TestIssuerBuilder::token_ttl), which is
    /// one hour by default.
    pub fn token(&self) -> TokenBuilder {
        let IssuerState { issuer, clock, token_ttl, .. } = &*self.state;
        TokenBuilder::new(issuer, self.signing_key(), clock, *token_ttl)
    }

    /// Returns a builder for an ID token of a user. The issuer's key signs the ID token. A service
    /// must not accept an ID token as an access token.
    pub fn id_token(&self) -> TokenBuilder {
        self.token().into_id_token()
    }

    /// Returns an opaque token of 43 characters. Logto issues such a token if an application does
    /// not request a `resource` when a user signs in.
    pub fn opaque_token(&self) -> String {
        random_id(43)
    }

    pub(super) fn state(&self) -> &IssuerState {
        &self.state
    }

    #[cfg(feature = "revocation")]
    pub(super) fn shared_state(&self) -> Arc<IssuerState> {
        Arc::clone(&self.state)
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Makes the server listen. Does nothing if it already listens.
    pub(super) fn open(&self) -> io::Result<()> {
        let management = self.validator(MANAGEMENT_API).expect("the audience is valid");
        self.server.open(endpoints::router(&self.state, management))
    }
}

/// The settings of a [`TestIssuer`].
///
/// ```
/// use std::time::Duration;
/// use tower_logto::testing::{ManualClock, TestApp, TestIssuer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let clock = ManualClock::default();
/// let issuer = TestIssuer::builder()
///     .clock(clock.clone())
///     .app(TestApp::new("reporting", "secret").grant("https://shopping.api", ["read:products"]))
///     .resource("https://warehouse.api")
///     .token_ttl(Duration::from_secs(600))
///     .start()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "call start() to run the server"]
pub struct TestIssuerBuilder {
    port: u16,
    issuer: Option<Issuer>,
    clock: Arc<dyn Clock>,
    apps: Vec<TestApp>,
    resources: BTreeSet<String>,
    token_ttl: Duration,
    key: Option<SigningKey>,
}

impl Default for TestIssuerBuilder {
    fn default() -> Self {
        Self {
            port: 0,
            issuer: None,
            clock: Arc::new(SystemClock),
            apps: Vec::new(),
            resources: [MANAGEMENT_API, ORGANIZATIONS_RESOURCE].map(str::to_owned).into(),
            token_ttl: Duration::from_secs(3600),
            key: None,
        }
    }
}

impl TestIssuerBuilder {
    /// Sets the port that the server listens on. The default is any free port. The address is
    /// always 127.0.0.1.
    pub const fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the `iss` of the tokens. The default is `{endpoint}/oidc`.
    ///
    /// Use this setting to test a service that fetches Logto's keys from an internal address.
    pub fn issuer(mut self, issuer: &Issuer) -> Self {
        self.issuer = Some(issuer.clone());
        self
    }

    /// Sets the clock for the times in tokens and webhooks, and for [`TestIssuer::validator`]. The
    /// default is the system clock.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Adds an application that may request tokens. If the application has a grant for an API
    /// resource, also adds this resource to the tenant.
    pub fn app(mut self, app: TestApp) -> Self {
        self.resources.extend(app.resources().cloned());
        self.apps.push(app);
        self
    }

    /// Adds an API resource to the tenant.
    ///
    /// The Management API and Logto's reserved resource `urn:logto:resource:organizations` always
    /// exist.
    pub fn resource(mut self, indicator: impl Into<String>) -> Self {
        self.resources.insert(indicator.into());
        self
    }

    /// Sets the lifetime of tokens. The default is one hour.
    pub const fn token_ttl(mut self, ttl: Duration) -> Self {
        self.token_ttl = ttl;
        self
    }

    /// Signs with a new RSA key (RS256). The default is a new EC key (ES384).
    pub fn rsa(self) -> Self {
        self.signing_key(SigningKey::generate(Algorithm::RS256))
    }

    /// Signs with this key. Generating an RSA key is slow, so share one RSA key between tests.
    pub fn signing_key(mut self, key: SigningKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// Returns an error if the server cannot open the port, for example because the port is in use.
    /// Also returns an error if the server cannot start its thread.
    #[allow(
        clippy::unused_async,
        reason = "`start` can await in a later version without a breaking change"
    )]
    pub async fn start(self) -> io::Result<TestIssuer> {
        let server = Server::bind(self.port)?;
        let endpoint = format!("http://{}", server.address());
        let own_issuer = || Issuer::logto(&endpoint).expect("the endpoint is a valid URL");
        let key = self.key.unwrap_or_else(|| SigningKey::generate(Algorithm::ES384));
        let state = IssuerState {
            issuer: self.issuer.unwrap_or_else(own_issuer),
            endpoint,
            clock: self.clock,
            apps: self.apps,
            resources: self.resources,
            token_ttl: self.token_ttl,
            faults: Faults::default(),
            not_modified: AtomicU64::new(0),
            keys: Mutex::new(KeyRing::new(key)),
            users: Mutex::default(),
            failed_webhooks: Mutex::default(),
        };
        let issuer = TestIssuer { server: Arc::new(server), state: Arc::new(state) };
        issuer.open()?;
        Ok(issuer)
    }
}

/// Passes the issuer's clock to a validator.
#[derive(Debug)]
pub(super) struct SharedClock(pub(super) Arc<dyn Clock>);

impl Clock for SharedClock {
    fn unix_time(&self) -> Duration {
        self.0.unix_time()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}
