//! What is known about an issuer's keys at a moment.

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
    jwks::{
        fetch::FetchedKeys, key_set::VerifyingKey, missing_keys::MissingKeys,
        rate_limit::RefreshLimit,
    },
    single_flight::SingleFlight,
};

/// The result of the last successful refresh.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) fetched: FetchedKeys,
    pub(super) fetched_at: Moment,
}

/// When the next lookup starts a refresh, and when it waits for one. Kept outside of the state so
/// that lookups take no lock. All times are nanoseconds.
#[derive(Debug)]
pub(super) struct Schedule {
    /// By the monotonic clock. While a refresh is in flight: its deadline.
    pub(super) refresh_at: AtomicU64,
    /// By the wall clock, for machines that sleep.
    pub(super) refresh_at_unix: AtomicU64,
    /// Until this time of the monotonic clock, requests wait for fresh keys if those held are old.
    pub(super) wait_until: AtomicU64,
}

/// The waiting requests, apart by what they wait for, so that no flood of one kind takes the
/// places of another.
#[derive(Debug)]
pub(super) struct Waiters {
    /// For the first keys, or for fresh ones.
    pub(super) load: Semaphore,
    /// For a refresh in flight that may bring an unknown key.
    pub(super) unknown: Semaphore,
    /// For a refresh that may not start yet.
    pub(super) future: Semaphore,
}

#[derive(Debug)]
pub(super) struct RefreshState {
    pub(super) refresh: SingleFlight<()>,
    pub(super) unknown_keys: RefreshLimit,
    pub(super) missing_keys: MissingKeys,
    /// The error of the last refresh, if it failed.
    pub(super) last_failure: Option<KeysError>,
    pub(super) failures_in_a_row: u32,
    /// Without usable keys, no refresh starts before this time.
    pub(super) retry_at: Duration,
}

/// The keys held at a moment, and whether they may be used.
pub(super) struct UsableKeys {
    pub(super) snapshot: Guard<Option<Arc<Snapshot>>>,
    pub(super) is_usable: bool,
}

impl UsableKeys {
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

/// A time as nanoseconds, for an atomic.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NEVER - 1)
}

/// A time that does not come.
pub(super) const NEVER: u64 = u64::MAX;
