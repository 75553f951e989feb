//! Starts refreshes, and applies the results.

use std::{
    sync::{Arc, MutexGuard, TryLockError, atomic::Ordering},
    time::Duration,
};

use super::{
    NO_RUNTIME, RefreshPolicy, RemoteKeys,
    state::{NEVER, RefreshState, Schedule, Snapshot, nanos},
};
use crate::{
    clock::Moment,
    error::KeysError,
    jwks::fetch::{FETCH_TIMEOUT, FetchedKeys},
    metrics,
    rate_limit::RepeatedWarning,
    single_flight::{InFlight, backoff},
};

impl RemoteKeys {
    /// Starts the refresh that is due, unless a refresh is already in flight.
    pub(super) fn refresh_in_background(self: &Arc<Self>, now: Moment) {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Another task has the lock, for example because it is starting or completing a
            // refresh.
            Err(TryLockError::WouldBlock) => return,
        };
        if state.refresh.in_flight(now.monotonic).is_some() {
            return;
        }
        let Schedule { refresh_at, refresh_at_unix, .. } = &self.schedule;
        let scheduled = refresh_at.load(Ordering::Relaxed);
        // If several lookups find that the refresh is due, only the first lookup continues.
        if nanos(now.monotonic) < scheduled {
            // The refresh is due by the wall clock, but not by the monotonic clock. The wall clocks
            // of many machines may have been corrected at the same moment. A random delay spreads
            // the refreshes of these machines.
            if nanos(now.unix) >= refresh_at_unix.swap(NEVER, Ordering::Relaxed) {
                let delay = MAX_DELAY_AFTER_CLOCK_CHANGE.mul_f64(fastrand::f64());
                let delayed = nanos(now.monotonic.saturating_add(delay));
                refresh_at.store(delayed.min(scheduled), Ordering::Relaxed);
            }
            return;
        }
        if self.start_refresh(&mut state, now).is_none() {
            let later = now.monotonic.saturating_add(FIRST_RETRY_WITH_KEYS);
            refresh_at.store(nanos(later), Ordering::Relaxed);
            refresh_at_unix.store(NEVER, Ordering::Relaxed);
            drop(state);
            tracing::error!("{NO_RUNTIME}");
        }
    }

    /// Starts a refresh. Returns `None` outside a tokio runtime.
    pub(super) fn start_refresh(
        self: &Arc<Self>,
        state: &mut RefreshState,
        now: Moment,
    ) -> Option<InFlight<()>> {
        let deadline = now.monotonic.saturating_add(REFRESH_DEADLINE);
        let keys = Arc::clone(self);
        let refresh = state.refresh.start(deadline, |number| keys.refresh(number))?;
        // The times that are set here apply if the task panics or its runtime shuts down. If the
        // task completes, it overwrites these times.
        let delay = retry_delay(state.failures_in_a_row + 1, self.has_usable_keys(now));
        state.retry_at = now.monotonic.saturating_add(delay);
        self.schedule.refresh_at.store(nanos(deadline), Ordering::Relaxed);
        self.schedule.refresh_at_unix.store(NEVER, Ordering::Relaxed);
        if state.last_failure.is_none() {
            let wait_until = now.monotonic.saturating_add(MAX_WAIT_FOR_FRESH_KEYS);
            self.schedule.wait_until.store(nanos(wait_until), Ordering::Relaxed);
        }
        Some(refresh)
    }

    /// Runs one refresh as a background task. If the refresh fails, the current keys do not change.
    async fn refresh(self: Arc<Self>, number: u64) {
        let held = self.snapshot.load_full();
        let held_keys = held.as_ref().map(|held| &held.fetched);
        let fetched = self.endpoint.fetch(held_keys, &self.algorithms).await;
        let mut state = self.lock();
        if !state.refresh.finish(number) {
            return;
        }
        self.schedule.wait_until.store(0, Ordering::Relaxed);
        match fetched {
            Ok(fetched) => self.refreshed(state, fetched, held.as_deref()),
            Err(error) => self.failed(state, &error, held.as_deref()),
        }
    }

    fn refreshed(
        &self,
        mut state: MutexGuard<'_, RefreshState>,
        fetched: FetchedKeys,
        held: Option<&Snapshot>,
    ) {
        let now = self.now();
        let key_set = fetched.keys.clone();
        let RefreshPolicy { fresh_for, serve_stale_for, .. } = self.policy;
        // Regardless of the jitter, refresh before the keys expire.
        let refresh_in = jittered(fresh_for).min(serve_stale_for / 10 * 9);
        state.last_failure = None;
        state.failure_warning = RepeatedWarning::default();
        state.failures_in_a_row = 0;
        state.retry_at = now.monotonic;
        state.missing_keys.remove_published(fetched.keys.kids());
        self.snapshot.store(Some(Arc::new(Snapshot { fetched, fetched_at: now })));
        let Schedule { refresh_at, refresh_at_unix, .. } = &self.schedule;
        refresh_at.store(nanos(now.monotonic.saturating_add(refresh_in)), Ordering::Relaxed);
        refresh_at_unix.store(nanos(now.unix.saturating_add(refresh_in)), Ordering::Relaxed);
        drop(state);
        metrics::jwks_fetched(&self.issuer, now.unix);
        key_set.log_warnings(held.map(|held| &held.fetched.keys));
        let keys = key_set.jwk_count();
        tracing::info!(issuer = &*self.issuer, keys, "JWKS refreshed");
    }

    fn failed(
        &self,
        mut state: MutexGuard<'_, RefreshState>,
        error: &KeysError,
        held: Option<&Snapshot>,
    ) {
        let now = self.now();
        let age = held.map(|held| now.since(held.fetched_at));
        let usable_for = age.map(|age| self.policy.serve_stale_for.saturating_sub(age));
        let usable_for = usable_for.filter(|left| !left.is_zero());
        state.failures_in_a_row = state.failures_in_a_row.saturating_add(1);
        let delay = retry_delay(state.failures_in_a_row, usable_for.is_some());
        // If the keys expire before the next retry is due, the retry starts when the keys expire.
        let delay = delay.min(usable_for.unwrap_or(Duration::MAX));
        state.retry_at = now.monotonic.saturating_add(delay);
        state.last_failure = Some(error.clone());
        self.schedule.refresh_at.store(nanos(state.retry_at), Ordering::Relaxed);
        let message = match (usable_for, held) {
            (Some(_), _) => "JWKS refresh failed; serving stale keys",
            (None, Some(_)) => {
                "JWKS refresh failed; the stale keys have expired, so requests get 503"
            }
            (None, None) => "JWKS fetch failed; no keys were fetched yet, so requests get 503",
        };
        let is_logged = state.failure_warning.is_due(&format!("{message}: {error}"), now.monotonic);
        drop(state);
        metrics::jwks_fetch_failed(&self.issuer);
        if is_logged {
            let usable_for_secs = usable_for.map(|left| left.as_secs());
            tracing::warn!(issuer = &*self.issuer, %error, usable_for_secs, "{message}");
        }
    }
}

