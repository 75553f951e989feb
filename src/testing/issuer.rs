//! A Logto on a loopback port.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use crate::{
    Algorithm, Clock, Issuer, TrustedIssuer, Validator,
    clock::SystemClock,
    error::ConfigError,
    testing::{
        SigningKey, TestApp, TokenBuilder,
        faults::Endpoint,
        rotation::KeyRing,
        server::{Server, endpoints, grant::ORGANIZATIONS_RESOURCE},
        token::opaque,
    },
};

/// A Logto on a port of 127.0.0.1: discovery, key set, token endpoint, and tokens without HTTP.
///
/// A clone is the same server, which stops when the last one is dropped. It runs on a thread of
/// its own, so that one may be shared by tests that each have their own runtime.
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
pub struct TestIssuer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    server: Server,
    state: Arc<State>,
}

/// What the server knows.
#[derive(Debug)]
pub(super) struct State {
    pub(super) endpoint: String,
    pub(super) issuer: Issuer,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) apps: Vec<TestApp>,
    pub(super) resources: BTreeSet<String>,
    pub(super) token_ttl: Duration,
    pub(super) discovery: Endpoint,
    pub(super) jwks: Endpoint,
    pub(super) token: Endpoint,
    pub(super) management: Endpoint,
    pub(super) not_modified: AtomicU64,
    keys: Mutex<KeyRing>,
}

impl TestIssuer {
    /// The resource indicator of the Management API of a self-hosted Logto.
    pub const MANAGEMENT_API: &str = "https://default.logto.app/api";

    /// Starts on any free port, with an ES384 key and the system's clock.
    ///
    /// # Errors
    /// If no port of 127.0.0.1 can be opened.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// For a port, a clock, applications.
    #[must_use]
    pub fn builder() -> TestIssuerBuilder {
        TestIssuerBuilder::default()
    }

    /// Its origin, `http://127.0.0.1:PORT`: what a user calls the Logto endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.state().endpoint.clone()
    }

    /// The issuer that its tokens name: `{endpoint}/oidc`, unless the builder said otherwise.
    #[must_use]
    pub fn issuer(&self) -> Issuer {
        self.state().issuer.clone()
    }

    /// Where its key set is.
    #[must_use]
    pub fn jwks_uri(&self) -> String {
        format!("{}/oidc/jwks", self.state().endpoint)
    }

    /// Where it gives tokens.
    #[must_use]
    pub fn token_endpoint(&self) -> String {
        format!("{}/oidc/token", self.state().endpoint)
    }

    /// Trust in it for one API, to add settings to.
    #[must_use]
    pub fn trusted(&self, audience: impl Into<String>) -> TrustedIssuer {
        TrustedIssuer::new(&self.issuer()).audience(audience).jwks_uri(self.jwks_uri())
    }

    /// A validator for one API, with the defaults, and with this issuer's clock.
    ///
    /// # Errors
    /// When the audience is none that a validator takes.
    pub fn validator(&self, audience: impl Into<String>) -> Result<Validator, ConfigError> {
        let clock = SharedClock(Arc::clone(&self.state().clock));
        Validator::builder().trust(self.trusted(audience)).clock(clock).build()
    }

    /// An access token to fill in: for `https://shopping.api`, of a machine, without scopes, good
    /// for the next hour.
    pub fn token(&self) -> TokenBuilder {
        TokenBuilder::new(self.state())
    }

    /// An ID token of a user, signed with the same key: never to be taken for an access token.
    pub fn id_token(&self) -> TokenBuilder {
        TokenBuilder::new(self.state()).into_id_token()
    }

    /// What Logto gives a user's application that asked for no `resource`: 43 characters, no JWT.
    #[must_use]
    pub fn opaque_token(&self) -> String {
        opaque(43)
    }

    pub(super) fn state(&self) -> &State {
        &self.0.state
    }

    pub(super) fn server(&self) -> &Server {
        &self.0.server
    }

    pub(super) fn open(&self) -> io::Result<()> {
        let management = self.validator(Self::MANAGEMENT_API).expect("the kit's own settings work");
        self.0.server.open(endpoints::router(&self.0.state, management))
    }
}

impl State {
    pub(super) fn keys(&self) -> MutexGuard<'_, KeyRing> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
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
            resources: [TestIssuer::MANAGEMENT_API, ORGANIZATIONS_RESOURCE]
                .map(str::to_owned)
                .into(),
            token_ttl: Duration::from_secs(3600),
            key: None,
        }
    }
}

impl TestIssuerBuilder {
    /// The port of 127.0.0.1; any free one by default.
    #[must_use]
    pub const fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The issuer that its tokens name; `{endpoint}/oidc` by default. Another one plays a Logto
    /// whose keys are fetched by an internal name.
    #[must_use]
    pub fn issuer(mut self, issuer: &Issuer) -> Self {
        self.issuer = Some(issuer.clone());
        self
    }

    /// The clock of `iat` and `exp`; the system's by default.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// An application that may ask for tokens; its grants make their API resources known.
    #[must_use]
    pub fn app(mut self, app: TestApp) -> Self {
        self.resources.extend(app.resources().cloned());
        self.apps.push(app);
        self
    }

    /// Another API resource of the tenant. The Management API and Logto's reserved
    /// `urn:logto:resource:organizations` are known from the start.
    #[must_use]
    pub fn resource(mut self, indicator: impl Into<String>) -> Self {
        self.resources.insert(indicator.into());
        self
    }

    /// How long tokens live; an hour by default.
    #[must_use]
    pub const fn token_ttl(mut self, ttl: Duration) -> Self {
        self.token_ttl = ttl;
        self
    }

    /// Starts with an RSA key (RS256) rather than an EC one (ES384).
    #[must_use]
    pub fn rsa(self) -> Self {
        self.signing_key(&SigningKey::generate(Algorithm::RS256))
    }

    /// Starts with this key; one RSA key shared by many tests saves them the time to generate it.
    #[must_use]
    pub fn signing_key(mut self, key: &SigningKey) -> Self {
        self.key = Some(key.clone());
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// When the port cannot be had.
    #[allow(clippy::unused_async, reason = "room to wait, in a signature that stays")]
    pub async fn start(self) -> io::Result<TestIssuer> {
        let server = Server::bind(self.port)?;
        let endpoint = format!("http://{}", server.address());
        let own_name = || Issuer::logto(&endpoint).expect("an address makes an issuer");
        let key = self.key.unwrap_or_else(|| SigningKey::generate(Algorithm::ES384));
        let state = State {
            issuer: self.issuer.unwrap_or_else(own_name),
            endpoint,
            clock: self.clock,
            apps: self.apps,
            resources: self.resources,
            token_ttl: self.token_ttl,
            discovery: Endpoint::default(),
            jwks: Endpoint::default(),
            token: Endpoint::default(),
            management: Endpoint::default(),
            not_modified: AtomicU64::new(0),
            keys: Mutex::new(KeyRing::new(key)),
        };
        let issuer = TestIssuer(Arc::new(Inner { server, state: Arc::new(state) }));
        issuer.open()?;
        Ok(issuer)
    }
}

/// The issuer's clock for a validator.
#[derive(Debug)]
struct SharedClock(Arc<dyn Clock>);

impl Clock for SharedClock {
    fn unix_time(&self) -> Duration {
        self.0.unix_time()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}
