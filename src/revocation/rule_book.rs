//! The rules of one `Revocations` value, shared by requests and by the source of the rules.

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use super::{
    rule::{Change, Rule, millis},
    rules::{RuleLimits, Rules, TargetHasher, TokenHashes},
    source::Source,
};
use crate::clock::Clock;

/// The rules of one `Revocations` value, with their source, their limits, and a channel that
/// reports changes.
pub(crate) struct RuleBook {
    pub(super) source: Source,
    rules: RwLock<Rules>,
    pub(super) hasher: TargetHasher,
    pub(super) limits: RuleLimits,
    pub(super) clock: Arc<dyn Clock>,
    changes: watch::Sender<()>,
}

impl RuleBook {
    pub(super) fn new(source: Source, limits: RuleLimits, clock: Arc<dyn Clock>) -> Self {
        Self {
            source,
            rules: RwLock::new(Rules::new(limits)),
            hasher: TargetHasher::default(),
            limits,
            clock,
            changes: watch::Sender::new(()),
        }
    }

    pub(super) fn rules(&self) -> RwLockReadGuard<'_, Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Returns whether a rule refuses the token.
    pub(super) fn revoke(&self, token: &TokenHashes) -> bool {
        self.rules().revoke(token)
    }

    pub(super) fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.clock.unix_time()
    }

    /// Applies rules, but ignores invalid rules and expired cut-offs. If the time of a rule is more
    /// than [`MAX_AHEAD`] ahead of the clock, the time is reduced to that limit.
    ///
    /// Returns the applied rules with their original times, even if a time was reduced. The caller
    /// may write these rules to Redis. The script `store.lua` then applies the same limit again,
    /// with the clock of the Redis server.
    pub(super) fn apply(&self, rules: impl IntoIterator<Item = Rule>) -> Vec<Rule> {
        let rules: Vec<Rule> = rules
            .into_iter()
            .filter(|rule| rule.key.is_valid() && !self.is_expired(rule))
            .collect();
        let latest = millis(self.clock.unix_time().saturating_add(MAX_AHEAD));
        let mut is_changed = false;
        let mut dropped = 0;
        // Requests wait while the lock is held. The loop therefore releases the lock after each
        // part of the rules.
        for part in rules.chunks(RULES_PER_LOCK) {
            let mut set = self.rules.write().unwrap_or_else(PoisonError::into_inner);
            for rule in part {
                is_changed |= set.add(&rule.key, rule.at.clamp(1, latest), &self.hasher);
            }
            dropped += set.prune(self.clock.unix_time());
        }
        if dropped > 0 {
            tracing::error!(
                dropped,
                "there are more revocation rules than RevocationsBuilder::max_rules, so the oldest \
                 cut-offs were dropped: tokens that these cut-offs refused may be accepted again"
            );
        }
        if is_changed {
            self.source.next_generation();
            self.changes.send_replace(());
        }
        rules
    }

    /// Refuses every token until the source is opened again.
    #[cfg(feature = "redis")]
    pub(super) fn close(&self) {
        self.source.set_open(false);
        self.changes.send_replace(());
    }

    /// Returns whether the rule is an expired cut-off. If a cut-off has expired, all tokens that it
    /// refuses have also expired.
    pub(super) fn is_expired(&self, rule: &Rule) -> bool {
        let oldest = self.limits.oldest_cut_off(self.clock.unix_time());
        rule.key.change == Change::CutOff && rule.at < oldest
    }
}

const RULES_PER_LOCK: usize = 1_000;
/// How far the time of a rule may be ahead of the clock.
pub(super) const MAX_AHEAD: Duration = Duration::from_secs(5 * 60);
