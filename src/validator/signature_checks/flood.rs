//! Detects floods, which are periods in which failed signature checks take too much time.

use std::time::Duration;

/// Measures the time that signature checks take, in windows of one second.
///
/// A flood starts if the total time of the failed checks in a window exceeds both of these limits:
/// - `FAILED_TIME`;
/// - a quarter of the total time of all checks in the window.
///
/// The number of failures does not matter. If it did, a few hundred forged tokens per second would
/// move all checks of a busy service to the queue.
#[derive(Debug, Default)]
pub(super) struct FloodDetector {
    window: Window,
    /// The time of the monotonic clock at which the current flood ends, unless further failed
    /// checks prolong the flood.
    ends_at: Option<Duration>,
    during_flood: Counts,
}

#[derive(Debug, Default)]
struct Window {
    started_at: Duration,
    counts: Counts,
    failed_time: Duration,
    total_time: Duration,
}

/// The number of signature checks, and how many of them failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) checked: u64,
    pub(super) failed: u64,
}

/// The start or the end of a flood. Both are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FloodChange {
    /// A flood started. Contains the counts of the current window.
    Started(Counts),
    /// A flood ended. Contains the counts of the whole flood.
    Ended(Counts),
}

impl FloodDetector {
    /// Records a check that has just ended. `took` is the time that the check took.
    pub(super) fn record(
        &mut self,
        now: Duration,
        took: Duration,
        failed: bool,
    ) -> Option<FloodChange> {
        let ended = self.end(now);
        if now.saturating_sub(self.window.started_at) >= WINDOW {
            self.window = Window { started_at: now, ..Window::default() };
        }
        self.window.record(took, failed);
        if self.ends_at.is_some() {
            self.during_flood.record(failed);
        }
        if !failed || !self.window.is_flooded() {
            return ended;
        }
        let was_on = self.ends_at.replace(now + LASTS).is_some();
        if was_on {
            return None;
        }
        self.during_flood = self.window.counts;
        Some(FloodChange::Started(self.window.counts))
    }

    /// Ends the current flood if its end time has passed.
    pub(super) fn end(&mut self, now: Duration) -> Option<FloodChange> {
        self.ends_at.take_if(|ends_at| now >= *ends_at)?;
        Some(FloodChange::Ended(self.during_flood))
    }

    /// Returns the time of the monotonic clock at which the current flood ends.
    pub(super) const fn ends_at(&self) -> Option<Duration> {
        self.ends_at
    }
}

impl Window {
    fn record(&mut self, took: Duration, failed: bool) {
        self.counts.record(failed);
        self.total_time += took;
        if failed {
            self.failed_time += took;
        }
    }

    fn is_flooded(&self) -> bool {
        self.failed_time > FAILED_TIME && self.failed_time * 4 > self.total_time
    }
}

impl Counts {
    const fn record(&mut self, failed: bool) {
        self.checked += 1;
        self.failed += failed as u64;
    }
}

const WINDOW: Duration = Duration::from_secs(1);
/// One of the two limits on the total time of the failed checks in a window. The limit is 2 % of
/// one core. Such a load has no noticeable effect on a service.
const FAILED_TIME: Duration = Duration::from_millis(20);
/// A flood ends when a countdown of this length has elapsed. If a check fails, and the failed
/// checks in the current window then exceed both limits that `FloodDetector` describes, the
/// countdown restarts.
const LASTS: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: Duration = Duration::from_micros(200);

    /// Records one check per `interval`. Of every `one_in` checks, the first one fails. Returns the
    /// time at which a flood started.
    fn flood_of(checks: u32, interval: Duration, one_in: u32) -> Option<Duration> {
        let mut flood = FloodDetector::default();
        (0..checks).find_map(|number| {
            let now = interval * number;
            flood.record(now, CHECK, number % one_in == 0).map(|_| now)
        })
    }

    #[test]
    fn flood_starts_after_20_ms_of_failed_checks_in_a_second() {
        let at = |interval_us| flood_of(100_000, Duration::from_micros(interval_us), 1);
        // A check takes 200 µs, so 101 failed checks take more than 20 ms.
        assert_eq!(at(200), Some(Duration::from_millis(20)));
        assert_eq!(at(9_000), Some(Duration::from_millis(900)));
        // If a check fails every 12 ms, 84 checks fail in a window of one second. Together, these
        // checks take only 17 ms.
        assert_eq!(at(12_000), None);
    }

    #[test]
    fn failed_checks_that_take_less_than_a_quarter_of_the_time_are_no_flood() {
        let interval = Duration::from_micros(250);
        assert_eq!(flood_of(100_000, interval, 5), None);
        assert!(flood_of(100_000, interval, 3).is_some());
    }

    #[test]
    fn flood_lasts_ten_seconds_after_the_last_window_of_failures() {
        let mut flood = FloodDetector::default();
        let started = (1..).map(|number| CHECK * number).find_map(|now| {
            let change = flood.record(now, CHECK, true)?;
            Some((now, change))
        });
        let (now, change) = started.unwrap();
        assert_eq!(change, FloodChange::Started(Counts { checked: 101, failed: 101 }));
        assert_eq!(flood.ends_at(), Some(now + LASTS));
        assert_eq!(flood.record(now + CHECK, CHECK, true), None);
        let end = now + CHECK + LASTS;
        assert_eq!(flood.end(end - CHECK), None);
        let counts = Counts { checked: 102, failed: 102 };
        assert_eq!(flood.record(end, CHECK, false), Some(FloodChange::Ended(counts)));
        assert_eq!(flood.ends_at(), None);
    }
}
