//! Limits the number of requests and log messages that untrusted input or an outage can cause.

use std::time::Duration;

/// A bucket of permits, where each permit allows one request or log message. The bucket regains one
/// permit per interval.
#[derive(Debug)]
pub(crate) struct RateLimit {
    permits: u32,
    max_permits: u32,
    interval: Duration,
    /// If the bucket is not full, it regains a permit when one `interval` has passed since this
    /// time.
    counted_at: Duration,
}

impl RateLimit {
    /// Creates a full bucket.
    pub(crate) const fn new(max_permits: u32, interval: Duration, now: Duration) -> Self {
        Self { permits: max_permits, max_permits, interval, counted_at: now }
    }

    /// Returns whether a permit is available.
    pub(crate) fn has_permit(&mut self, now: Duration) -> bool {
        while self.permits < self.max_permits
            && now >= self.counted_at.saturating_add(self.interval)
        {
            self.permits += 1;
            self.counted_at = self.counted_at.saturating_add(self.interval);
        }
        self.permits > 0
    }

    /// Returns the time of the next permit, which is `now` if a permit is available.
    pub(crate) fn next_permit_at(&mut self, now: Duration) -> Duration {
        if self.has_permit(now) { now } else { self.counted_at.saturating_add(self.interval) }
    }

    /// Takes a permit. Returns `false` if there is none.
    pub(crate) fn take_permit(&mut self, now: Duration) -> bool {
        if !self.has_permit(now) {
            return false;
        }
        if self.permits == self.max_permits {
            self.counted_at = now;
        }
        self.permits -= 1;
        true
    }
}

/// A warning that can recur often, for example during an outage. As long as the text stays the
/// same, the warning is logged at most once per minute.
#[derive(Debug, Default)]
pub(crate) struct RepeatedWarning(Option<(Box<str>, Duration)>);

impl RepeatedWarning {
    /// Returns whether to log this text now. If the text differs from the last logged text, returns
    /// `true`.
    pub(crate) fn is_due(&mut self, text: &str, now: Duration) -> bool {
        let is_repeated = self.0.as_ref().is_some_and(|(logged, at)| {
            **logged == *text && now < at.saturating_add(SAME_WARNING_INTERVAL)
        });
        if !is_repeated {
            self.0 = Some((text.into(), now));
        }
        !is_repeated
    }
}

const SAME_WARNING_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_warning_is_due_once_per_minute_and_another_warning_immediately() {
        let mut warning = RepeatedWarning::default();
        for (at, text, is_due) in [
            (0, "timeout", true),
            (1, "timeout", false),
            (59, "timeout", false),
            (60, "timeout", true),
            (61, "refused", true),
            (62, "timeout", true),
            (63, "timeout", false),
        ] {
            assert_eq!(warning.is_due(text, Duration::from_secs(at)), is_due, "{text} at {at} s");
        }
    }

    #[test]
    fn two_permits_are_available_and_one_permit_is_regained_per_interval() {
        let second = Duration::from_secs;
        let mut limit = RateLimit::new(2, second(10), second(100));
        for (at, permitted) in [
            (100, true),
            (100, true),
            (100, false),
            (109, false),
            (110, true),
            (110, false),
            (119, false),
            (125, true),
            (129, false),
            (130, true),
            (1000, true),
            (1000, true),
            (1000, false),
            (1010, true),
        ] {
            let next = limit.next_permit_at(second(at));
            assert_eq!(next == second(at), permitted, "at {at} s");
            assert!(next <= second(at + 10), "at {at} s");
            assert_eq!(limit.take_permit(second(at)), permitted, "at {at} s");
        }
    }
}
