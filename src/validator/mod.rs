//! The validator: verified cache → parse → issuer → claims → key → signature.

mod cache;
pub(crate) mod claims;
pub(crate) mod jws;

use std::{fmt, sync::Arc, time::Duration};

use reqwest::ClientBuilder;
use tokio::runtime::Handle;

use crate::{
    access_token::{AccessToken, Anonymous, Verified},
    bearer::{challenge::ChallengeSettings, credentials},
    clock::{Clock, SystemClock},
    error::{
        AuthError, AuthErrorKind, ConfigError, InvalidRequest, InvalidToken, KeysError,
        KeysUnavailable,
    },
    escape::Excerpt,
    http_client::HttpClients,
    issuer::{Issuer, TrustedIssuer},
    jwks::key_store::{Freshness, KeyStore, LookUp, Patience},
    validator::{
        cache::{Digest, VerifiedTokens},
        claims::{Payload, Rules},
        jws::{Compact, Header},
    },
};

/// Validates access tokens of the issuers it trusts (RFC 9068 §4). Cheap to clone and to share.
///
/// Making one does no I/O and starts no task: a service starts while Logto is down. Keys are
/// fetched when the first token asks for them, in the background of the request's tokio runtime.
///
/// ```
/// use tower_logto::{Issuer, Validator};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let validator = Validator::new(&issuer, "https://shopping.api")?;
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Validator(Arc<Shared>);

struct Shared {
    issuers: Box<[Trusted]>,
    /// The names of the issuers, for refusals.
    names: Arc<[Box<str>]>,
    clock: Arc<dyn Clock>,
    max_token_size: usize,
    challenge: Arc<ChallengeSettings>,
    verified: Option<VerifiedTokens>,
}

struct Trusted {
    rules: Rules,
    keys: KeyStore,
}

/// The answer to one look at a token.
enum Verdict<'a> {
    Final(Result<AccessToken, AuthErrorKind>),
    /// The keys of this issuer have to be fetched first.
    Fetch(&'a KeyStore),
}

impl Validator {
    /// Trusts one issuer for one API, with the defaults of [`TrustedIssuer`] and
    /// [`ValidatorBuilder`].
    ///
    /// # Errors
    /// The setting that cannot work, by name.
    pub fn new(issuer: &Issuer, audience: impl Into<String>) -> Result<Self, ConfigError> {
        Self::builder().trust(TrustedIssuer::new(issuer).audience(audience)).build()
    }

    /// For several issuers, and other settings.
    #[must_use]
    pub fn builder() -> ValidatorBuilder {
        ValidatorBuilder::default()
    }

    /// Validates without waiting; `None` when keys have to be fetched first, which
    /// [`validate`](Self::validate) does.
    ///
    /// ```
    /// # let issuer = tower_logto::Issuer::logto("https://tenant.logto.app")?;
    /// # let validator = tower_logto::Validator::new(&issuer, "https://shopping.api")?;
    /// let opaque = validator.try_validate("not-a-jwt").unwrap();
    /// assert_eq!(opaque.unwrap_err().status(), 401);
    /// # Ok::<(), tower_logto::error::ConfigError>(())
    /// ```
    #[must_use]
    pub fn try_validate(&self, token: &str) -> Option<Result<AccessToken, AuthError>> {
        match self.look_at(token, &Patience::default()) {
            Verdict::Final(verdict) => Some(verdict.map_err(|kind| self.refuse(kind))),
            Verdict::Fetch(_) => None,
        }
    }

    /// Validates, and waits for keys where they have to be fetched first: for 5 s at most, on a
    /// tokio runtime with its timer on.
    ///
    /// # Errors
    /// Why the token is refused, or [`AuthErrorKind::KeysUnavailable`].
    pub async fn validate(&self, token: &str) -> Result<AccessToken, AuthError> {
        if let Some(verdict) = self.try_validate(token) {
            return verdict;
        }
        let waited = if Handle::try_current().is_ok() {
            let waiting = tokio::time::timeout(MAX_WAIT, self.wait_and_look(token)).await;
            waiting.map_err(|_| KeysError::timeout("the keys were not fetched in time"))
        } else {
            Err(KeysError::without_runtime())
        };
        let unavailable = |cause| AuthErrorKind::KeysUnavailable(KeysUnavailable::at_once(cause));
        let verdict = waited.unwrap_or_else(|cause| Err(unavailable(cause)));
        verdict.map_err(|kind| self.refuse(kind))
    }

