//! The set of rules. For each target, it contains the latest time of each kind of change.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    time::Duration,
};

use super::rule::{Change, Rule, RuleKey, Target, millis};
use crate::issuer::MAX_CLOCK_TOLERANCE;

/// The rules, by the seeded hash of their target.
///
/// Targets with the same hash share their rules. For a million targets, the probability that any
/// two of them have the same hash is 3 in 100 million.
#[derive(Debug)]
pub(super) struct Rules {
    targets: HashMap<u64, Entry, BuildHasherDefault<NoHash>>,
    /// The time of the cut-off for everyone's tokens, in milliseconds since the Unix epoch. 0 means
    /// that there is no such cut-off.
    everyone: u64,
    limits: RuleLimits,
    /// The Unix time at which the expired cut-offs were last dropped.
    pruned_at: Duration,
    /// The number of cut-offs that were dropped because there were more rules than `max_rules`.
    dropped: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct RuleLimits {
    pub(super) max_rules: usize,
    pub(super) margin: Duration,
    pub(super) longest_token_life: Duration,
}

impl RuleLimits {
    /// Returns the time of the oldest cut-off to keep, in milliseconds since the Unix epoch. If a
    /// cut-off is older than this time, all tokens that it refuses have already expired. The
    /// calculation includes the longest clock tolerance.
    pub(super) fn oldest_cut_off(&self, now: Duration) -> u64 {
        millis(now.saturating_sub(self.keep_cut_offs_for()))
    }

    pub(super) fn keep_cut_offs_for(&self) -> Duration {
        self.longest_token_life + self.margin + MAX_CLOCK_TOLERANCE
    }
}

/// For one target, the latest time of each kind of change, in milliseconds since the Unix epoch. 0
/// means that there was no such change.
#[derive(Debug)]
struct Entry {
    target: Target,
    cut_off: u64,
    block: u64,
    reactivate: u64,
    delete: u64,
}

/// The `iat` of a token, and the hashes of its claims. The hashes are looked up in the rules.
#[derive(Debug)]
pub(crate) struct TokenHashes {
    pub(crate) subject: u64,
    pub(crate) client: Option<u64>,
    pub(crate) organization: Option<u64>,
    pub(crate) member: Option<u64>,
    pub(crate) token_id: Option<u64>,
    /// `iat` in seconds, or 0 if the token has no `iat`. A token without `iat` is refused even if
    /// no rule applies to it, because its lifetime is unknown.
    pub(crate) issued_at: u64,
}

/// Hashes targets with the random seed of one set of rules. An attacker who does not know the seed
/// cannot choose values that collide.
#[derive(Debug, Default)]
pub(crate) struct TargetHasher(RandomState);

impl TargetHasher {
    pub(crate) fn subject(&self, subject: &str) -> u64 {
        self.0.hash_one((0_u8, subject, ""))
    }

    pub(crate) fn client(&self, client_id: &str) -> u64 {
        self.0.hash_one((1_u8, client_id, ""))
    }

    pub(crate) fn organization(&self, organization: &str) -> u64 {
        self.0.hash_one((2_u8, organization, ""))
    }

    pub(crate) fn member(&self, organization: &str, subject: &str) -> u64 {
        self.0.hash_one((3_u8, organization, subject))
    }

    pub(crate) fn token_id(&self, jwt_id: &str) -> u64 {
        self.0.hash_one((4_u8, jwt_id, ""))
    }

    /// Returns the hash of a target, or `None` for [`Target::Everyone`].
    fn target(&self, target: &Target) -> Option<u64> {
        Some(match target {
            Target::Subject(subject) => self.subject(subject),
            Target::Client(client_id) => self.client(client_id),
            Target::Organization(organization) => self.organization(organization),
            Target::Member { organization, subject } => self.member(organization, subject),
            Target::TokenId(jwt_id) => self.token_id(jwt_id),
            Target::Everyone => return None,
        })
    }
}

impl Rules {
    pub(super) fn new(limits: RuleLimits) -> Self {
        let targets = HashMap::default();
        Self { targets, everyone: 0, limits, pruned_at: Duration::ZERO, dropped: 0 }
    }

    /// Returns the number of targets that have a rule.
    pub(super) fn count(&self) -> usize {
        self.targets.len() + usize::from(self.everyone > 0)
    }

    /// Returns the number of subjects whose tokens are all refused.
    pub(super) fn blocked(&self) -> usize {
        self.targets.values().filter(|entry| entry.is_blocked()).count()
    }

    /// Returns how many cut-offs were dropped because there were more rules than `max_rules`.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns all rules, for example to write them to Redis.
    pub(super) fn iter(&self) -> impl Iterator<Item = Rule> {
        let everyone = (self.everyone > 0).then(|| {
            let key = RuleKey { change: Change::CutOff, target: Target::Everyone };
            Rule { key, at: self.everyone }
        });
        everyone.into_iter().chain(self.targets.values().flat_map(Entry::rules))
    }

