//! The model of the simulation. It says what a validator may do and must do, given the requests and
//! the published keys.

use std::{collections::BTreeSet, ops::Range, time::Duration};

use super::soak::{COOLDOWN, DAY, MINUTE};
use crate::clock::Moment;

#[derive(Debug, Default)]
pub(super) struct Model {
    /// The key ids of the last successful fetch, and the time of that fetch.
    known: Option<(BTreeSet<String>, Moment)>,
    failures: Option<Failures>,
    /// The remaining credit for fetches that are triggered by unknown key ids. The credit grows
    /// with time, and each such fetch costs one `COOLDOWN`. The model cannot know which fetches
    /// used credit, because the refresh times have a random jitter. The credit is therefore a
    /// range.
    pub(super) credit: Range<Duration>,
    /// The monotonic time of the last call of [`budget`](Self::budget). Each call adds the time
    /// since the previous call to `credit`.
    counted_at: Duration,
}

/// The failures since the last success.
#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    /// The monotonic time of the last failure.
    at: Duration,
    /// The time from the last failure until the current keys expire. `None` if no keys were usable
    /// at the last failure.
    usable_for: Option<Duration>,
}

impl Model {
    /// Creates a model with the full credit.
    pub(super) fn new() -> Self {
        let full = 2 * COOLDOWN;
        Self { credit: full..full, ..Self::default() }
    }

    /// Returns the age of the current keys. If the wall clock and the monotonic clock disagree, the
    /// larger age counts.
    fn age(&self, now: Moment) -> Option<Duration> {
        self.known.as_ref().map(|(_, fetched_at)| now.since(*fetched_at))
    }

    pub(super) fn has_keys(&self, now: Moment) -> bool {
        self.age(now).is_some_and(|age| age < DAY)
    }

    pub(super) fn knows(&self, kid: &str, now: Moment) -> bool {
        self.has_keys(now) && self.known.as_ref().is_some_and(|(kids, _)| kids.contains(kid))
    }

    /// Returns whether the model allows a request with a known key to wait for fresh keys.
    pub(super) fn is_idle(&self, now: Moment) -> bool {
        self.failures.is_none() && self.age(now).is_some_and(|age| age >= 20 * MINUTE)
    }

    /// Returns whether a fetch that uses no credit may start.
    fn may_fetch(&self, now: Moment) -> bool {
        match (&self.known, self.failures) {
            (_, Some(failures)) => now.monotonic >= failures.at + failures.pause(),
            (Some(_), None) => self.age(now).is_some_and(|age| age >= 9 * MINUTE),
            (None, None) => true,
        }
    }

    /// Returns whether a request must start a fetch.
    pub(super) fn must_fetch(&self, now: Moment) -> bool {
        match (&self.known, self.failures) {
            (_, Some(failures)) => now.monotonic >= failures.at + failures.pause(),
            (Some((_, at)), None) => now.monotonic >= at.monotonic + 11 * MINUTE,
            (None, None) => true,
        }
    }

    /// Returns how many fetches may start now. The first number counts the fetches that use no
    /// credit. The second number counts the fetches for which enough credit remains.
    pub(super) fn budget(&mut self, now: Moment) -> (u64, u64) {
        let regained = now.monotonic - std::mem::replace(&mut self.counted_at, now.monotonic);
        self.credit.start = (self.credit.start + regained).min(2 * COOLDOWN);
        self.credit.end = (self.credit.end + regained).min(2 * COOLDOWN);
        let free = u64::from(self.may_fetch(now));
        (free, self.credit.end.as_secs() / COOLDOWN.as_secs())
    }

    /// Records fetches. `published` is the set of the key ids that were fetched, or `None` if the
    /// fetches failed.
    pub(super) fn fetched(
        &mut self,
        fetches: u64,
        published: Option<BTreeSet<String>>,
        now: Moment,
    ) {
        let pay = |fetches: u64| COOLDOWN * u32::try_from(fetches).unwrap();
        let (least, most) = (fetches.saturating_sub(1), fetches);
        let (least, most) = match now {
            _ if self.must_fetch(now) => (least, least),
            _ if !self.may_fetch(now) => (most, most),
            _ => (least, most),
        };
        self.credit.start = self.credit.start.saturating_sub(pay(most));
        self.credit.end = self.credit.end.saturating_sub(pay(least));
        match published {
            _ if fetches == 0 => {}
            Some(kids) => (self.known, self.failures) = (Some((kids, now)), None),
            None => {
                let before = self.failures.map_or(0, |failures| failures.count);
                let usable_for = self.age(now).and_then(|age| DAY.checked_sub(age));
                self.failures = Some(Failures {
                    count: before + u32::try_from(fetches).unwrap(),
                    at: now.monotonic,
                    usable_for: usable_for.filter(|left| !left.is_zero()),
                });
            }
        }
    }
}

impl Failures {
    fn pause(self) -> Duration {
        let (first, most) = if self.usable_for.is_some() { (5_000, 60_000) } else { (250, 1_000) };
        let pause = Duration::from_millis((first << (self.count - 1).min(10)).min(most));
        // If the keys expire before the next retry, the validator retries when they expire.
        pause.min(self.usable_for.unwrap_or(Duration::MAX))
    }
}