    /// Fetches the keys of every issuer now, on a tokio runtime: the first request need not wait.
    ///
    /// # Errors
    /// What the first failing fetch met. The validator works all the same, and will try again.
    pub async fn warm_up(&self) -> Result<(), KeysError> {
        let mut met = Ok(());
        for trusted in &self.0.issuers {
            met = met.and(trusted.keys.load().await);
        }
        met
    }

    pub(crate) fn refuse(&self, kind: AuthErrorKind) -> AuthError {
        AuthError::new(kind, Some(Arc::clone(&self.0.challenge)))
    }

    pub(crate) fn anonymous(&self, preflight: bool) -> Anonymous {
        Anonymous { preflight, challenge: Arc::clone(&self.0.challenge) }
    }

    /// The keys of the first issuer.
    #[cfg(test)]
    #[cfg(feature = "testing")]
    pub(crate) fn keys(&self) -> &KeyStore {
        &self.0.issuers[0].keys
    }

    #[cfg(test)]
    #[cfg(feature = "testing")]
    pub(crate) fn verified(&self) -> Option<&VerifiedTokens> {
        self.0.verified.as_ref()
    }

    async fn wait_and_look(&self, token: &str) -> Result<AccessToken, AuthErrorKind> {
        let mut patience = Patience::default();
        loop {
            match self.look_at(token, &patience) {
                Verdict::Final(verdict) => return verdict,
                Verdict::Fetch(keys) => {
                    keys.wait(&mut patience).await.map_err(AuthErrorKind::KeysUnavailable)?;
                }
            }
        }
    }

    fn look_at(&self, token: &str, patience: &Patience) -> Verdict<'_> {
        match self.verify(token, patience) {
            Ok(verdict) => verdict,
            // Only a refused token can hold such characters; RFC 6750 §3.1 calls it another fault.
            Err(InvalidToken::NotAJwt | InvalidToken::Malformed(_))
                if !credentials::is_b64token(token) =>
            {
                let reason = InvalidRequest::MalformedCredentials;
                Verdict::Final(Err(AuthErrorKind::InvalidRequest(reason)))
            }
            Err(reason) => Verdict::Final(Err(AuthErrorKind::InvalidToken(reason))),
        }
    }

    fn verify(&self, token: &str, patience: &Patience) -> Result<Verdict<'_>, InvalidToken> {
        if token.len() > self.0.max_token_size {
            return Err(InvalidToken::Oversized);
        }
        let Some(verified) = self.0.verified.as_ref().filter(|_| token.len() >= SHORTEST) else {
            return self.verify_anew(token, patience, |_| {});
        };
        let digest = Digest::of(token);
        if let Some(seen) = verified.get(&digest) {
            if self.still_holds(&seen) {
                return Ok(Verdict::Final(Ok(seen)));
            }
            verified.remove(&digest);
        }
        self.verify_anew(token, patience, |token| verified.insert(digest, token))
    }

    /// What may have changed since a token was verified: the time, and the issuer's keys.
    fn still_holds(&self, token: &AccessToken) -> bool {
        let Verified { issuer, key, .. } = token.verified.as_ref();
        let trusted = self.0.issuers.get(*issuer);
        trusted.is_some_and(|trusted| trusted.keys.holds(key))
            && token.is_current(self.0.clock.unix_time())
    }

    /// The whole validation; the refusals that cost least come first, the signature last.
    fn verify_anew(
        &self,
        token: &str,
        patience: &Patience,
        remember: impl FnOnce(AccessToken),
    ) -> Result<Verdict<'_>, InvalidToken> {
        let compact = Compact::parse(token)?;
        let header = jws::decode_text(compact.header, "the header is not base64url of UTF-8")?;
        let header = Header::parse(&header)?;
        header.check()?;
        let json = jws::decode_text(compact.payload, "the payload is not base64url of UTF-8")?;
        let payload = Payload::parse(&json)?;
        let (issuer, Trusted { rules, keys }) = self.trusted(&payload)?;
        let algorithm = header.algorithm(&rules.algorithms)?;
        let judged = claims::judge(&payload, rules, self.0.clock.unix_time())?;
        let signature = jws::decode(compact.signature, "the signature is not base64url")?;
        let key = match keys.look_up(header.kid.as_deref(), algorithm, patience) {
            LookUp::Key(key) => key,
            LookUp::Refused(reason) => return Err(reason),
            LookUp::Unavailable(unavailable) => {
                return Ok(Verdict::Final(Err(AuthErrorKind::KeysUnavailable(unavailable))));
            }
            LookUp::Fetch => return Ok(Verdict::Fetch(keys)),
        };
        if !key.verifies(compact.signed.as_bytes(), &signature) {
            return Err(InvalidToken::BadSignature);
        }
        let challenge = Arc::clone(&self.0.challenge);
        let token =
            AccessToken::new(Verified { claims: judged.keep(&json), challenge, key, issuer });
        remember(token.clone());
        Ok(Verdict::Final(Ok(token)))
    }

    /// The unverified `iss` does no more than select among the trusted issuers.
    fn trusted(&self, payload: &Payload<'_>) -> Result<(usize, &Trusted), InvalidToken> {
        let issuer = payload.issuer()?;
        let mut issuers = self.0.issuers.iter().enumerate();
        let trusted = issuers.find(|(_, trusted)| trusted.rules.issuer.as_ref() == issuer);
        trusted.ok_or_else(|| InvalidToken::UntrustedIssuer {
            found: Excerpt::new(issuer),
            trusted: Arc::clone(&self.0.names),
        })
    }
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers = self.0.issuers.iter().map(|trusted| &trusted.rules.issuer);
        f.debug_tuple("Validator").field(&issuers.collect::<Vec<_>>()).finish()
    }
}

