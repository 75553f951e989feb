//! The set of rules that validators share.

use std::{
    error::Error,
    fmt,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use moka::sync::Cache;
use tokio::sync::watch;

#[cfg(feature = "redis")]
use super::redis::RedisLink;
use super::{
    builder::RevocationsBuilder,
    rule::{Change, Rule, millis},
    rules::{RuleLimits, Rules, TargetHasher, TokenHashes},
    source::{Source, SourceState},
    status::RevocationStatus,
};
use crate::{clock::Clock, error::ConfigError, issuer::Issuer};

/// Rules that refuse tokens of one Logto tenant before they expire. A clone shares them.
///
/// Give it to each validator with
/// [`ValidatorBuilder::revocations`](crate::ValidatorBuilder::revocations).
#[derive(Clone)]
pub struct Revocations(Arc<Shared>);

struct Shared {
    source: Source,
    rules: RwLock<Rules>,
    hasher: TargetHasher,
    issuers: Vec<Issuer>,
    limits: RuleLimits,
    clock: Arc<dyn Clock>,
    changes: watch::Sender<()>,
    /// The subjects of valid tokens, if they are checked in the background.
    #[cfg(feature = "redis")]
    redis: Option<RedisLink>,
    subjects: OnceLock<Cache<String, ()>>,
}

/// Why rules could not be stored. They apply in this process, but others may not learn of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError(Box<str>);

/// Waits for changes of the rules, see [`Revocations::changes`].
#[derive(Debug)]
pub struct Changes(watch::Receiver<()>);

impl Revocations {
    /// Creates an empty set for the issuers of one tenant. A tenant with a custom domain has two.
    ///
    /// # Errors
    /// If there is no issuer.
    pub fn new<'a>(issuers: impl IntoIterator<Item = &'a Issuer>) -> Result<Self, ConfigError> {
        Self::builder(issuers).build()
    }

    /// Returns a builder for a set with other settings.
    pub fn builder<'a>(issuers: impl IntoIterator<Item = &'a Issuer>) -> RevocationsBuilder {
        RevocationsBuilder::new(issuers.into_iter().cloned().collect())
    }

    pub(super) fn from_builder(builder: RevocationsBuilder) -> Self {
        #[cfg(feature = "redis")]
        let redis = builder.redis.map(RedisLink::new);
        #[cfg(feature = "redis")]
        let source = redis
            .as_ref()
            .map_or_else(Source::this_process, |redis| Source::shared(redis.is_strict()));
        #[cfg(not(feature = "redis"))]
        let source = Source::this_process();
        Self(Arc::new(Shared {
            source,
            #[cfg(feature = "redis")]
            redis,
            rules: RwLock::new(Rules::new(builder.limits)),
            hasher: TargetHasher::default(),
            issuers: builder.issuers,
            limits: builder.limits,
            clock: builder.clock,
            changes: watch::Sender::new(()),
            subjects: OnceLock::new(),
        }))
    }

    /// Stores rules. They apply to the next request of this process.
    ///
    /// A time that is more than 5 min ahead of the clock is set to 5 min ahead. A cut-off that is
    /// older than the [longest life of a token](RevocationsBuilder::longest_token_life) is ignored.
    ///
    /// # Errors
    /// If others cannot learn of the rules. They apply in this process all the same.
    pub async fn store(&self, rules: impl IntoIterator<Item = Rule>) -> Result<(), StoreError> {
        let rules: Vec<Rule> =
            rules.into_iter().filter_map(|rule| self.within_limits(rule)).collect();
        self.apply(&rules);
        #[cfg(feature = "redis")]
        if let Some(redis) = &self.0.redis {
            redis.write(&rules, self.0.clock.unix_time(), self.0.limits).await?;
        }
        Ok(())
    }

    /// Returns all rules, for example to store them before the process ends.
    pub fn rules(&self) -> Vec<Rule> {
        self.0.rules.read().unwrap_or_else(PoisonError::into_inner).iter().collect()
    }

    /// Returns the number of rules, and what is wrong with them. It does no I/O.
    pub fn status(&self) -> RevocationStatus {
        let rules = self.0.rules.read().unwrap_or_else(PoisonError::into_inner);
        #[allow(unused_mut, reason = "changed with the feature redis")]
        let mut status = RevocationStatus {
            is_running: false,
            last_contact_secs: None,
            last_error: None,
            source: self.0.source.state(),
            rules: rules.count(),
            blocked_subjects: rules.blocked(),
            dropped_rules: rules.dropped(),
        };
        #[cfg(feature = "redis")]
        if let Some(redis) = &self.0.redis {
            redis.add_to(&mut status);
        }
        status
    }

    /// Follows the rules that other instances store in Redis. The future never completes, so spawn it.
    /// Without a [`RedisStore`](super::RedisStore), it does nothing.
    ///
    /// # Cancel safety
    /// If you drop the future, rules of others do not arrive any more.
    ///
    /// # Runtime
    /// Requires a tokio runtime with I/O and time enabled.
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub fn run(&self) -> impl Future<Output = ()> + Send + use<> {
        let revocations = self.clone();
        async move {
            if let Some(link) = &revocations.0.redis {
                super::redis::run(&revocations, link).await;
            }
            std::future::pending().await
        }
    }

    /// Returns a stream of the changes from now on, for connections that outlive a request.
    ///
    /// ```
    /// use tower_logto::{AccessToken, AuthError, Validator, revocation::Revocations};
    ///
    /// /// Completes when the token of a WebSocket is no longer valid.
    /// async fn until_refused(
    ///     validator: Validator,
    ///     revocations: Revocations,
    ///     token: AccessToken,
    /// ) -> AuthError {
    ///     let mut changes = revocations.changes();
    ///     let expiry = token.expires_at().duration_since(std::time::SystemTime::now());
    ///     let expiry = tokio::time::sleep(expiry.unwrap_or_default());
    ///     tokio::pin!(expiry);
    ///     loop {
    ///         if let Err(error) = validator.recheck(&token) {
    ///             return error;
    ///         }
    ///         tokio::select! {
    ///             () = changes.next() => {}
    ///             () = &mut expiry => return AuthError::forbidden("the token expired"),
    ///         }
    ///     }
    /// }
    /// ```
    pub fn changes(&self) -> Changes {
        Changes(self.0.changes.subscribe())
    }

    pub(crate) fn issuers(&self) -> &[Issuer] {
        &self.0.issuers
    }

    pub(crate) fn generation(&self) -> u64 {
        self.0.source.generation()
    }

    /// Returns whether a token should wait for the first rules.
    pub(crate) fn are_loading(&self) -> bool {
        self.0.source.state() == SourceState::Loading
    }

    /// Waits for the first rules, for up to 1 s.
    pub(crate) async fn loaded(&self) {
        self.0.source.loaded().await;
    }

    pub(crate) fn hasher(&self) -> &TargetHasher {
        &self.0.hasher
    }

    pub(crate) fn longest_token_life(&self) -> Duration {
        self.0.limits.longest_token_life
    }

    pub(crate) fn revoke(&self, token: &TokenHashes) -> bool {
        self.0.rules.read().unwrap_or_else(PoisonError::into_inner).revoke(token)
    }

    /// Records the subjects of valid tokens from now on.
    pub(super) fn record_subjects(&self, capacity: u64) {
        let life = self.longest_token_life();
        let subjects = || Cache::builder().max_capacity(capacity).time_to_live(life).build();
        self.0.subjects.get_or_init(subjects);
    }

    /// Records the subject of a user's token that was validated.
    pub(crate) fn record_subject(&self, subject: &str) {
        if let Some(subjects) = self.0.subjects.get() {
            subjects.insert(subject.into(), ());
        }
    }

    pub(super) fn recorded_subjects(&self) -> Vec<Arc<String>> {
        let subjects = self.0.subjects.get().into_iter().flatten();
        subjects.map(|(subject, ())| subject).collect()
    }

    /// Returns whether all tokens of a subject are refused, and not for good.
    pub(super) fn blocks(&self, subject: &str) -> bool {
        let rules = self.0.rules.read().unwrap_or_else(PoisonError::into_inner);
        rules.blocks(self.0.hasher.subject(subject))
    }

    #[cfg(feature = "redis")]
    pub(super) fn source(&self) -> &Source {
        &self.0.source
    }

    #[cfg(feature = "redis")]
    pub(super) fn limits(&self) -> RuleLimits {
        self.0.limits
    }

    /// Applies rules that another instance stored.
    #[cfg(feature = "redis")]
    pub(super) fn apply_received(&self, rules: Vec<Rule>) {
        let rules = rules.into_iter().filter_map(|rule| self.within_limits(rule));
        self.apply(&rules.collect::<Vec<_>>());
    }

    /// Applies rules in this process.
    pub(super) fn apply(&self, rules: &[Rule]) {
        let mut is_changed = false;
        let mut dropped = 0;
        // Requests wait for the lock, so it is held for a part of a long list only.
        for part in rules.chunks(RULES_PER_LOCK) {
            let mut set = self.0.rules.write().unwrap_or_else(PoisonError::into_inner);
            for rule in part {
                is_changed |= set.add(rule, &self.0.hasher);
            }
            dropped += set.prune(self.0.clock.unix_time());
        }
        if dropped > 0 {
            tracing::error!(
                dropped,
                "there are more revocation rules than RevocationsBuilder::max_rules, so the oldest \
                 cut-offs were dropped: tokens that they refused are accepted again"
            );
        }
        if is_changed {
            self.0.source.next_generation();
            self.0.changes.send_replace(());
        }
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }

    pub(super) fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.clock().unix_time()
    }

    /// Sets a time in the far future to the latest accepted one. `None` if no valid token can be
    /// older than the cut-off.
    fn within_limits(&self, rule: Rule) -> Option<Rule> {
        let now = self.0.clock.unix_time();
        let oldest = millis(now.saturating_sub(self.0.limits.longest_token_life));
        let is_expired = rule.key.change == Change::CutOff && rule.at < oldest;
        let latest = millis(now.saturating_add(MAX_AHEAD));
        (!is_expired).then(|| Rule { at: rule.at.min(latest), ..rule })
    }
}

impl StoreError {
    #[cfg(feature = "redis")]
    pub(super) fn new(why: &str) -> Self {
        Self(
            format!(
                "the rules apply in this process only, because Redis has not stored them: {why}"
            )
            .into(),
        )
    }
}

impl Changes {
    /// Waits for the next change. Several changes may count as one.
    ///
    /// # Cancel safety
    /// This method is cancel safe.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The set is gone, so its rules do not change any more.
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations")
            .field("issuers", &self.0.issuers)
            .field("status", &self.status())
            .finish()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for StoreError {}

const RULES_PER_LOCK: usize = 1_000;
const MAX_AHEAD: Duration = Duration::from_secs(5 * 60);
