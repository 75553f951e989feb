//! What a validator may and must do, told from what it was asked and what the server published.

use std::{collections::BTreeSet, ops::Range, time::Duration};

use super::soak::{COOLDOWN, DAY, MINUTE};

#[derive(Debug, Default)]
pub(super) struct Model {
    /// The key ids of the last success, and when that was.
    pub(super) known: Option<(BTreeSet<String>, Duration)>,
    /// How many failures since then, and when the last one was.
    failures: Option<(u32, Duration)>,
    /// The bucket for unknown key ids, ten seconds a piece: at least and at most so much, as the
    /// jitter of freshness hides which fetches it paid for.
    pub(super) credit: Range<Duration>,
    counted_at: Duration,
}

impl Model {
    /// With a full bucket.
    pub(super) fn new() -> Self {
        let full = 2 * COOLDOWN;
        Self { credit: full..full, ..Self::default() }
    }

    pub(super) fn knows(&self, kid: &str, now: Duration) -> bool {
        self.known.as_ref().is_some_and(|(kids, at)| kids.contains(kid) && now < *at + DAY)
    }

    /// When a fetch that costs nothing may begin, and when it must.
    pub(super) fn due(&self) -> Range<Duration> {
        match (&self.known, self.failures) {
            (_, Some((count, at))) => {
                // Keys that are about to die are worth an attempt at that moment.
                let death = self.known.as_ref().map(|(_, success)| *success + DAY);
                let death = death.filter(|death| at < *death);
                let held = death.is_some();
                let (first, most) = if held { (5_000, 60_000) } else { (250, 1_000) };
                let pause = Duration::from_millis((first << (count - 1).min(10)).min(most));
                (at + pause).min(death.unwrap_or(Duration::MAX))..at + pause
            }
            (Some((_, at)), None) => *at + 9 * MINUTE..*at + 11 * MINUTE,
            (None, None) => Duration::ZERO..Duration::ZERO,
        }
    }

    /// Fetches that may happen now: free ones, and those the bucket pays for.
    pub(super) fn budget(&mut self, now: Duration) -> (u64, u64) {
        let regained = now - std::mem::replace(&mut self.counted_at, now);
        self.credit.start = (self.credit.start + regained).min(2 * COOLDOWN);
        self.credit.end = (self.credit.end + regained).min(2 * COOLDOWN);
        let free = u64::from(now >= self.due().start);
        (free, self.credit.end.as_secs() / COOLDOWN.as_secs())
    }

    /// So many fetches happened.
    pub(super) fn fetched(
        &mut self,
        fetches: u64,
        published: Option<BTreeSet<String>>,
        now: Duration,
    ) {
        let due = self.due();
        let pay = |fetches: u64| COOLDOWN * u32::try_from(fetches).unwrap();
        let (least, most) = (fetches.saturating_sub(1), fetches);
        let (least, most) = match now {
            _ if now >= due.end => (least, least),
            _ if now < due.start => (most, most),
            _ => (least, most),
        };
        self.credit.start = self.credit.start.saturating_sub(pay(most));
        self.credit.end = self.credit.end.saturating_sub(pay(least));
        match published {
            _ if fetches == 0 => {}
            Some(kids) => (self.known, self.failures) = (Some((kids, now)), None),
            None => {
                let before = self.failures.map_or(0, |(count, _)| count);
                self.failures = Some((before + u32::try_from(fetches).unwrap(), now));
            }
        }
    }
}
