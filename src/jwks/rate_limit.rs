//! Limits how often unknown key ids may start a refresh.

use std::time::Duration;

/// A bucket of two permits that regains one per cooldown.
///
/// With a single permit, the second of two rotations in quick succession would wait for the
/// cooldown.
#[derive(Debug)]
pub(super) struct RefreshLimit {
    permits: u32,
    cooldown: Duration,
    /// The time up to which the regained permits are counted.
    counted_at: Duration,
}

impl RefreshLimit {
    pub(super) const fn new(cooldown: Duration, now: Duration) -> Self {
        Self { permits: MAX_PERMITS, cooldown, counted_at: now }
    }

    /// Returns whether a refresh is permitted now.
    pub(super) fn has_permit(&mut self, now: Duration) -> bool {
        while self.permits < MAX_PERMITS && now >= self.counted_at.saturating_add(self.cooldown) {
            self.permits += 1;
            self.counted_at = self.counted_at.saturating_add(self.cooldown);
        }
        self.permits > 0
    }

    /// Returns the time of the next permit, which is `now` if one is available.
    pub(super) fn next_permit_at(&mut self, now: Duration) -> Duration {
        if self.has_permit(now) { now } else { self.counted_at.saturating_add(self.cooldown) }
    }

    /// Takes a permit. Returns `false` if there is none.
    pub(super) fn take_permit(&mut self, now: Duration) -> bool {
        if !self.has_permit(now) {
            return false;
        }
        if self.permits == MAX_PERMITS {
            self.counted_at = now;
        }
        self.permits -= 1;
        true
    }
}

const MAX_PERMITS: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_permits_are_available_and_one_is_regained_per_cooldown() {
        let second = Duration::from_secs;
        let mut limit = RefreshLimit::new(second(10), second(100));
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
