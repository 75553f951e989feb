//! Keys over time: when they are fetched, how long they are used, and who waits for them.
//!
//! Key selection is in `key_set`, the HTTP request in `fetch`.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwapOption, Guard};
use tokio::{runtime::Handle, sync::Semaphore, time};

use crate::{
    algorithm::Algorithm,
    clock::Clock,
    error::{AuthErrorKind, InvalidToken, KeysError, KeysUnavailable},
    jwks::{
        fetch::{FETCH_TIMEOUT, FetchedKeys, JwksEndpoint},
        key_set::VerifyingKey,
        rate_limit::RefreshLimit,
    },
    single_flight::{InFlight, SingleFlight, WaitError, backoff},
};

/// The refresh settings, which are the same for all issuers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RefreshPolicy {
    pub(crate) fresh_for: Duration,
    pub(crate) unknown_key_cooldown: Duration,
    pub(crate) serve_stale_for: Duration,
}

impl Default for RefreshPolicy {
    fn default() -> Self {
        Self {
            fresh_for: Duration::from_secs(10 * 60),
            unknown_key_cooldown: Duration::from_secs(10),
            serve_stale_for: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Keys that are fetched from the issuer's JWKS endpoint.
#[derive(Debug)]
pub(crate) struct RemoteKeys {
    issuer: Box<str>,
    endpoint: JwksEndpoint,
    algorithms: Box<[Algorithm]>,
    policy: RefreshPolicy,
    clock: Arc<dyn Clock>,
    snapshot: ArcSwapOption<Snapshot>,
    /// The time of the next background refresh, in nanoseconds of the monotonic clock. While a
    /// refresh is in flight: its deadline. Kept outside of `state` so that lookups take no lock.
    refresh_at: AtomicU64,
    state: Mutex<RefreshState>,
    waiters: Semaphore,
}

/// The result of the last successful refresh.
#[derive(Debug)]
struct Snapshot {
    fetched: FetchedKeys,
    /// From this time on the keys must not be used, unless a refresh succeeds before.
    good_until: Duration,
}

#[derive(Debug)]
struct RefreshState {
    refresh: SingleFlight<()>,
    unknown_keys: RefreshLimit,
    /// The error of the last refresh, if it failed.
    last_failure: Option<KeysError>,
    failures_in_a_row: u32,
    /// Without usable keys, no refresh starts before this time.
    retry_at: Duration,
}

impl RemoteKeys {
    /// Keys that are not fetched yet.
    pub(super) fn new(
        issuer: &str,
        endpoint: JwksEndpoint,
        algorithms: Box<[Algorithm]>,
        policy: RefreshPolicy,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let unknown_keys = RefreshLimit::new(policy.unknown_key_cooldown, clock.monotonic());
        Self {
            issuer: issuer.into(),
            endpoint,
            algorithms,
            policy,
            clock,
            snapshot: ArcSwapOption::empty(),
            refresh_at: AtomicU64::new(NEVER),
            state: Mutex::new(RefreshState {
                refresh: SingleFlight::default(),
                unknown_keys,
                last_failure: None,
                failures_in_a_row: 0,
                retry_at: Duration::ZERO,
            }),
            waiters: Semaphore::new(MAX_WAITERS),
        }
    }

    /// See [`KeyStore::find`](super::key_store::KeyStore::find).
    pub(super) fn find(
        self: &Arc<Self>,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Option<Arc<VerifyingKey>>, AuthErrorKind> {
        match self.held(kid, algorithm)? {
            Some(key) => Ok(Some(key)),
            None if self.may_wait() => Ok(None),
            None => Err(self.refusal(kid)),
        }
    }

    /// See [`KeyStore::wait_for`](super::key_store::KeyStore::wait_for).
    pub(super) async fn wait_for(
        self: &Arc<Self>,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<VerifyingKey>, AuthErrorKind> {
        let found = self.refresh_until(|| self.held(kid, algorithm)).await?;
        found.ok_or_else(|| self.refusal(kid))
    }

    /// Whether this very key may still be used.
    pub(super) fn holds(self: &Arc<Self>, key: &Arc<VerifyingKey>) -> bool {
        let snapshot = self.good_snapshot();
        snapshot.is_some_and(|held| held.as_ref().is_some_and(|held| held.fetched.keys.holds(key)))
    }

    /// Fetches the keys, unless usable keys are held.
    pub(super) async fn load(self: &Arc<Self>) -> Result<(), KeysError> {
        let loaded = self.refresh_until(|| Ok(self.good_snapshot().map(drop))).await;
        match loaded {
            Ok(Some(())) => Ok(()),
            Err(AuthErrorKind::KeysUnavailable(unavailable)) => Err(unavailable.cause),
            Ok(None) | Err(_) => Err(self.unavailable().cause),
        }
    }

    /// Waits for a condition on the keys held. At most two refreshes are waited for: one that may
    /// have started before this call, and one that started after it.
    async fn refresh_until<T>(
        self: &Arc<Self>,
        condition: impl Fn() -> Result<Option<T>, InvalidToken>,
    ) -> Result<Option<T>, AuthErrorKind> {
        if Handle::try_current().is_err() {
            return Err(unavailable_without_runtime().into());
        }
        let started_before = self.lock().refresh.started();
        let refreshes = async {
            let mut is_final = false;
            loop {
                if let Some(found) = condition()? {
                    return Ok(Some(found));
                }
                if is_final {
                    return Ok(None);
                }
                let Some(refresh) = self.join_refresh() else { return Ok(None) };
                is_final = refresh.number > started_before;
                match refresh.outcome(&self.waiters).await {
                    // The keys held tell what a lost task has achieved: most likely nothing.
                    Ok(()) | Err(WaitError::TaskLost) => {}
                    Err(WaitError::TooManyWaiters) => return Err(too_many_waiters().into()),
                }
            }
        };
        match time::timeout(MAX_WAIT, refreshes).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.unavailable().into()),
        }
    }

    /// The key among the keys held, if they may be used.
    fn held(
        self: &Arc<Self>,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Option<Arc<VerifyingKey>>, InvalidToken> {
        match self.good_snapshot().as_deref() {
            Some(Some(held)) => Ok(held.fetched.keys.select(kid, algorithm)?.map(Arc::clone)),
            _ => Ok(None),
        }
    }

    /// The keys held, if they may be used. Starts a refresh if one is due. Takes no lock.
    fn good_snapshot(self: &Arc<Self>) -> Option<Guard<Option<Arc<Snapshot>>>> {
        let now = self.clock.monotonic();
        if nanos(now) >= self.refresh_at.load(Ordering::Relaxed) {
            self.refresh_in_background();
        }
        let snapshot = self.snapshot.load();
        let is_good = snapshot.as_ref().is_some_and(|snapshot| now < snapshot.good_until);
        is_good.then_some(snapshot)
    }

    fn has_good_keys(&self, now: Duration) -> bool {
        self.snapshot.load().as_ref().is_some_and(|snapshot| now < snapshot.good_until)
    }

    /// Whether a refresh is in flight, or one may start.
    fn may_wait(&self) -> bool {
        let mut state = self.lock();
        let now = self.clock.monotonic();
        state.refresh.in_flight(now).is_some()
            || if self.has_good_keys(now) {
                state.unknown_keys.has_permit(now)
            } else {
                now >= state.retry_at
            }
    }

    /// Joins the refresh in flight, or starts one. `None`: none may start.
    fn join_refresh(self: &Arc<Self>) -> Option<InFlight<()>> {
        let mut state = self.lock();
        let now = self.clock.monotonic();
        if let Some(refresh) = state.refresh.in_flight(now) {
            return Some(refresh);
        }
        // The first load needs no permit, a refresh for an unknown key id does.
        let is_permitted = if self.has_good_keys(now) {
            state.unknown_keys.take_permit(now)
        } else {
            now >= state.retry_at
        };
        if is_permitted { self.start_refresh(&mut state, now) } else { None }
    }

    fn refresh_in_background(self: &Arc<Self>) {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The holder of the lock is starting or completing a refresh.
            Err(TryLockError::WouldBlock) => return,
        };
        let now = self.clock.monotonic();
        // Of all lookups that found the refresh due, one continues.
        if state.refresh.in_flight(now).is_some()
            || nanos(now) < self.refresh_at.load(Ordering::Relaxed)
        {
            return;
        }
        if self.start_refresh(&mut state, now).is_none() {
            let later = now.saturating_add(FIRST_RETRY_WITH_KEYS);
            self.refresh_at.store(nanos(later), Ordering::Relaxed);
            drop(state);
            log_missing_runtime();
        }
    }

    /// Starts a refresh. `None` outside a tokio runtime.
    fn start_refresh(
        self: &Arc<Self>,
        state: &mut RefreshState,
        now: Duration,
    ) -> Option<InFlight<()>> {
        let deadline = now.saturating_add(REFRESH_DEADLINE);
        let keys = Arc::clone(self);
        let refresh = state.refresh.start(deadline, |number| keys.refresh(number))?;
        // These hold if the task is lost. Otherwise it overwrites them.
        let delay = retry_delay(state.failures_in_a_row + 1, self.has_good_keys(now));
        state.retry_at = now.saturating_add(delay);
        self.refresh_at.store(nanos(deadline), Ordering::Relaxed);
        Some(refresh)
    }

    /// The task of one refresh. If it fails, the keys held stay as they are.
    async fn refresh(self: Arc<Self>, number: u64) {
        let held = self.snapshot.load_full();
        let held_keys = held.as_ref().map(|held| &held.fetched);
        let fetched = self.endpoint.fetch(held_keys, &self.algorithms).await;
        let mut state = self.lock();
        if !state.refresh.finish(number) {
            return;
        }
        match fetched {
            Ok(fetched) => self.refreshed(state, fetched),
            Err(error) => self.failed(state, &error, held.as_deref()),
        }
    }

    fn refreshed(&self, mut state: MutexGuard<'_, RefreshState>, fetched: FetchedKeys) {
        let now = self.clock.monotonic();
        let RefreshPolicy { fresh_for, serve_stale_for, .. } = self.policy;
        // Whatever the jitter, refresh before the keys expire.
        let refresh_in = jittered(fresh_for).min(serve_stale_for / 10 * 9);
        let good_until = now.saturating_add(serve_stale_for);
        let keys = fetched.keys.len();
        state.last_failure = None;
        state.failures_in_a_row = 0;
        state.retry_at = now;
        self.snapshot.store(Some(Arc::new(Snapshot { fetched, good_until })));
        self.refresh_at.store(nanos(now.saturating_add(refresh_in)), Ordering::Relaxed);
        drop(state);
        tracing::info!(issuer = &*self.issuer, keys, "JWKS refreshed");
    }

    fn failed(
        &self,
        mut state: MutexGuard<'_, RefreshState>,
        error: &KeysError,
        held: Option<&Snapshot>,
    ) {
        let now = self.clock.monotonic();
        let stale_for = held.map(|held| held.good_until.saturating_sub(now));
        let usable_for = stale_for.filter(|left| !left.is_zero());
        state.failures_in_a_row = state.failures_in_a_row.saturating_add(1);
        let delay = retry_delay(state.failures_in_a_row, usable_for.is_some());
        // If the keys expire before the next retry, retry at their expiry.
        let delay = delay.min(usable_for.unwrap_or(Duration::MAX));
        state.retry_at = now.saturating_add(delay);
        state.last_failure = Some(error.clone());
        let refresh_at = if usable_for.is_some() { nanos(state.retry_at) } else { NEVER };
        self.refresh_at.store(refresh_at, Ordering::Relaxed);
        drop(state);
        let issuer = &*self.issuer;
        match (usable_for, held) {
            (Some(left), _) => {
                let stale_for_secs = left.as_secs();
                tracing::warn!(issuer, %error, stale_for_secs, "JWKS refresh failed; serving stale keys");
            }
            (None, Some(_)) => {
                tracing::warn!(issuer, %error, "JWKS refresh failed; stale keys expired, answering 503");
            }
            (None, None) => {
                tracing::warn!(issuer, %error, "JWKS fetch failed; no keys yet, answering 503");
            }
        }
    }

    /// The refusal of a token whose key is not held, if nothing is waited for.
    fn refusal(&self, kid: Option<&str>) -> AuthErrorKind {
        let state = self.lock();
        let now = self.clock.monotonic();
        if self.has_good_keys(now) && state.last_failure.is_none() {
            return InvalidToken::unknown_key(kid).into();
        }
        state.unavailable(now).into()
    }

    fn unavailable(&self) -> KeysUnavailable {
        let state = self.lock();
        state.unavailable(self.clock.monotonic())
    }

    /// The lock is held for a few instructions, never across an `await` and never while a message
    /// is logged: a subscriber may block, or validate a token itself.
    fn lock(&self) -> MutexGuard<'_, RefreshState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RefreshState {
    fn unavailable(&self, now: Duration) -> KeysUnavailable {
        let cause = self.last_failure.clone().unwrap_or_else(|| {
            KeysError::timeout("the JWKS was not fetched in time, or the fetch was interrupted")
        });
        KeysUnavailable { retry_after: self.retry_at.saturating_sub(now), cause }
    }
}

fn too_many_waiters() -> KeysUnavailable {
    let cause = format!("more than {MAX_WAITERS} requests are waiting for keys");
    KeysUnavailable::retry_now(KeysError::new(cause))
}

fn unavailable_without_runtime() -> KeysUnavailable {
    log_missing_runtime();
    KeysUnavailable::retry_now(KeysError::new(NO_RUNTIME))
}

fn log_missing_runtime() {
    tracing::error!("{NO_RUNTIME}");
}

fn retry_delay(failures_in_a_row: u32, has_keys: bool) -> Duration {
    let (first, last) = if has_keys {
        (FIRST_RETRY_WITH_KEYS, LAST_RETRY_WITH_KEYS)
    } else {
        (FIRST_RETRY, LAST_RETRY)
    };
    backoff(first, last, failures_in_a_row)
}

/// ±10 %, so that instances that started together do not refresh together.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * fastrand::f64())
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NEVER - 1)
}

const NEVER: u64 = u64::MAX;
const NO_RUNTIME: &str = "keys cannot be fetched outside of a tokio runtime";
const MAX_WAITERS: usize = 1024;
/// Waiters allow one second more than the fetch takes, so that they receive its specific error.
const MAX_WAIT: Duration = FETCH_TIMEOUT.saturating_add(Duration::from_secs(1));
/// Twice what a fetch may take. Only a blocked runtime makes one last longer.
const REFRESH_DEADLINE: Duration = FETCH_TIMEOUT.saturating_mul(2);
/// Without keys every request fails, so retry soon.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(1);
/// With stale keys requests succeed, so retry slowly.
const FIRST_RETRY_WITH_KEYS: Duration = Duration::from_secs(5);
const LAST_RETRY_WITH_KEYS: Duration = Duration::from_secs(60);

#[cfg(test)]
#[cfg(feature = "testing")]
mod soak;
#[cfg(test)]
#[cfg(feature = "testing")]
mod soak_model;
#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
