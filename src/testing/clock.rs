//! A clock that a test can set.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::Clock;

/// A [`Clock`] that changes only when a test changes it.
///
/// All clones show the same time.
///
/// ```
/// use std::time::Duration;
/// use tower_logto::{testing::ManualClock, Clock};
///
/// let clock = ManualClock::at(1_795_342_800);
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.unix_time().as_secs(), 1_795_342_860);
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Times>>);

#[derive(Debug, Clone, Copy)]
struct Times {
    wall: Duration,
    monotonic: Duration,
}

impl ManualClock {
    /// Creates a clock that shows this number of seconds since the Unix epoch.
    pub fn at(unix_seconds: u64) -> Self {
        let wall = Duration::from_secs(unix_seconds);
        Self(Arc::new(Mutex::new(Times { wall, monotonic: Duration::ZERO })))
    }

    /// Moves the clock forward. Tokens and cached keys become older.
    ///
    /// # Panics
    /// Panics if the time overflows a [`Duration`].
    pub fn advance(&self, duration: Duration) {
        let mut times = self.times();
        times.wall += duration;
        times.monotonic += duration;
    }

    /// Sets the wall clock forward or back. This simulates a correction by NTP or an administrator.
    ///
    /// The wall clock decides whether a token is expired. The age of cached keys does not change.
    pub fn set_unix_time(&self, since_epoch: Duration) {
        self.times().wall = since_epoch;
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows 22 November 2026, 10:20 UTC.
///
/// The Logto responses with which this crate is tested were captured on that day.
impl Default for ManualClock {
    fn default() -> Self {
        Self::at(1_795_342_800)
    }
}

impl Clock for ManualClock {
    fn unix_time(&self) -> Duration {
        self.times().wall
    }

    fn monotonic(&self) -> Duration {
        self.times().monotonic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_advance_moves_the_monotonic_clock() {
        let clock = ManualClock::default();
        let shared = clock.clone();
        shared.advance(Duration::from_millis(1_500));
        assert_eq!(clock.unix_time(), Duration::from_millis(1_795_342_801_500));
        assert_eq!(clock.monotonic(), Duration::from_millis(1_500));
        shared.set_unix_time(Duration::from_secs(7));
        assert_eq!(clock.unix_time(), Duration::from_secs(7));
        assert_eq!(clock.monotonic(), Duration::from_millis(1_500));
    }
}
