//! The refresh of an issuer's keys: when the keys are fetched, how long they are used, and which
//! requests wait for them.
//!
//! Key selection is in `key_set`. The HTTP request is in `fetch`.

mod schedule;
mod state;
mod status;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{runtime::Handle, sync::Semaphore, time};

use crate::{
    algorithm::Algorithm,
    clock::{Clock, Moment},
    error::{AuthErrorKind, InvalidToken, KeysError, KeysUnavailable},
    jwks::{
        fetch::{FETCH_TIMEOUT, JwksEndpoint},
        key_set::VerifyingKey,
        missing_keys::MissingKeys,
        refresh::state::{NEVER, RefreshState, Schedule, Snapshot, UsableKeys, Waiters, nanos},
    },
    rate_limit::{RateLimit, RepeatedWarning},
    single_flight::{InFlight, SingleFlight, WaitError},
};

/// The refresh settings, which are the same for all issuers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RefreshPolicy {
    /// The time for which fetched keys are fresh, without the jitter.
    pub(crate) fresh_for: Duration,
    /// The interval of the rate limit for refreshes that are triggered by unknown key ids. Two such
    /// refreshes may start immediately. After that, one refresh may start per interval.
    pub(crate) unknown_key_cooldown: Duration,
    /// When keys reach this age, they are no longer used.
    pub(crate) serve_stale_for: Duration,
    /// The maximum number of requests that wait for the first keys or for fresh keys. A separate
    /// limit of the same size applies to requests that have an unknown key id and wait for a
    /// refresh in flight.
    pub(crate) max_waiting: usize,
    /// The maximum number of requests that have an unknown key id and wait until a refresh is
    /// permitted.
    pub(crate) max_waiting_unknown: usize,
}

