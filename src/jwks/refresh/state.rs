//! The state of an issuer's keys.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use arc_swap::Guard;
use tokio::sync::Semaphore;

use crate::{
    algorithm::Algorithm,
    clock::Moment,
    error::{InvalidToken, KeysError, KeysUnavailable},
    jwks::{fetch::FetchedKeys, key_set::VerifyingKey, missing_keys::MissingKeys},
    rate_limit::{RateLimit, RepeatedWarning},
    single_flight::SingleFlight,
};

/// The result of the last successful refresh.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) fetched: FetchedKeys,
    pub(super) fetched_at: Moment,
}

/// The times, in nanoseconds, that decide whether a lookup starts a refresh or waits for a refresh.
/// The times are outside of the locked state, because lookups must not wait for a lock.
#[derive(Debug)]
pub(super) struct Schedule {
    /// The time of the next refresh on the monotonic clock. While a refresh is in flight, this
    /// field contains the deadline of the refresh in flight.
    pub(super) refresh_at: AtomicU64,
    /// The time of the next refresh on the wall clock. This time is needed because the monotonic
    /// clock may stop while a machine sleeps.
    pub(super) refresh_at_unix: AtomicU64,
    /// If the current keys are old, requests wait for fresh keys until this time on the monotonic
    /// clock.
    pub(super) wait_until: AtomicU64,
}

/// The semaphores that limit the number of waiting requests. Each kind of wait has its own
/// semaphore, so a flood of one kind cannot use up the permits of another kind.
#[derive(Debug)]
pub(super) struct Waiters {
    /// The semaphore for requests that wait for the first keys, or for fresh keys.
    pub(super) load: Semaphore,
    /// The semaphore for requests that have an unknown key and wait for a refresh in flight.
    pub(super) unknown: Semaphore,
    /// The semaphore for requests that have an unknown key and wait until the rate limit allows a
    /// refresh.
    pub(super) future: Semaphore,
}

#[derive(Debug)]
pub(super) struct RefreshState {
    pub(super) refresh: SingleFlight<()>,
    /// Limits the refreshes that are triggered by unknown key ids.
    pub(super) unknown_keys: RateLimit,
    pub(super) missing_keys: MissingKeys,
    /// The error of the last refresh, or `None` if it succeeded.
    pub(super) last_failure: Option<KeysError>,
    pub(super) failure_warning: RepeatedWarning,
    pub(super) failures_in_a_row: u32,
    /// If there are no usable keys, no refresh starts before this time.
    pub(super) retry_at: Duration,
}

/// The current keys, and whether they may be used.
pub(in crate::jwks) struct UsableKeys {
    pub(super) snapshot: Guard<Option<Arc<Snapshot>>>,
    pub(super) is_usable: bool,
}

impl UsableKeys {
    /// Returns whether the key set contains this key, or `None` if there are no usable keys.
    pub(in crate::jwks) fn holds(&self, key: &Arc<VerifyingKey>) -> Option<bool> {
        Some(self.get()?.fetched.keys.holds(key))
    }

    pub(super) fn get(&self) -> Option<&Snapshot> {
        self.snapshot.as_deref().filter(|_| self.is_usable)
    }

    pub(super) fn select(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Option<Arc<VerifyingKey>>, InvalidToken> {
        match self.get() {
            Some(held) => Ok(held.fetched.keys.select(kid, algorithm)?.map(Arc::clone)),
            None => Ok(None),
        }
    }
}

impl RefreshState {
    pub(super) fn unavailable(&self, next_attempt: Duration, now: Moment) -> KeysUnavailable {
        let cause = self.last_failure.clone().unwrap_or_else(|| {
            KeysError::timeout("the JWKS was not fetched in time, or the fetch was interrupted")
        });
        KeysUnavailable { retry_after: next_attempt.saturating_sub(now.monotonic), cause }
    }
}

/// Converts a time to nanoseconds, to store it in an `AtomicU64`.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NEVER - 1)
}

/// The value of [`Schedule::refresh_at`] while no refresh is scheduled on the monotonic clock. Also
/// the value of [`Schedule::refresh_at_unix`] while no refresh is scheduled on the wall clock.
pub(super) const NEVER: u64 = u64::MAX;
