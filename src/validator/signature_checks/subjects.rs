//! The subjects that already had a validated token. The signature checks of their tokens come first
//! in the queue.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    mem,
    time::Duration,
};

/// A bounded set of subjects. For each subject, it counts the tokens that have this subject and a
/// bad signature.
///
/// New subjects are added to the current generation. When the current generation is full, it
/// replaces the older generation, whose subjects are then forgotten.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    current: HashMap<SubjectHash, BadSignatures>,
    older: HashMap<SubjectHash, BadSignatures>,
}

/// A seeded hash of an issuer and a subject. A caller does not know the seed, and therefore cannot
/// find two subjects with the same hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SubjectHash(u64);

impl SubjectHash {
    pub(super) fn new(seed: &RandomState, issuer: &str, subject: &str) -> Self {
        Self(seed.hash_one((issuer, subject)))
    }
}

/// The number of bad signatures on tokens that have the same subject.
#[derive(Debug, Default, Clone, Copy)]
struct BadSignatures {
    count: u32,
    /// The time of the first counted bad signature, in whole seconds of the monotonic clock.
    since: u32,
}

impl Subjects {
    /// Adds a subject whose token was validated.
    pub(super) fn insert(&mut self, subject: SubjectHash) {
        if self.current.contains_key(&subject) {
            return;
        }
        if self.current.len() == GENERATION {
            self.older = mem::take(&mut self.current);
        }
        let bad = self.older.get(&subject).copied().unwrap_or_default();
        self.current.insert(subject, bad);
    }

    /// Counts a bad signature on a token that has this subject.
    pub(super) fn count_bad_signature(&mut self, subject: SubjectHash, now: Duration) {
        let generation =
            if self.current.contains_key(&subject) { &mut self.current } else { &mut self.older };
        let Some(bad) = generation.get_mut(&subject) else { return };
        if bad.is_over(now) {
            *bad = BadSignatures { count: 0, since: whole_seconds(now) };
        }
        bad.count = bad.count.saturating_add(1);
    }

    /// Returns whether the signature checks of this subject's tokens come first in the queue. The
    /// result is `false` if the subject is unknown, or if too many tokens with this subject had a
    /// bad signature.
    pub(super) fn come_first(&self, subject: SubjectHash, now: Duration) -> bool {
        let bad = self.current.get(&subject).or_else(|| self.older.get(&subject));
        bad.is_some_and(|bad| bad.count < MAX_BAD_SIGNATURES || bad.is_over(now))
    }
}

impl BadSignatures {
    /// Returns whether the counting period is over. The period starts with the first bad signature
    /// and lasts one minute.
    const fn is_over(self, now: Duration) -> bool {
        now.as_secs() >= self.since as u64 + MINUTE
    }
}

/// Converts a time to whole seconds. The result saturates after 136 years.
fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// The maximum number of subjects in a generation. Two generations take at most about 5 MB.
const GENERATION: usize = 65_536;
/// The limit on the number of bad signatures per minute for each subject. When a subject reaches
/// the limit, its signature checks lose their precedence until the minute ends.
const MAX_BAD_SIGNATURES: u32 = 20;
const MINUTE: u64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    #[test]
    fn unknown_subjects_do_not_come_first() {
        let mut subjects = Subjects::default();
        subjects.count_bad_signature(SubjectHash(1), NOW);
        assert!(!subjects.come_first(SubjectHash(1), NOW));
        assert!(subjects.current.is_empty() && subjects.older.is_empty());
    }

    #[test]
    fn twenty_bad_signatures_within_a_minute_end_the_precedence() {
        let mut subjects = Subjects::default();
        let alice = SubjectHash(1);
        subjects.insert(alice);
        for _ in 0..19 {
            subjects.count_bad_signature(alice, NOW);
        }
        assert!(subjects.come_first(alice, NOW));
        subjects.count_bad_signature(alice, NOW);
        assert!(!subjects.come_first(alice, NOW));
        subjects.insert(alice);
        assert!(!subjects.come_first(alice, NOW), "a good token does not reset the count");
        let later = NOW + Duration::from_secs(60);
        assert!(subjects.come_first(alice, later));
        subjects.count_bad_signature(alice, later);
        assert!(subjects.come_first(alice, later), "the count starts again");
    }

    #[test]
    fn set_is_bounded_and_keeps_the_latest_generation() {
        let mut subjects = Subjects::default();
        let bound = GENERATION as u64;
        (0..3 * bound).for_each(|hash| subjects.insert(SubjectHash(hash)));
        assert_eq!(subjects.current.len() + subjects.older.len(), 2 * GENERATION);
        assert!(!subjects.come_first(SubjectHash(0), NOW));
        assert!(subjects.come_first(SubjectHash(bound), NOW));
        assert!(subjects.come_first(SubjectHash(3 * bound - 1), NOW));
    }

    #[test]
    fn same_subject_of_another_issuer_is_another_subject() {
        let seed = RandomState::new();
        let hash = |issuer, subject| SubjectHash::new(&seed, issuer, subject);
        assert_eq!(hash("a", "alice"), hash("a", "alice"));
        assert_ne!(hash("a", "alice"), hash("b", "alice"));
        assert_ne!(hash("a", "bc"), hash("ab", "c"));
    }
}
