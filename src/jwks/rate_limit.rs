//! How often unknown key ids may start a refresh.

use std::time::Duration;

/// Refreshes for unknown kids: two at once, and one more per cooldown. A single one would make the
/// second of two quick rotations wait out the cooldown.
#[derive(Debug)]
pub(super) struct Bucket {
    left: u32,
    cooldown: Duration,
    counted_at: Duration,
}

impl Bucket {
    pub(super) const fn full(cooldown: Duration, now: Duration) -> Self {
        Self { left: BUCKET, cooldown, counted_at: now }
    }

    pub(super) fn has_one(&mut self, now: Duration) -> bool {
        while self.left < BUCKET && now >= self.counted_at.saturating_add(self.cooldown) {
            self.left += 1;
            self.counted_at = self.counted_at.saturating_add(self.cooldown);
        }
        self.left > 0
    }

    pub(super) fn take(&mut self, now: Duration) -> bool {
        if !self.has_one(now) {
            return false;
        }
        if self.left == BUCKET {
            self.counted_at = now;
        }
        self.left -= 1;
        true
    }
}

const BUCKET: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_holds_two_and_regains_one_per_cooldown() {
        let second = Duration::from_secs;
        let mut bucket = Bucket::full(second(10), second(100));
        for (at, granted) in [
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
            assert_eq!(bucket.take(second(at)), granted, "at {at} s");
        }
    }
}
