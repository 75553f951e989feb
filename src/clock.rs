//! Where the crate reads time; the only file that does.

use std::{
    fmt,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime},
};

/// A source of time: wall time judges `exp` and `nbf`, monotonic time the age of keys.
///
/// The system's clocks are the default. Tests pass a clock they move by hand
/// (`testing::ManualClock`), or one of their own:
///
/// ```
/// use std::time::Duration;
/// use tower_logto::Clock;
///
/// #[derive(Debug)]
/// struct Stopped;
///
/// impl Clock for Stopped {
///     fn unix_time(&self) -> Duration {
///         Duration::from_secs(1_795_342_781)
///     }
///     fn monotonic(&self) -> Duration {
///         Duration::ZERO
///     }
/// }
/// ```
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Time since the Unix epoch, as `exp` and `nbf` count it (RFC 7519 §2, NumericDate).
    fn unix_time(&self) -> Duration;

    /// Time since any fixed point; never goes backward, whatever happens to the wall clock.
    fn monotonic(&self) -> Duration;
}

/// The clocks of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemClock;

#[allow(clippy::disallowed_methods, reason = "the one place that reads the system's clocks")]
impl Clock for SystemClock {
    fn unix_time(&self) -> Duration {
        // A clock before 1970 makes every token expired rather than none.
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::MAX)
    }

    fn monotonic(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }
}
