//! The settings of a validator, and their validation.

mod derive;

use std::{sync::Arc, time::Duration};

use reqwest::ClientBuilder;

use crate::{
    bearer::challenge::{ChallengeSettings, GuardsName, RefusalLevel},
    clock::{Clock, SystemClock},
    error::ConfigError,
    escape::is_quotable,
    http_client::HttpClients,
    issuer::TrustedIssuer,
    jwks::{key_store::KeyStore, refresh::RefreshPolicy, snapshot::KeySnapshot},
    metrics::TokenMetrics,
    url::parse_url,
    validator::{
        IssuerEntry, Validator, ValidatorInner,
        cache::TokenCache,
        claims::ClaimRules,
        revocation::RevocationSets,
        signature_checks::{QueueLimits, SignatureChecks},
    },
};

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
    all_alike: bool,
    challenge: ChallengeSettings,
    refresh: RefreshPolicy,
    clients: HttpClients,
    clock: Arc<dyn Clock>,
    max_token_size: usize,
    token_cache_capacity: usize,
    queue: QueueLimits,
    /// The validator that the new validator is derived from.
    origin: Option<Validator>,
    /// Whether the new validator shares the keys, the cache and the queue of `origin`.
    shares: bool,
    initial_keys: Option<KeySnapshot>,
    revocations: RevocationSets,
}

impl Default for ValidatorBuilder {
    fn default() -> Self {
        Self {
            issuers: Vec::new(),
            all_alike: false,
            challenge: ChallengeSettings::default(),
            refresh: RefreshPolicy::default(),
            clients: HttpClients::default(),
            clock: Arc::new(SystemClock),
            max_token_size: DEFAULT_MAX_TOKEN_SIZE,
            token_cache_capacity: DEFAULT_TOKEN_CACHE_CAPACITY,
            queue: QueueLimits::default(),
            origin: None,
            shares: false,
            initial_keys: None,
            revocations: RevocationSets::default(),
        }
    }
}

impl ValidatorBuilder {
    /// Trusts an issuer. A validator needs at least one issuer. Each issuer may be added only once.
    ///
    /// If the validator trusts several issuers, each guard must name the required issuer with
    /// [`Require::issuer`](crate::Require::issuer), because two tenants can have organizations with
    /// the same id.
    pub fn trust(mut self, trusted: TrustedIssuer) -> Self {
        self.issuers.push(trusted);
        self
    }

    /// Permits guards that name no issuer and no audience, even if the validator trusts several
    /// issuers or audiences.
    ///
    /// If scopes of different issuers or audiences have the same name, such a guard does not
    /// distinguish between them. If organizations of different issuers have the same id, the guard
    /// does not distinguish between these organizations either. Use this setting for one tenant
    /// with two domains. Do not use it for two tenants, or for two APIs whose scopes have the same
    /// names.
    pub const fn trust_all_alike(mut self) -> Self {
        self.all_alike = true;
        self
    }