/// The settings of a [`Validator`].
///
/// ```
/// use std::time::Duration;
/// use tower_logto::{Issuer, TrustedIssuer, Validator};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let validator = Validator::builder()
///     .trust(TrustedIssuer::new(&issuer).audience("https://shopping.api"))
///     .realm("shopping")
///     .resource_metadata("https://shopping.example/.well-known/oauth-protected-resource")
///     .serve_stale_keys_for(Duration::from_secs(6 * 60 * 60))
///     .build()?;
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct ValidatorBuilder {
    issuers: Vec<TrustedIssuer>,
    challenge: ChallengeSettings,
    freshness: Freshness,
    clients: HttpClients,
    clock: Arc<dyn Clock>,
    max_token_size: usize,
    verified_tokens: usize,
}

impl Default for ValidatorBuilder {
    fn default() -> Self {
        Self {
            issuers: Vec::new(),
            challenge: ChallengeSettings::default(),
            freshness: Freshness::default(),
            clients: HttpClients::default(),
            clock: Arc::new(SystemClock),
            max_token_size: DEFAULT_MAX_TOKEN_SIZE,
            verified_tokens: DEFAULT_VERIFIED_TOKENS,
        }
    }
}

impl ValidatorBuilder {
    /// Trusts an issuer; at least one, each once.
    #[must_use]
    pub fn trust(mut self, trusted: TrustedIssuer) -> Self {
        self.issuers.push(trusted);
        self
    }