fn retry_delay(failures_in_a_row: u32, has_keys: bool) -> Duration {
    let (first, last) = if has_keys {
        (FIRST_RETRY_WITH_KEYS, LAST_RETRY_WITH_KEYS)
    } else {
        (FIRST_RETRY, LAST_RETRY)
    };
    backoff(first, last, failures_in_a_row)
}

/// Returns the duration with a random jitter of ±10 %, so instances that started at the same time
/// refresh at different times.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * fastrand::f64())
}

/// The maximum time that requests wait for a refresh in flight if the current keys are usable but
/// old. The time counts from the start of the refresh.
const MAX_WAIT_FOR_FRESH_KEYS: Duration = Duration::from_secs(1);
/// The maximum random delay of a refresh that is due by the wall clock, but not yet by the
/// monotonic clock.
const MAX_DELAY_AFTER_CLOCK_CHANGE: Duration = Duration::from_secs(5);
/// The time after which a new refresh may replace a refresh in flight. This time is twice the
/// timeout of a fetch. A refresh takes longer than this time only if the runtime is blocked.
const REFRESH_DEADLINE: Duration = FETCH_TIMEOUT.saturating_mul(2);
/// The delay of the first retry if there are no usable keys. The delay is short, because every
/// request fails until a retry succeeds.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// The delay doubles with each failure, up to this limit.
const LAST_RETRY: Duration = Duration::from_secs(1);
/// The delay of the first retry if the current keys are usable. Requests still succeed, so this
/// delay is longer than `FIRST_RETRY`.
const FIRST_RETRY_WITH_KEYS: Duration = Duration::from_secs(5);
/// The delay doubles with each failure, up to this limit.
const LAST_RETRY_WITH_KEYS: Duration = Duration::from_secs(60);
