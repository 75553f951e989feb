//! Logs refusals. Each refused request gets one line. The line contains the reason and, if known,
//! the method, the path, and the token's subject, client and organization. If the service is
//! misconfigured, the number of lines is limited.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::{Request, StatusCode};
use tracing::Level;

use crate::{
    clock::{Clock, SystemClock},
    error::AuthError,
    escape::escaped,
    metrics,
    rate_limit::RateLimit,
};

impl AuthError {
    /// Logs the refusal. If the service is misconfigured, the level is ERROR. Otherwise, the
    /// settings determine the level.
    ///
    /// If a handler returns an error, the code that converts the error into a response has no
    /// access to the request. In this case, `request` is `None`.
    pub(crate) fn log<R>(&self, request: Option<&Request<R>>) {
        metrics::refused(self.reason());
        if self.status() == StatusCode::INTERNAL_SERVER_ERROR {
            self.log_misconfiguration();
            return;
        }
        let identity = self.identity.as_deref();
        // `tracing` requires a constant as the level of an event, so there is one event per level.
        macro_rules! log_at {
            ($level:ident) => {
                tracing::event!(
                    Level::$level,
                    status = self.status().as_u16(),
                    reason = self.reason(),
                    error = %self,
                    method = request.map(|request| request.method().as_str()),
                    path = request.map(|request| display(escaped(request.uri().path()))),
                    sub = identity.map(|identity| &*identity.subject),
                    client_id = identity.and_then(|identity| identity.client_id.as_deref()),
                    organization_id =
                        identity.and_then(|identity| identity.organization_id.as_deref()),
                    "request refused"
                )
            };
        }
        match self.challenge.as_deref().map_or(Level::DEBUG, |settings| settings.log_level.0) {
            Level::ERROR => log_at!(ERROR),
            Level::WARN => log_at!(WARN),
            Level::INFO => log_at!(INFO),
            Level::DEBUG => log_at!(DEBUG),
            Level::TRACE => log_at!(TRACE),
        }
    }

    /// Logs that the service is misconfigured. One misconfiguration may cause every request to be
    /// refused. The number of log lines with the same reason is therefore limited.
    fn log_misconfiguration(&self) {
        static LIMITS: Mutex<BTreeMap<&str, LogLimit>> = Mutex::new(BTreeMap::new());
        let (reason, now) = (self.reason(), SystemClock.monotonic());
        let mut limits = LIMITS.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = limits.entry(reason).or_insert_with(|| LogLimit::new(now));
        let not_logged = limit.next_line(now);
        drop(limits);
        if let Some(not_logged) = not_logged {
            tracing::error!(
                reason,
                error = %self,
                not_logged,
                "request refused: the service is misconfigured"
            );
        }
    }
}

/// Limits the number of log lines with the same reason.
struct LogLimit {
    lines: RateLimit,
    /// The number of lines that were left out since the last logged line.
    not_logged: u64,
}

impl LogLimit {
    const fn new(now: Duration) -> Self {
        Self { lines: RateLimit::new(MAX_LINES_AT_ONCE, LINE_INTERVAL, now), not_logged: 0 }
    }

    /// Decides whether to log the next line. If this line must be left out, returns `None`.
    /// Otherwise, returns the number of lines that were left out since the last logged line.
    fn next_line(&mut self, now: Duration) -> Option<u64> {
        if self.lines.take_permit(now) {
            return Some(std::mem::take(&mut self.not_logged));
        }
        self.not_logged += 1;
        None
    }
}

/// The number of lines with the same reason that are logged before the limit applies.
const MAX_LINES_AT_ONCE: u32 = 20;
/// After `MAX_LINES_AT_ONCE` lines with the same reason, at most one further line with this reason
/// is logged per interval.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_lines_are_logged_immediately_and_then_one_line_per_ten_seconds_with_a_count() {
        let mut limit = LogLimit::new(Duration::ZERO);
        for _ in 0..20 {
            assert_eq!(limit.next_line(Duration::from_secs(1)), Some(0));
        }
        for _ in 0..1_000 {
            assert_eq!(limit.next_line(Duration::from_secs(2)), None);
        }
        assert_eq!(limit.next_line(Duration::from_secs(11)), Some(1_000));
        assert_eq!(limit.next_line(Duration::from_secs(12)), None);
        assert_eq!(limit.next_line(Duration::from_secs(21)), Some(1));
    }
}