    /// The `realm` of challenges (RFC 9110 §11.5); none by default.
    #[must_use]
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.challenge.realm = Some(realm.into());
        self
    }

    /// The public URL of the RFC 9728 document, named in every challenge; none by default.
    ///
    /// [`ProtectedResourceMetadata`](crate::ProtectedResourceMetadata) writes the document.
    #[must_use]
    pub fn resource_metadata(mut self, url: impl Into<String>) -> Self {
        self.challenge.resource_metadata = Some(url.into());
        self
    }

    /// How long keys are fresh, ±10 %; 10 min by default, 1 s to 24 h. After that a request
    /// starts a refresh in the background and is served with the present keys.
    #[must_use]
    pub const fn keys_fresh_for(mut self, duration: Duration) -> Self {
        self.freshness.fresh_for = duration;
        self
    }

    /// Unknown key ids may start two refreshes at once and one more per this time; 10 s by
    /// default, at least 1 s.
    #[must_use]
    pub const fn unknown_key_cooldown(mut self, duration: Duration) -> Self {
        self.freshness.cooldown = duration;
        self
    }

    /// How long the last good keys are used while refreshes fail; 24 h by default, at least as long
    /// as they are [fresh](Self::keys_fresh_for). After that every token is answered with 503.
    #[must_use]
    pub const fn serve_stale_keys_for(mut self, duration: Duration) -> Self {
        self.freshness.keep_last_good = duration;
        self
    }

    /// The largest token that is looked at, in bytes; 16 KiB by default, at least 512.
    #[must_use]
    pub const fn max_token_size(mut self, bytes: usize) -> Self {
        self.max_token_size = bytes;
        self
    }

    /// How many verified tokens are remembered, so that their signatures are not checked again;
    /// 10,000 by default, 0 switches it off.
    ///
    /// A token of the usual size costs about 700 bytes, a larger one takes the place of several.
    /// Every hit checks `exp`, and that the key is still in the issuer's key set.
    #[must_use]
    pub const fn token_cache_capacity(mut self, tokens: usize) -> Self {
        self.verified_tokens = tokens;
        self
    }

    /// Makes the client that fetches keys, for a proxy, a private CA or a user agent.
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

    /// The validator; no I/O happens, no task starts.
    ///
    /// # Errors
    /// The setting that cannot work, by name.
    pub fn build(self) -> Result<Validator, ConfigError> {
        self.check()?;
        let trust = |trusted: &TrustedIssuer| {
            trusted.check()?;
            let clock = Arc::clone(&self.clock);
            Ok(Trusted {
                rules: Rules {
                    issuer: trusted.issuer.as_str().into(),
                    audiences: trusted.audiences.as_slice().into(),
                    organizations: trusted.organizations,
                    algorithms: trusted.algorithms.as_slice().into(),
                    clock_tolerance: trusted.clock_tolerance,
                },
                keys: KeyStore::new(trusted, self.freshness, &self.clients, clock)?,
            })
        };
        let issuers = self.issuers.iter().map(trust).collect::<Result<_, ConfigError>>()?;
        Ok(Validator(Arc::new(Shared {
            issuers,
            names: self.issuers.iter().map(|one| one.issuer.as_str().into()).collect(),
            clock: self.clock,
            max_token_size: self.max_token_size,
            challenge: Arc::new(self.challenge),
            verified: (self.verified_tokens > 0).then(|| VerifiedTokens::new(self.verified_tokens)),
        })))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |setting, advice| Err(ConfigError::new(setting, advice));
        if self.issuers.is_empty() {
            return refuse("issuer", "none: call .trust(TrustedIssuer::new(…))");
        }
        for (position, one) in self.issuers.iter().enumerate() {
            if self.issuers.iter().take(position).any(|other| other.issuer == one.issuer) {
                return refuse("issuer", "one stands twice: give it several audiences instead");
            }
        }
        let quotable = |text: &Option<String>| {
            text.iter().all(|text| !text.is_empty() && text.chars().all(crate::escape::is_quotable))
        };
        if !quotable(&self.challenge.realm) {
            return refuse("realm", "printable ASCII without quotes and backslashes only");
        }
        if let Some(url) = &self.challenge.resource_metadata {
            crate::url::parse_url("resource_metadata", url)?;
            if !quotable(&self.challenge.resource_metadata) {
                return refuse("resource_metadata", "printable ASCII only");
            }
        }
        if self.freshness.fresh_for < SECOND || self.freshness.fresh_for > DAY {
            return refuse("keys_fresh_for", "1 s to 24 h");
        }
        if self.freshness.cooldown < SECOND {
            return refuse("unknown_key_cooldown", "at least 1 s");
        }
        if self.freshness.keep_last_good < self.freshness.fresh_for {
            return refuse("serve_stale_keys_for", "at least as long as keys_fresh_for");
        }
        if self.max_token_size < 512 {
            return refuse("max_token_size", "at least 512 bytes");
        }
        Ok(())
    }
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_WAIT: Duration = Duration::from_secs(5);
const DEFAULT_MAX_TOKEN_SIZE: usize = 16 * 1024;
const DEFAULT_VERIFIED_TOKENS: usize = 10_000;
/// No signed access token is so short, an ES256 signature alone has 86 characters: opaque tokens
/// are not looked for among the verified ones.
const SHORTEST: usize = 128;
