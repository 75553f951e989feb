//! The settings of a validator, and their validation.

use std::{sync::Arc, time::Duration};

use reqwest::ClientBuilder;

use crate::{
    bearer::challenge::ChallengeSettings,
    clock::{Clock, SystemClock},
    error::ConfigError,
    escape::is_quotable,
    http_client::HttpClients,
    issuer::{Issuer, TrustedIssuer},
    jwks::{key_store::KeyStore, refresh::RefreshPolicy},
    url::parse_url,
    validator::{
        IssuerEntry, Validator, ValidatorInner, cache::VerifiedTokenCache, claims::ClaimRules,
    },
};

impl Validator {
    /// Builds a validator that trusts one issuer for one audience: the API's resource indicator.
    /// All settings have the defaults of [`TrustedIssuer`] and [`ValidatorBuilder`].
    ///
    /// # Errors
    /// If the audience cannot work. The error says why.
    pub fn new(issuer: &Issuer, audience: impl Into<String>) -> Result<Self, ConfigError> {
        Self::builder().trust(TrustedIssuer::new(issuer).audience(audience)).build()
    }

    /// Starts a validator with several issuers or other settings.
    pub fn builder() -> ValidatorBuilder {
        ValidatorBuilder::default()
    }
}

/// The settings of a [`Validator`]. [`build`](Self::build) validates them.
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
#[must_use]
pub struct ValidatorBuilder {
    issuers: Vec<TrustedIssuer>,
    challenge: ChallengeSettings,
    refresh: RefreshPolicy,
    clients: HttpClients,
    clock: Arc<dyn Clock>,
    max_token_size: usize,
    token_cache_capacity: usize,
}

impl Default for ValidatorBuilder {
    fn default() -> Self {
        Self {
            issuers: Vec::new(),
            challenge: ChallengeSettings::default(),
            refresh: RefreshPolicy::default(),
            clients: HttpClients::default(),
            clock: Arc::new(SystemClock),
            max_token_size: DEFAULT_MAX_TOKEN_SIZE,
            token_cache_capacity: DEFAULT_TOKEN_CACHE_CAPACITY,
        }
    }
}

impl ValidatorBuilder {
    /// Trusts an issuer. A validator needs at least one, and takes each once.
    pub fn trust(mut self, trusted: TrustedIssuer) -> Self {
        self.issuers.push(trusted);
        self
    }

