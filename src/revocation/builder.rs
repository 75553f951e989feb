//! The settings of a set of rules.

use std::{sync::Arc, time::Duration};

#[cfg(feature = "redis")]
use super::redis::{RedisLink, RedisStore};
use super::{revocations::Revocations, rules::RuleLimits};
use crate::{
    clock::{Clock, SystemClock},
    error::ConfigError,
    issuer::Issuer,
};

/// The settings of [`Revocations`]. [`build`](Self::build) validates them.
///
/// ```
/// use std::time::Duration;
/// use tower_logto::{Issuer, revocation::Revocations};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let revocations = Revocations::builder([&issuer])
///     .longest_token_life(Duration::from_secs(60 * 60))
///     .build()?;
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct RevocationsBuilder {
    issuers: Vec<Issuer>,
    limits: RuleLimits,
    clock: Arc<dyn Clock>,
    #[cfg(feature = "redis")]
    redis: Option<RedisStore>,
}

impl Revocations {
    /// Creates an empty set for the issuers of one tenant. A tenant with a custom domain has two
    /// issuers.
    ///
    /// # Errors
    /// If `issuers` is empty.
    pub fn new<'a>(issuers: impl IntoIterator<Item = &'a Issuer>) -> Result<Self, ConfigError> {
        Self::builder(issuers).build()
    }

    /// Returns a builder for a set whose settings differ from the defaults.
    pub fn builder<'a>(issuers: impl IntoIterator<Item = &'a Issuer>) -> RevocationsBuilder {
        RevocationsBuilder::new(issuers.into_iter().cloned().collect())
    }
}

impl RevocationsBuilder {
    fn new(issuers: Vec<Issuer>) -> Self {
        let limits = RuleLimits {
            max_rules: DEFAULT_MAX_RULES,
            margin: DEFAULT_MARGIN,
            longest_token_life: DEFAULT_LONGEST_TOKEN_LIFE,
        };
        Self {
            issuers,
            limits,
            clock: Arc::new(SystemClock),
            #[cfg(feature = "redis")]
            redis: None,
        }
    }

    /// Sets the length of the margin, which starts at the time of a change, such as the removal of
    /// a member. Tokens that are issued within the margin are refused too. The default is 2 s, and
    /// the maximum is 5 min.
    ///
    /// If a token request was in flight during the change, Logto may issue a token that does not
    /// reflect the change. The clock of the server that issues tokens can also be ahead of the
    /// clock of the server that sends webhooks. The margin covers both cases. A client that gets a
    /// new token within the margin must request another token after the margin.
    pub const fn margin(mut self, margin: Duration) -> Self {
        self.limits.margin = margin;
        self
    }

    /// Sets the longest time from `iat` to `exp` of an accepted token. The default is 24 h, the
    /// minimum is 1 min, and the maximum is 366 days.
    ///
    /// A cut-off is dropped when its age exceeds the sum of the longest token life, the
    /// [margin](Self::margin) and the longest clock tolerance (5 min). A token with a longer life
    /// could still be valid when the cut-off is dropped. Therefore, such a token is never accepted.
    /// A token without `iat` is never accepted either (RFC 9068 §2.2).
    pub const fn longest_token_life(mut self, life: Duration) -> Self {
        self.limits.longest_token_life = life;
        self
    }

    /// Sets how many targets, such as users or applications, may have a rule. The default is
    /// 1,000,000, and the minimum is 1,000. If the number of targets exceeds this limit, the oldest
    /// cut-offs are dropped. The log then shows an error, and the [status](Revocations::status)
    /// shows how many cut-offs were dropped. Blocks are never dropped. A rule takes about 150
    /// bytes.
    pub const fn max_rules(mut self, rules: usize) -> Self {
        self.limits.max_rules = rules;
        self
    }

    /// Sets the source of time. By default, the set uses the clocks of the operating system.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Shares the rules with other instances over Redis. Spawn [`Revocations::run`] to receive the
    /// rules of other instances.
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub fn redis(mut self, store: RedisStore) -> Self {
        self.redis = Some(store);
        self
    }

    /// Validates the settings and builds the set.
    ///
    /// # Errors
    /// If a setting is invalid. The error names the setting.
    pub fn build(self) -> Result<Revocations, ConfigError> {
        let refuse = |setting, advice| Err(ConfigError::new(setting, advice));
        if self.issuers.is_empty() {
            return refuse("issuers", "empty: expected the issuers of one Logto tenant");
        }
        if self.limits.margin > MAX_MARGIN {
            return refuse("margin", "must be at most 5 min");
        }
        let life = self.limits.longest_token_life;
        if life < MIN_LONGEST_TOKEN_LIFE || life > MAX_LONGEST_TOKEN_LIFE {
            return refuse("longest_token_life", "must be from 1 min to 366 days");
        }
        if self.limits.max_rules < MIN_MAX_RULES {
            return refuse("max_rules", "must be at least 1,000");
        }
        Ok(Revocations::from_parts(
            self.issuers,
            self.limits,
            self.clock,
            #[cfg(feature = "redis")]
            self.redis.map(RedisLink::new),
        ))
    }
}

const DEFAULT_MAX_RULES: usize = 1_000_000;
const MIN_MAX_RULES: usize = 1_000;
const DEFAULT_MARGIN: Duration = Duration::from_secs(2);
const MAX_MARGIN: Duration = Duration::from_secs(5 * 60);
const DEFAULT_LONGEST_TOKEN_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
const MIN_LONGEST_TOKEN_LIFE: Duration = Duration::from_secs(60);
const MAX_LONGEST_TOKEN_LIFE: Duration = Duration::from_secs(366 * 24 * 60 * 60);