    /// Sets the `realm` of challenges (RFC 9110 §11.5). By default, challenges have no realm.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.challenge.realm = Some(realm.into());
        self
    }

    /// Sets the public URL of the RFC 9728 document. Every challenge then contains this URL. By
    /// default, challenges contain no such URL.
    ///
    /// [`ProtectedResourceMetadata`](crate::ProtectedResourceMetadata) creates the document.
    pub fn resource_metadata(mut self, url: impl Into<String>) -> Self {
        self.challenge.resource_metadata = Some(url.into());
        self
    }

    /// Sets the level at which refusals are logged. The default is debug.
    ///
    /// A log line contains text from the request and from the token. The text is escaped and
    /// truncated. If a mistake in the program causes the response 500, the refusal is logged as an
    /// error, regardless of this setting. The crate limits the number of these error lines.
    pub const fn log_refusals_at(mut self, level: tracing::Level) -> Self {
        self.challenge.log_level = RefusalLevel(level);
        self
    }

    /// Sets how long keys are fresh after a fetch. The default is 10 min, and `duration` must be
    /// from 1 s to 24 h. After each fetch, the validator adds a random jitter of up to ±10 % to
    /// `duration`.
    ///
    /// When the keys are no longer fresh, the next request starts a refresh in the background. The
    /// request itself is validated with the current keys, unless the keys are older than twice
    /// `duration`. In that case, the request waits for fresh keys for up to 1 s.
    pub const fn keys_fresh_for(mut self, duration: Duration) -> Self {
        self.refresh.fresh_for = duration;
        self.shares = false;
        self
    }

    /// Limits how often unknown key ids may start a refresh. Two refreshes may start immediately.
    /// After that, one refresh may start per `duration`. The default is 5 s, and the minimum is
    /// 1 s.
    pub const fn unknown_key_cooldown(mut self, duration: Duration) -> Self {
        self.refresh.unknown_key_cooldown = duration;
        self.shares = false;
        self
    }

    /// Sets two limits to the same value: how many requests may wait for the first keys, and how
    /// many requests with an unknown key id may wait for a refresh in flight. The default is
    /// 16,384, and the value must be from 1 to 1,000,000. A waiting request takes about 3 KB of
    /// memory. Beyond the limit, a request that needs the first keys gets 503, and a request with
    /// an unknown key id gets 429.
    pub const fn max_waiting(mut self, requests: usize) -> Self {
        self.refresh.max_waiting = requests;
        self.shares = false;
        self
    }

    /// Sets how many requests with an unknown key id may wait until the next refresh is permitted.
    /// The default is 256, and the maximum is 1,000,000. Requests beyond the limit get 429 with
    /// `Retry-After`.
    pub const fn max_waiting_unknown(mut self, requests: usize) -> Self {
        self.refresh.max_waiting_unknown = requests;
        self.shares = false;
        self
    }

    /// Sets the maximum age of the keys since the last successful fetch. While refreshes fail, the
    /// validator uses stale keys up to this age. After that, requests with a token get 503 until a
    /// fetch succeeds. The default is 24 h. The minimum is the value of
    /// [`keys_fresh_for`](Self::keys_fresh_for).
    pub const fn serve_stale_keys_for(mut self, duration: Duration) -> Self {
        self.refresh.serve_stale_for = duration;
        self.shares = false;
        self
    }

    /// Starts with the keys of an earlier validator. With these keys, a service that restarts while
    /// Logto is down can accept tokens. The age of the keys still counts from their original fetch.
    /// The first request starts a refresh.
    ///
    /// If the snapshot contains no usable keys for an issuer, the validator fetches the keys of
    /// that issuer as usual. [`KeySnapshot`] explains how to store a snapshot.
    pub fn initial_keys(mut self, snapshot: KeySnapshot) -> Self {
        self.initial_keys = Some(snapshot);
        self
    }

    /// Refuses the tokens that a rule of this set revokes. The set applies only to tokens of the
    /// issuers for which the set was created.
    ///
    /// If the validator trusts several tenants, add one set for each tenant. Derived validators
    /// have the same sets.
    #[cfg(feature = "revocation")]
    #[cfg_attr(docsrs, doc(cfg(feature = "revocation")))]
    pub fn revocations(mut self, revocations: &crate::revocation::Revocations) -> Self {
        self.revocations.add(revocations);
        self
    }

    /// Sets the size of the largest accepted token in bytes. The default is 16 KiB, and the minimum
    /// is 512 bytes.
    pub const fn max_token_size(mut self, bytes: usize) -> Self {
        self.max_token_size = bytes;
        self
    }

    /// Sets how many validated tokens are cached. The default is 10,000, and the value 0 disables
    /// the cache.
    ///
    /// The signature of a cached token is not checked again. Every cache hit checks whether the
    /// token has expired, and whether its key is still in the issuer's key set. A token of the
    /// usual size takes about 600 bytes. A larger token counts as several tokens.
    pub const fn token_cache_capacity(mut self, tokens: usize) -> Self {
        self.token_cache_capacity = tokens;
        self.shares = false;
        self
    }

    /// Sets how many requests may wait for a signature check during a flood of forged tokens. The
    /// default is 16,384, and the value must be from 1 to 1,000,000. A waiting request takes about
    /// 3 KB of memory. Requests beyond the limit get 503.
    ///
    /// If tokens with bad signatures take too much time, all signature checks wait in a queue. The
    /// queue uses a quarter of the cores, but at least one core. Cached tokens never wait. The
    /// queue gives priority to subjects that already had a valid token. If 20 tokens with the same
    /// subject and a bad signature arrive within a minute, the subject loses this priority for the
    /// rest of that minute.
    pub const fn max_queued_checks(mut self, requests: usize) -> Self {
        self.queue.max_queued = requests;
        self.shares = false;
        self
    }

    /// Sets how long a request may wait for a signature check during a flood of forged tokens. The
    /// default is 5 s, and `duration` must be from 100 ms to 60 s. After that time, the request
    /// gets 503.
    pub const fn max_queue_time(mut self, duration: Duration) -> Self {
        self.queue.max_time = duration;
        self.shares = false;
        self
    }

    /// Sets a function that returns the builder of the HTTP client for fetching keys. Use this
    /// setting for a proxy, a private CA or a user agent. The crate calls the function once per
    /// issuer, at the first fetch.
    ///
    /// The crate overrides the builder's settings for redirects, timeout, compression and
    /// connection pooling. The client does not use a proxy for a loopback address.
    pub fn http_client_builder(
        mut self,
        make: impl Fn() -> ClientBuilder + Send + Sync + 'static,
    ) -> Self {
        self.clients = HttpClients::from_fn(make);
        self.shares = false;
        self
    }

    /// Sets the source of time. The default reads the clocks of the operating system.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self.shares = false;
        self
    }

    /// Validates the settings and builds the validator. This method sends no request and starts no
    /// task.
    ///
    /// # Errors
    /// Returns an error if a setting is invalid. The error names the setting.
    pub fn build(self) -> Result<Validator, ConfigError> {
        self.check()?;
        let issuers = self.issuers.iter().map(|trusted| self.entry(trusted).map(Arc::new));
        let issuers = issuers.collect::<Result<_, _>>()?;
        let guards_name = self.guards_name();
        let shared = self.shared_origin().map(|origin| &origin.0);
        let cache = shared.map_or_else(
            || TokenCache::new(self.token_cache_capacity),
            |shared| shared.cache.clone(),
        );
        let signatures = shared.map_or_else(
            || SignatureChecks::new(self.queue, Arc::clone(&self.clock)),
            |shared| shared.signatures.clone(),
        );
        let issuer_names = self.issuers.iter().map(|one| one.issuer.as_str().into()).collect();
        let mut challenge = self.challenge;
        challenge.guards_name = guards_name;
        Ok(Validator::from_inner(ValidatorInner {
            issuers,
            issuer_names,
            clock: self.clock,
            max_token_size: self.max_token_size,
            challenge: Arc::new(challenge),
            cache,
            metrics: TokenMetrics::new(),
            signatures,
            refresh: self.refresh,
            clients: self.clients,
            token_cache_capacity: self.token_cache_capacity,
            queue: self.queue,
            revocations: self.revocations,
        }))
    }

    fn shared_origin(&self) -> Option<&Validator> {
        self.origin.as_ref().filter(|_| self.shares)
    }

    /// Returns whether guards must name the issuer, and whether they must name the audience. A
    /// scope belongs to one API of one issuer, and an organization belongs to one issuer. If the
    /// validator trusts several issuers, guards must therefore name the issuer. If the validator
    /// trusts several audiences, guards must name the audience. With `trust_all_alike`, guards need
    /// not name either.
    fn guards_name(&self) -> GuardsName {
        let mut audiences = self.issuers.iter().flat_map(|trusted| &trusted.audiences);
        let first = audiences.next();
        GuardsName {
            issuer: !self.all_alike && self.issuers.len() > 1,
            audience: !self.all_alike && audiences.any(|other| Some(other) != first),
        }
    }

    fn entry(&self, trusted: &TrustedIssuer) -> Result<IssuerEntry, ConfigError> {
        let of_issuer = |error: ConfigError| error.of_issuer(trusted.issuer.as_str());
        trusted.check().map_err(of_issuer)?;
        let shared = self.shared_origin().and_then(|origin| origin.keys_of(trusted));
        let keys = shared.map_or_else(
            || {
                let clock = Arc::clone(&self.clock);
                let initial_keys = self.initial_keys.as_ref();
                KeyStore::new(trusted, self.refresh, &self.clients, clock, initial_keys)
                    .map(Arc::new)
            },
            Ok,
        );
        Ok(IssuerEntry {
            rules: ClaimRules {
                issuer: trusted.issuer.as_str().into(),
                audiences: trusted.audiences.as_slice().into(),
                organizations: trusted.organizations,
                organization_tokens_only: trusted.organization_tokens_only,
                algorithms: trusted.algorithms.as_slice().into(),
                clock_tolerance: trusted.clock_tolerance,
            },
            keys: keys.map_err(of_issuer)?,
            trusted: trusted.clone(),
            revocations: self.revocations.of(&trusted.issuer),
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
        let names: Vec<_> = self.issuers.iter().map(|trusted| &trusted.issuer).collect();
        self.revocations.check(&names)?;
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
        if self.queue.max_queued == 0 || self.queue.max_queued > MAX_MAX_WAITING {
            return refuse("max_queued_checks", "must be from 1 to 1,000,000");
        }
        if self.queue.max_time < MIN_QUEUE_TIME || self.queue.max_time > MAX_QUEUE_TIME {
            return refuse("max_queue_time", "must be from 100 ms to 60 s");
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
const MIN_QUEUE_TIME: Duration = Duration::from_millis(100);
const MAX_QUEUE_TIME: Duration = Duration::from_secs(60);
const MAX_MAX_WAITING: usize = 1_000_000;
const MIN_MAX_TOKEN_SIZE: usize = 512;
const DEFAULT_MAX_TOKEN_SIZE: usize = 16 * 1024;
const DEFAULT_TOKEN_CACHE_CAPACITY: usize = 10_000;