    /// Sets the `realm` of challenges (RFC 9110 §11.5). By default they have none.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.challenge.realm = Some(realm.into());
        self
    }

    /// Sets the public URL of the RFC 9728 document, which every challenge then names. By default
    /// challenges name none.
    ///
    /// [`ProtectedResourceMetadata`](crate::ProtectedResourceMetadata) writes the document.
    pub fn resource_metadata(mut self, url: impl Into<String>) -> Self {
        self.challenge.resource_metadata = Some(url.into());
        self
    }

    /// Sets how long keys are fresh, ±10 %: 10 min by default, from 1 s to 24 h.
    ///
    /// When they are no longer fresh, the next request starts a refresh in the background and is
    /// served with the keys held.
    pub const fn keys_fresh_for(mut self, duration: Duration) -> Self {
        self.refresh.fresh_for = duration;
        self
    }

    /// Sets how often unknown key ids may start a refresh: two immediately, and one more per this
    /// time. 5 s by default, at least 1 s.
    pub const fn unknown_key_cooldown(mut self, duration: Duration) -> Self {
        self.refresh.unknown_key_cooldown = duration;
        self
    }

    /// Sets how many requests may wait for the first keys, or for a refresh in flight: 16,384 by
    /// default, at least 1. A waiting request takes about 3 KB. Requests beyond that get 503.
    pub const fn max_waiting(mut self, requests: usize) -> Self {
        self.refresh.max_waiting = requests;
        self
    }

    /// Sets how many requests with an unknown key id may wait until the next refresh is permitted:
    /// 256 by default. Requests beyond that get 429 with `Retry-After`.
    pub const fn max_waiting_unknown(mut self, requests: usize) -> Self {
        self.refresh.max_waiting_unknown = requests;
        self
    }

    /// Sets how long stale keys are used while refreshes fail: 24 h by default, at least as long as
    /// keys are [fresh](Self::keys_fresh_for). After that every token is answered with 503.
    pub const fn serve_stale_keys_for(mut self, duration: Duration) -> Self {
        self.refresh.serve_stale_for = duration;
        self
    }

    /// Sets the size of the largest accepted token in bytes: 16 KiB by default, at least 512.
    pub const fn max_token_size(mut self, bytes: usize) -> Self {
        self.max_token_size = bytes;
        self
    }

    /// Sets how many verified tokens are cached, so that their signatures are not checked again:
    /// 10,000 by default. 0 turns the cache off.
    ///
    /// A token of the usual size takes about 700 bytes, a larger one the place of several. Every
    /// hit checks `exp`, and that the key is still in the issuer's key set.
    pub const fn token_cache_capacity(mut self, tokens: usize) -> Self {
        self.token_cache_capacity = tokens;
        self
    }

    /// Sets how the HTTP client that fetches keys is built, for a proxy, a private CA or a user
    /// agent. The function is called once per issuer, at the first fetch.
    ///
    /// This crate then sets redirects, timeout, compression and connection pooling. It does not use
    /// a proxy for a loopback address.
    pub fn http_client_builder(
        mut self,
        make: impl Fn() -> ClientBuilder + Send + Sync + 'static,
    ) -> Self {
        self.clients = HttpClients::from_fn(make);
        self
    }

    /// Sets the source of time. By default it is the operating system.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Validates the settings and builds the validator. It sends no request and starts no task.
    ///
    /// # Errors
    /// If a setting cannot work. The error names it.
    pub fn build(self) -> Result<Validator, ConfigError> {
        self.check()?;
        let issuers =
            self.issuers.iter().map(|trusted| self.entry(trusted)).collect::<Result<_, _>>()?;
        let issuer_names = self.issuers.iter().map(|one| one.issuer.as_str().into()).collect();
        Ok(Validator::from_inner(ValidatorInner {
            issuers,
            issuer_names,
            clock: self.clock,
            max_token_size: self.max_token_size,
            challenge: Arc::new(self.challenge),
            cache: VerifiedTokenCache::new(self.token_cache_capacity),
        }))
    }

    fn entry(&self, trusted: &TrustedIssuer) -> Result<IssuerEntry, ConfigError> {
        let of_issuer = |error: ConfigError| error.of_issuer(trusted.issuer.as_str());
        trusted.check().map_err(of_issuer)?;
        let clock = Arc::clone(&self.clock);
        let keys = KeyStore::new(trusted, self.refresh, &self.clients, clock);
        Ok(IssuerEntry {
            rules: ClaimRules {
                issuer: trusted.issuer.as_str().into(),
                audiences: trusted.audiences.as_slice().into(),
                organizations: trusted.organizations,
                algorithms: trusted.algorithms.as_slice().into(),
                clock_tolerance: trusted.clock_tolerance,
            },
            keys: Arc::new(keys.map_err(of_issuer)?),
        })
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |setting, advice| Err(ConfigError::new(setting, advice));
        if self.issuers.is_empty() {
            return refuse(
                "trust",
                "no issuer is trusted: call .trust(TrustedIssuer::new(&issuer))",
            );
        }
        for (position, one) in self.issuers.iter().enumerate() {
            if self.issuers.iter().take(position).any(|other| other.issuer == one.issuer) {
                return Err(ConfigError::new(
                    "trust",
                    format!(
                        "issuer {:?} was added twice; add all audiences to one TrustedIssuer",
                        one.issuer.as_str()
                    ),
                ));
            }
        }
        let quotable = |text: &Option<String>| {
            text.iter().all(|text| !text.is_empty() && text.chars().all(is_quotable))
        };
        if !quotable(&self.challenge.realm) {
            return refuse("realm", "must be printable ASCII without quotes and backslashes");
        }
        if let Some(url) = &self.challenge.resource_metadata {
            parse_url("resource_metadata", url)?;
            if !quotable(&self.challenge.resource_metadata) {
                return refuse("resource_metadata", "must be printable ASCII");
            }
        }
        if self.refresh.fresh_for < SECOND || self.refresh.fresh_for > DAY {
            return refuse("keys_fresh_for", "must be from 1 s to 24 h");
        }
        if self.refresh.unknown_key_cooldown < SECOND {
            return refuse("unknown_key_cooldown", "must be at least 1 s");
        }
        if self.refresh.max_waiting == 0 || self.refresh.max_waiting > MAX_MAX_WAITING {
            return refuse("max_waiting", "must be from 1 to 1,000,000");
        }
        if self.refresh.max_waiting_unknown > MAX_MAX_WAITING {
            return refuse("max_waiting_unknown", "must be at most 1,000,000");
        }
        if self.refresh.serve_stale_for < self.refresh.fresh_for {
            return refuse("serve_stale_keys_for", "must be at least as long as keys_fresh_for");
        }
        if self.max_token_size < MIN_MAX_TOKEN_SIZE {
            return refuse("max_token_size", "must be at least 512 bytes");
        }
        Ok(())
    }
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_MAX_WAITING: usize = 1_000_000;
const MIN_MAX_TOKEN_SIZE: usize = 512;
const DEFAULT_MAX_TOKEN_SIZE: usize = 16 * 1024;
const DEFAULT_TOKEN_CACHE_CAPACITY: usize = 10_000;
