//! The set of rules that validators share.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use moka::{policy::EvictionPolicy, sync::Cache};
use tokio::sync::watch;

#[cfg(feature = "redis")]
use super::redis::RedisLink;
use super::{
    rule::Rule,
    rule_book::RuleBook,
    rules::{RuleLimits, TargetHasher, TokenHashes},
    source::{Source, SourceState},
    status::RevocationStatus,
    store_error::StoreError,
};
use crate::{clock::Clock, issuer::Issuer};

/// A set of rules that refuse tokens of one Logto tenant before the tokens expire. All clones share
/// the rules.
///
/// Pass the set to each validator with
/// [`ValidatorBuilder::revocations`](crate::ValidatorBuilder::revocations).
///
/// ```
/// use tower_logto::{Issuer, revocation::Revocations};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let revocations = Revocations::new([&issuer])?;
/// revocations.block_subject("alice").await?;
/// assert_eq!(revocations.status().blocked_subjects, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Revocations(Arc<Shared>);

struct Shared {
    issuers: Vec<Issuer>,
    book: RuleBook,
    /// The subjects of valid tokens. They are recorded only if `SubjectChecks` are used.
    subjects: OnceLock<Cache<String, ()>>,
    #[cfg(feature = "redis")]
    redis: Option<RedisLink>,
}

/// Waits for changes of the rules. [`Revocations::changes`] returns this type.
///
/// ```
/// use tower_logto::revocation::Revocations;
///
/// async fn watch(revocations: Revocations) {
///     let mut changes = revocations.changes();
///     loop {
///         changes.next().await;
///         println!("{} rules", revocations.status().rules);
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Changes(watch::Receiver<()>);

impl Revocations {
    pub(super) fn from_parts(
        issuers: Vec<Issuer>,
        limits: RuleLimits,
        clock: Arc<dyn Clock>,
        #[cfg(feature = "redis")] redis: Option<RedisLink>,
    ) -> Self {
        #[cfg(feature = "redis")]
        let source = redis.as_ref().map_or_else(Source::this_process, RedisLink::source);
        #[cfg(not(feature = "redis"))]
        let source = Source::this_process();
        Self(Arc::new(Shared {
            issuers,
            book: RuleBook::new(source, limits, clock),
            subjects: OnceLock::new(),
            #[cfg(feature = "redis")]
            redis,
        }))
    }

    /// Stores rules. In this process, the rules apply from the next request on.
    ///
    /// If the time of a rule is more than 5 min ahead of this machine's clock, this method replaces
    /// the time with the clock's time plus 5 min. If a [cut-off](Rule) is so old that all tokens
    /// that it refuses have expired, this method ignores the cut-off. See
    /// [`longest_token_life`](super::RevocationsBuilder::longest_token_life) for the age limit.
    ///
    /// With a `RedisStore`, the write to Redis has a timeout of 2 s per 500 rules.
    ///
    /// # Errors
    /// Returns an error if the rules could not be written to Redis. The rules still apply in this
    /// process. If the `RedisStore` is not read-only, `Revocations::run` writes the rules to Redis
    /// later. If `run` is connected to Redis, it writes the rules within about 60 s. If `run` is
    /// disconnected, it writes the rules after it reconnects.
    ///
    /// After an error, Redis may already contain some of the rules, because this method writes them
    /// in batches of 500. It is safe to store all rules again.
    ///
    /// # Cancel safety
    /// If you drop the future after its first poll, this process already applies the rules, but
    /// Redis may lack them. When `Revocations::run` next loads all rules, it writes the missing
    /// rules to Redis, unless the `RedisStore` is read-only.
    pub async fn store(&self, rules: impl IntoIterator<Item = Rule>) -> Result<(), StoreError> {
        let rules = self.0.book.apply(rules);
        #[cfg(feature = "redis")]
        if let Some(redis) = &self.0.redis {
            redis.write(&rules, &self.0.book).await?;
        }
        drop(rules);
        Ok(())
    }

