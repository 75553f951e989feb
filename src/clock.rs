//! The source of time. No other file reads the clocks of the standard library.

use std::{
    fmt,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime},
};

/// A source of time. The crate uses wall-clock time for `exp` and `nbf`, monotonic time for
/// retries, and both for the age of keys.
///
/// The default clock reads the system's clocks. A test can use a `testing::ManualClock` or another
/// implementation of this trait:
///
/// ```
/// use std::time::Duration;
/// use tower_logto::Clock;
///
/// #[derive(Debug)]
/// struct FixedClock;
///
/// impl Clock for FixedClock {
///     fn unix_time(&self) -> Duration {
///         Duration::from_secs(1_795_342_781)
///     }
///     fn monotonic(&self) -> Duration {
///         Duration::ZERO
///     }
/// }
/// ```
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the time since the Unix epoch. The claims `exp` and `nbf` count from the same epoch
    /// (RFC 7519 §2, NumericDate).
    fn unix_time(&self) -> Duration;

    /// Returns the time since an arbitrary fixed point. The returned time must never decrease, even
    /// if the wall clock is set back.
    fn monotonic(&self) -> Duration;
}

/// A point in time, read from both the wall clock and the monotonic clock.
///
/// Neither clock alone is reliable. The monotonic clock may stop while a machine sleeps. The wall
/// clock may be set to another time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) unix: Duration,
    pub(crate) monotonic: Duration,
}

impl Moment {
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self { unix: clock.unix_time(), monotonic: clock.monotonic() }
    }

    /// Returns the time since an earlier moment. Computes the time with each clock, and returns the
    /// larger result. If the wall clock was set back, the monotonic clock gives the larger result.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let wall = self.unix.saturating_sub(earlier.unix);
        wall.max(self.monotonic.saturating_sub(earlier.monotonic))
    }
}

#[cfg(feature = "client")]
impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self {
            unix: self.unix.saturating_add(time),
            monotonic: self.monotonic.saturating_add(time),
        }
    }
}

/// The clocks of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemClock;

#[allow(clippy::disallowed_methods, reason = "the one place that reads the system's clocks")]
impl Clock for SystemClock {
    fn unix_time(&self) -> Duration {
        // Fails closed: if the clock is before 1970, every token counts as expired.
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::MAX)
    }

    fn monotonic(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }
}