    /// Adds a rule. Returns `false` if the set already has this rule with the same or a later time.
    pub(super) fn add(&mut self, key: &RuleKey, at: u64, hasher: &TargetHasher) -> bool {
        let RuleKey { change, target } = key;
        let time = match hasher.target(target) {
            None => &mut self.everyone,
            Some(hash) => self
                .targets
                .entry(hash)
                .or_insert_with(|| Entry::new(target.clone()))
                .time_mut(*change),
        };
        let is_later = at > *time;
        *time = (*time).max(at);
        is_later
    }

    /// Drops the expired cut-offs, at most once per minute. A cut-off has expired when all tokens
    /// that it refuses have expired. If there are still too many rules, drops the oldest cut-offs.
    /// Never drops blocks. Returns how many cut-offs were dropped before they expired.
    pub(super) fn prune(&mut self, now: Duration) -> usize {
        if now >= self.pruned_at.saturating_add(PRUNE_INTERVAL) || now < self.pruned_at {
            self.pruned_at = now;
            let oldest = self.limits.oldest_cut_off(now);
            self.targets.retain(|_, entry| entry.is_permanent() || entry.cut_off >= oldest);
        }
        if self.count() <= self.limits.max_rules {
            return 0;
        }
        let cut_offs = self.targets.values().filter(|entry| !entry.is_permanent());
        let mut times: Vec<u64> = cut_offs.map(|entry| entry.cut_off).collect();
        // Drop one cut-off for each rule that exceeds `max_rules`. Drop another `max_rules / 16`
        // cut-offs to make room for the next rules.
        let excess = self.count() - self.limits.max_rules + self.limits.max_rules / 16;
        let Some(last) = excess.min(times.len()).checked_sub(1) else { return 0 };
        let newest_dropped = *times.select_nth_unstable(last).1;
        let before = self.count();
        self.targets.retain(|_, entry| entry.is_permanent() || entry.cut_off > newest_dropped);
        let dropped = before - self.count();
        self.dropped += dropped as u64;
        dropped
    }

    /// Returns whether a subject is blocked but not deleted. A reactivation can lift such a block.
    pub(super) fn blocks(&self, subject: u64) -> bool {
        self.targets.get(&subject).is_some_and(|entry| entry.is_blocked() && entry.delete == 0)
    }

    /// Returns whether a rule refuses the token.
    pub(super) fn revoke(&self, token: &TokenHashes) -> bool {
        let of = |hash: Option<u64>| hash.and_then(|hash| self.targets.get(&hash));
        let subject = of(Some(token.subject));
        if subject.is_some_and(Entry::is_blocked) {
            return true;
        }
        let others = [token.client, token.organization, token.member, token.token_id];
        let cut_offs = others.into_iter().filter_map(of).map(|entry| entry.cut_off);
        let of_subject = subject.map_or(0, |entry| entry.cut_off.max(entry.reactivate));
        let latest = cut_offs.fold(of_subject.max(self.everyone), u64::max);
        latest > 0 && token.issued_at <= latest.saturating_add(millis(self.limits.margin)) / 1000
    }
}

impl Entry {
    const fn new(target: Target) -> Self {
        Self { target, cut_off: 0, block: 0, reactivate: 0, delete: 0 }
    }

    const fn time_mut(&mut self, change: Change) -> &mut u64 {
        match change {
            Change::CutOff => &mut self.cut_off,
            Change::Block => &mut self.block,
            Change::Reactivate => &mut self.reactivate,
            Change::Delete => &mut self.delete,
        }
    }

    /// Returns whether all tokens are refused. If a block and a reactivation have the same time,
    /// the block counts.
    const fn is_blocked(&self) -> bool {
        self.delete > 0 || (self.block > 0 && self.block >= self.reactivate)
    }

    /// Returns whether the entry contains a change other than a cut-off. Such an entry must never
    /// be dropped, because rules can arrive in any order and more than once. For example, suppose
    /// that the set drops a reactivation that has lifted a block. If the same block later arrives
    /// again, the subject is wrongly blocked.
    const fn is_permanent(&self) -> bool {
        self.block > 0 || self.reactivate > 0 || self.delete > 0
    }

    fn rules(&self) -> impl Iterator<Item = Rule> {
        let changes = [
            (Change::CutOff, self.cut_off),
            (Change::Block, self.block),
            (Change::Reactivate, self.reactivate),
            (Change::Delete, self.delete),
        ];
        changes.into_iter().filter(|(_, at)| *at > 0).map(|(change, at)| {
            let key = RuleKey { change, target: self.target.clone() };
            Rule { key, at }
        })
    }
}

/// A hasher that returns the key itself, because the keys are already hashes.
#[derive(Debug, Default)]
struct NoHash(u64);

impl Hasher for NoHash {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