    /// Returns all rules, for example to save them in a file before the process ends.
    pub fn rules(&self) -> Vec<Rule> {
        self.0.book.rules().iter().collect()
    }

    /// Returns the number of rules and the state of their source. Does no I/O.
    pub fn status(&self) -> RevocationStatus {
        let rules = self.0.book.rules();
        #[allow(unused_mut, reason = "only the feature redis changes the variable")]
        let mut status = RevocationStatus {
            is_running: false,
            last_contact_secs: None,
            last_error: None,
            source: self.0.book.source.state(),
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

    /// Applies the rules that other instances store in Redis. The future never completes, so spawn
    /// it. Without a [`RedisStore`](super::RedisStore), the future does nothing.
    ///
    /// # Cancel safety
    /// If you drop the future, new rules of other instances no longer arrive.
    ///
    /// # Runtime
    /// Requires a tokio runtime with I/O and time enabled.
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub fn run(&self) -> impl Future<Output = ()> + Send + use<> {
        let revocations = self.clone();
        async move {
            if let Some(link) = &revocations.0.redis {
                super::redis::run(&revocations.0.book, link).await;
            }
            std::future::pending().await
        }
    }

    /// Returns a [`Changes`], which reports changes that happen to the rules after this call. It
    /// also reports when a strict `RedisStore` starts to refuse every token. Use it for connections
    /// that outlive the request that opened them, such as WebSockets.
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
        Changes(self.0.book.changes())
    }

    pub(crate) fn issuers(&self) -> &[Issuer] {
        &self.0.issuers
    }

    pub(crate) fn generation(&self) -> u64 {
        self.0.book.source.generation()
    }

    /// Returns whether the rules are being loaded for the first time. If so, requests should wait.
    pub(crate) fn are_loading(&self) -> bool {
        self.0.book.source.state() == SourceState::Loading
    }

    /// Waits up to 1 s for the rules to be loaded for the first time.
    pub(crate) async fn loaded(&self) {
        self.0.book.source.loaded().await;
    }

    pub(crate) fn hasher(&self) -> &TargetHasher {
        &self.0.book.hasher
    }

    pub(crate) fn longest_token_life(&self) -> Duration {
        self.0.book.limits.longest_token_life
    }

    pub(crate) fn revoke(&self, token: &TokenHashes) -> bool {
        self.0.book.revoke(token)
    }

    /// Starts to record the subjects of valid tokens.
    pub(super) fn record_subjects(&self, capacity: u64) {
        let life = self.longest_token_life();
        self.0.subjects.get_or_init(|| {
            Cache::builder()
                .max_capacity(capacity)
                .time_to_live(life)
                .eviction_policy(EvictionPolicy::lru())
                .build()
        });
    }

    /// Records the subject of a user's valid token. Does nothing unless `record_subjects` was
    /// called.
    pub(crate) fn record_subject(&self, subject: &str) {
        if let Some(subjects) = self.0.subjects.get() {
            subjects.insert(subject.into(), ());
        }
    }

    pub(super) fn recorded_subjects(&self) -> Vec<Arc<String>> {
        let subjects = self.0.subjects.get().into_iter().flatten();
        subjects.map(|(subject, ())| subject).collect()
    }

    /// Returns whether a subject is blocked but not deleted. A reactivation can lift such a block.
    pub(super) fn blocks(&self, subject: &str) -> bool {
        self.0.book.rules().blocks(self.0.book.hasher.subject(subject))
    }

    #[cfg(feature = "axum")]
    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.0.book.clock
    }

    pub(super) fn now(&self) -> SystemTime {
        self.0.book.now()
    }
}

impl Changes {
    /// Waits for the next change. Several changes in quick succession may be reported as one
    /// change.
    ///
    /// # Cancel safety
    /// This method is cancel safe.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The set was dropped, so its rules no longer change.
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