impl Default for RefreshPolicy {
    fn default() -> Self {
        Self {
            fresh_for: Duration::from_secs(10 * 60),
            unknown_key_cooldown: Duration::from_secs(5),
            serve_stale_for: Duration::from_secs(24 * 60 * 60),
            max_waiting: 16_384,
            max_waiting_unknown: 256,
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
    schedule: Schedule,
    state: Mutex<RefreshState>,
    waiters: Waiters,
}

/// The next step for a request whose key is not among the current keys.
enum NextStep {
    /// Wait for this refresh.
    Join(InFlight<()>),
    /// Wait until this time of the monotonic clock. A refresh is permitted from that time on.
    WaitUntil(Duration),
    Refuse(AuthErrorKind),
}

impl RemoteKeys {
    /// Creates the store without fetching the keys.
    pub(super) fn new(
        issuer: &str,
        endpoint: JwksEndpoint,
        algorithms: Box<[Algorithm]>,
        policy: RefreshPolicy,
        clock: Arc<dyn Clock>,
    ) -> Self {
        // Logto's keys may be rotated twice in quick succession. The limit therefore allows two
        // refreshes immediately, so requests do not have to wait after the second rotation.
        let unknown_keys = RateLimit::new(2, policy.unknown_key_cooldown, clock.monotonic());
        Self {
            issuer: issuer.into(),
            endpoint,
            algorithms,
            policy,
            clock,
            snapshot: ArcSwapOption::empty(),
            schedule: Schedule {
                refresh_at: AtomicU64::new(NEVER),
                refresh_at_unix: AtomicU64::new(NEVER),
                wait_until: AtomicU64::new(0),
            },
            state: Mutex::new(RefreshState {
                refresh: SingleFlight::default(),
                unknown_keys,
                missing_keys: MissingKeys::default(),
                last_failure: None,
                failure_warning: RepeatedWarning::default(),
                failures_in_a_row: 0,
                retry_at: Duration::ZERO,
            }),
            waiters: Waiters {
                load: Semaphore::new(policy.max_waiting),
                unknown: Semaphore::new(policy.max_waiting),
                future: Semaphore::new(policy.max_waiting_unknown),
            },
        }
    }

    /// See [`KeyStore::find`](super::key_store::KeyStore::find).
    pub(super) fn find(
        self: &Arc<Self>,
        kid: Option<&str>,
        algorithm: Algorithm,
        now: Moment,
    ) -> Result<Option<Arc<VerifyingKey>>, AuthErrorKind> {
        let usable = self.usable_keys(now);
        if let Some(key) = usable.select(kid, algorithm)? {
            return Ok(Some(key).filter(|_| !self.should_wait_for_fresh(&usable, now)));
        }
        match self.next_step(kid, false) {
            NextStep::Refuse(kind) => Err(kind),
            NextStep::Join(_) | NextStep::WaitUntil(_) => Ok(None),
        }
    }

    /// See [`KeyStore::wait_for`](super::key_store::KeyStore::wait_for).
    pub(super) async fn wait_for(
        self: &Arc<Self>,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<VerifyingKey>, AuthErrorKind> {
        let held = || self.usable_keys(self.now()).select(kid, algorithm);
        if held()?.is_some() {
            self.wait_for_fresh_keys().await;
        }
        let found = self.refresh_until(kid, held).await?;
        found.ok_or_else(|| {
            self.lock().missing_keys.insert(kid);
            self.refusal(kid)
        })
    }

    /// Returns whether this key may still be used. Does not wait.
    pub(super) fn holds(self: &Arc<Self>, key: &Arc<VerifyingKey>, now: Moment) -> bool {
        let usable = self.usable_keys(now);
        usable.holds(key).unwrap_or(false) && !self.should_wait_for_fresh(&usable, now)
    }

    /// Returns the current key ids, escaped and in quotes.
    pub(super) fn quoted_kids(self: &Arc<Self>, now: Moment) -> Vec<String> {
        let usable = self.usable_keys(now);
        usable.get().map_or_else(Vec::new, |held| held.fetched.keys.quoted_kids())
    }

    /// Fetches the keys, unless the current keys are usable.
    pub(super) async fn load(self: &Arc<Self>) -> Result<(), KeysError> {
        let held = || Ok(self.usable_keys(self.now()).get().map(|_| ()));
        match self.refresh_until(None, held).await {
            Ok(Some(())) => Ok(()),
            Err(AuthErrorKind::KeysUnavailable(unavailable)) => Err(unavailable.cause),
            Ok(None) | Err(_) => Err(self.unavailable().cause),
        }
    }

    /// Waits until the current keys satisfy a condition. This method waits for at most two
    /// refreshes: one that was in flight before this call, and one that starts during this call.
    async fn refresh_until<T>(
        self: &Arc<Self>,
        kid: Option<&str>,
        condition: impl Fn() -> Result<Option<T>, InvalidToken>,
    ) -> Result<Option<T>, AuthErrorKind> {
        if !runtime_has_timer() {
            return Err(unavailable_without_runtime().into());
        }
        let started_before = self.lock().refresh.started();
        let mut is_final = false;
        let mut has_slept = false;
        loop {
            if let Some(found) = condition()? {
                return Ok(Some(found));
            }
            if is_final {
                return Ok(None);
            }
            match self.next_step(kid, true) {
                NextStep::Refuse(kind) => return Err(kind),
                NextStep::Join(refresh) => {
                    is_final = refresh.number > started_before;
                    self.wait_for_refresh(refresh).await?;
                }
                // This request has already waited until a refresh was permitted, but another
                // request started that refresh. The refresh is complete, but the key set still
                // does not contain the key.
                NextStep::WaitUntil(_) if has_slept => return Ok(None),
                NextStep::WaitUntil(time) => {
                    has_slept = true;
                    let permit = self.waiters.future.try_acquire();
                    let permit = permit.map_err(|_| self.too_many_unknown_keys())?;
                    let wait = time.saturating_sub(self.clock.monotonic());
                    time::sleep(wait).await;
                    drop(permit);
                }
            }
        }
    }

    async fn wait_for_refresh(&self, refresh: InFlight<()>) -> Result<(), AuthErrorKind> {
        let has_keys = self.has_usable_keys(self.now());
        let waiters = if has_keys { &self.waiters.unknown } else { &self.waiters.load };
        match time::timeout(MAX_WAIT, refresh.outcome(waiters)).await {
            // `TaskLost` means that the task panicked or that its runtime was shut down. A task may
            // replace the keys before it panics, so the caller checks the condition again.
            Ok(Ok(()) | Err(WaitError::TaskLost)) => Ok(()),
            Ok(Err(WaitError::TooManyWaiters)) if has_keys => Err(self.too_many_unknown_keys()),
            Ok(Err(WaitError::TooManyWaiters)) => Err(self.too_many_waiters().into()),
            Err(_) => Err(self.unavailable().into()),
        }
    }

    /// Waits briefly for the refresh in flight. If no waiter permit is available, or if the refresh
    /// does not complete in time, the request uses the current keys.
    async fn wait_for_fresh_keys(&self) {
        let now = self.clock.monotonic();
        let Some(refresh) = self.lock().refresh.in_flight(now) else { return };
        if runtime_has_timer() {
            let until = Duration::from_nanos(self.schedule.wait_until.load(Ordering::Relaxed));
            let outcome = refresh.outcome(&self.waiters.load);
            let _ = time::timeout(until.saturating_sub(now), outcome).await;
        }
    }

    /// Returns whether the current keys are so old that a request should wait for the refresh in
    /// flight. The typical case is a service that had no requests for a while.
    fn should_wait_for_fresh(&self, usable: &UsableKeys, now: Moment) -> bool {
        nanos(now.monotonic) < self.schedule.wait_until.load(Ordering::Relaxed)
            && usable.get().is_some_and(|held| {
                now.since(held.fetched_at) >= self.policy.fresh_for.saturating_mul(2)
            })
    }

    /// Returns the current keys, and whether they may be used. Starts a refresh if one is due.
    /// Never waits for a lock.
    pub(super) fn usable_keys(self: &Arc<Self>, now: Moment) -> UsableKeys {
        if nanos(now.monotonic) >= self.schedule.refresh_at.load(Ordering::Relaxed)
            || nanos(now.unix) >= self.schedule.refresh_at_unix.load(Ordering::Relaxed)
        {
            self.refresh_in_background(now);
        }
        let snapshot = self.snapshot.load();
        let is_usable = self.is_usable(snapshot.as_deref(), now);
        UsableKeys { snapshot, is_usable }
    }

    fn is_usable(&self, snapshot: Option<&Snapshot>, now: Moment) -> bool {
        snapshot.is_some_and(|held| now.since(held.fetched_at) < self.policy.serve_stale_for)
    }

    fn has_usable_keys(&self, now: Moment) -> bool {
        self.is_usable(self.snapshot.load().as_deref(), now)
    }

    /// Decides the next step for a request whose key is not among the current keys. If `may_start`
    /// is set and a refresh is permitted, starts the refresh.
    fn next_step(self: &Arc<Self>, kid: Option<&str>, may_start: bool) -> NextStep {
        let mut state = self.lock();
        let now = self.now();
        if let Some(refresh) = state.refresh.in_flight(now.monotonic) {
            return NextStep::Join(refresh);
        }
        let has_keys = self.has_usable_keys(now);
        // The rate limit applies to refreshes for unknown key ids. If there are no usable keys,
        // only the retry delay applies.
        let permitted_at = if has_keys {
            state.unknown_keys.next_permit_at(now.monotonic)
        } else {
            state.retry_at
        };
        if now.monotonic >= permitted_at {
            if !may_start {
                return NextStep::WaitUntil(now.monotonic);
            }
            if has_keys {
                state.unknown_keys.take_permit(now.monotonic);
            }
            let started = self.start_refresh(&mut state, now);
            return match started {
                Some(refresh) => NextStep::Join(refresh),
                None => NextStep::Refuse(unavailable_without_runtime().into()),
            };
        }
        let wait = permitted_at - now.monotonic;
        let is_healthy = has_keys && state.last_failure.is_none();
        if !is_healthy {
            return NextStep::Refuse(state.unavailable(permitted_at, now).into());
        }
        if state.missing_keys.contains(kid) {
            return NextStep::Refuse(InvalidToken::unknown_key(kid).into());
        }
        if wait > MAX_WAIT_FOR_PERMIT || self.waiters.future.available_permits() == 0 {
            return NextStep::Refuse(too_many_unknown_keys(wait));
        }
        NextStep::WaitUntil(permitted_at)
    }

    /// Returns the reason to refuse a token whose key is still missing after a refresh. The refresh
    /// may have failed.
    fn refusal(&self, kid: Option<&str>) -> AuthErrorKind {
        let mut state = self.lock();
        let now = self.now();
        if self.has_usable_keys(now) {
            if state.last_failure.is_none() {
                return InvalidToken::unknown_key(kid).into();
            }
            let permit = state.unknown_keys.next_permit_at(now.monotonic);
            let next = state.retry_at.min(permit);
            return state.unavailable(next, now).into();
        }
        state.unavailable(state.retry_at, now).into()
    }

    pub(super) fn unavailable(&self) -> KeysUnavailable {
        let state = self.lock();
        state.unavailable(state.retry_at, self.now())
    }

    fn too_many_waiters(&self) -> KeysUnavailable {
        let cause = format!(
            "more than {} requests are waiting for keys: see ValidatorBuilder::max_waiting",
            self.policy.max_waiting
        );
        KeysUnavailable::retry_now(KeysError::new(cause))
    }

    fn too_many_unknown_keys(&self) -> AuthErrorKind {
        let now = self.clock.monotonic();
        let next = self.lock().unknown_keys.next_permit_at(now);
        too_many_unknown_keys(next.saturating_sub(now))
    }

    fn now(&self) -> Moment {
        Moment::now(&*self.clock)
    }

    /// Locks the state for a few instructions. Never hold the lock across an `await`. Release the
    /// lock before logging, because a tracing subscriber can block the thread. The subscriber can
    /// also validate a token, which can require the same lock.
    fn lock(&self) -> MutexGuard<'_, RefreshState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn too_many_unknown_keys(retry_after: Duration) -> AuthErrorKind {
    AuthErrorKind::TooManyUnknownKeys { retry_after }
}

/// Returns whether this code runs on a tokio runtime with time enabled. tokio has no method to
/// check this, but a timer panics if time is not enabled.
fn runtime_has_timer() -> bool {
    Handle::try_current().is_ok()
        && std::panic::catch_unwind(|| drop(time::sleep(Duration::ZERO))).is_ok()
}

fn unavailable_without_runtime() -> KeysUnavailable {
    tracing::error!("{NO_RUNTIME}");
    KeysUnavailable::retry_now(KeysError::new(NO_RUNTIME))
}

const NO_RUNTIME: &str =
    "fetching keys requires a tokio runtime with I/O and time enabled: see Builder::enable_all";
/// The longest time that a request waits for one refresh. This time is 1 s longer than the fetch
/// timeout. If the fetch times out, the request therefore receives the error of the fetch.
const MAX_WAIT: Duration = FETCH_TIMEOUT.saturating_add(Duration::from_secs(1));
/// The longest time that a request with an unknown key id waits until a refresh is permitted. If
/// the wait would be longer, the request is refused immediately.
const MAX_WAIT_FOR_PERMIT: Duration = Duration::from_secs(5);
#[cfg(test)]
#[cfg(feature = "testing")]
mod soak;
#[cfg(test)]
#[cfg(feature = "testing")]
mod soak_model;
#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
