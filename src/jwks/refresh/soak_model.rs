//! The model: what a validator may and must do, given its requests and the published keys.

use std::{collections::BTreeSet, ops::Range, time::Duration};

use super::soak::{COOLDOWN, DAY, MINUTE};

#[derive(Debug, Default)]
pub(super) struct Model {
    /// The key ids of the last successful fetch, and its time.
    pub(super) known: Option<(BTreeSet<String>, Duration)>,
    /// The number of failures since then, and the time of the last one.
    failures: Option<(u32, Duration)>,
    /// The permits for unknown key ids, as ten seconds each: a lower and an upper bound, since the
    /// jitter of freshness hides which fetches took a permit.
    pub(super) credit: Range<Duration>,
    counted_at: Duration,
}

impl Model {
    /// A model with all permits.
    pub(super) fn new() -> Self {
        let full = 2 * COOLDOWN;
        Self { credit: full..full, ..Self::default() }
    }

    pub(super) fn knows(&self, kid: &str, now: Duration) -> bool {
        self.known.as_ref().is_some_and(|(kids, at)| kids.contains(kid) && now < *at + DAY)
    }

    /// When a fetch without a permit may start, and when it must.
    pub(super) fn due(&self) -> Range<Duration> {
        match (&self.known, self.failures) {
            (_, Some((count, at))) => {
                // If keys expire before the next retry, the retry is at their expiry.
                let expiry = self.known.as_ref().map(|(_, success)| *success + DAY);
                let expiry = expiry.filter(|expiry| at < *expiry);
                let held = expiry.is_some();
                let (first, most) = if held { (5_000, 60_000) } else { (250, 1_000) };
                let pause = Duration::from_millis((first << (count - 1).min(10)).min(most));
                (at + pause).min(expiry.unwrap_or(Duration::MAX))..at + pause
            }
            (Some((_, at)), None) => *at + 9 * MINUTE..*at + 11 * MINUTE,
            (None, None) => Duration::ZERO..Duration::ZERO,
        }
    }

    /// The number of fetches that may happen now: without a permit, and with one.
    pub(super) fn budget(&mut self, now: Duration) -> (u64, u64) {
        let regained = now - std::mem::replace(&mut self.counted_at, now);
        self.credit.start = (self.credit.start + regained).min(2 * COOLDOWN);
        self.credit.end = (self.credit.end + regained).min(2 * COOLDOWN);
        let free = u64::from(now >= self.due().start);
        (free, self.credit.end.as_secs() / COOLDOWN.as_secs())
    }

    /// Records fetches.
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
