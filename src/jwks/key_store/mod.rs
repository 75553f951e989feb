//! One issuer's keys over time: refresh, cooldown, outage. Which key fits is `keys.rs`'s, and how
//! they are fetched `jwks/remote.rs`'s.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    algorithm::Algorithm,
    clock::Clock,
    error::{ConfigError, InvalidToken, KeysError, KeysUnavailable},
    escape::Excerpt,
    http_client::HttpClients,
    issuer::{Jwks, TrustedIssuer},
    jwks::{
        fetch::{Fetched, Remote},
        key_set::{KeySet, Selection, VerifyingKey},
        rate_limit::Bucket,
    },
    single_flight::{Arrival, Departure, Errand, Flights, Seat, doubled},
};
use arc_swap::{ArcSwapOption, Guard};
use http::HeaderValue;

/// How long keys are fresh, and how often they may be asked for; one for all issuers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Freshness {
    pub(crate) fresh_for: Duration,
    pub(crate) cooldown: Duration,
    pub(crate) keep_last_good: Duration,
}

impl Default for Freshness {
    fn default() -> Self {
        Self {
            fresh_for: Duration::from_secs(10 * 60),
            cooldown: Duration::from_secs(10),
            keep_last_good: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// The keys of one issuer. A look-up never waits; [`wait`](Self::wait) does, for at most two
/// flights of a refresh that all waiters share.
#[derive(Debug, Clone)]
pub(crate) struct KeyStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    issuer: Box<str>,
    source: Option<Remote>,
    algorithms: Box<[Algorithm]>,
    freshness: Freshness,
    clock: Arc<dyn Clock>,
    snapshot: ArcSwapOption<Snapshot>,
    /// When the next look-up starts a refresh, in nanoseconds of the monotonic clock; while one is
    /// under way, when that is lost. Beside `state`, so that a look-up takes no lock.
    refresh_at: AtomicU64,
    state: Mutex<State>,
    waiting: AtomicUsize,
}

/// Good keys, and how long they may be used without a further success.
#[derive(Debug)]
struct Snapshot {
    keys: KeySet,
    good_until: Duration,
    etag: Option<HeaderValue>,
}

#[derive(Debug)]
struct State {
    flights: Flights<()>,
    bucket: Bucket,
    /// The last refresh, if it failed.
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    cause: KeysError,
    in_a_row: u32,
    retry_at: Duration,
}

/// How far one request has come with asking for a refresh.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// How many flights had been started when it first waited.
    arrived: Option<u64>,
    /// It has waited for a flight that began after it came: what that found is final.
    spent: bool,
}

/// What is known about a token's key at this moment.
#[derive(Debug)]
pub(crate) enum LookUp {
    Key(Arc<VerifyingKey>),
    Refused(InvalidToken),
    Unavailable(KeysUnavailable),
    /// A refresh may bring it: [`KeyStore::wait`], and look again.
    Fetch,
}

impl KeyStore {
    pub(crate) fn new(
        trusted: &TrustedIssuer,
        freshness: Freshness,
        clients: &HttpClients,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConfigError> {
        let (source, snapshot) = match &trusted.jwks {
            Jwks::Uri(uri) => {
                let url = crate::url::check_url("jwks_uri", uri, trusted.transport)?;
                (Some(Remote::new(url, clients.clone())), None)
            }
            Jwks::Static(json) => {
                let keys = KeySet::from_json(json.as_bytes(), &trusted.algorithms)
                    .map_err(|error| ConfigError::new("static_jwks", error.to_string()))?;
                (None, Some(Snapshot { keys, good_until: Duration::MAX, etag: None }))
            }
        };
        let bucket = Bucket::full(freshness.cooldown, clock.monotonic());
        Ok(Self(Arc::new(Shared {
            issuer: trusted.issuer.as_str().into(),
            source,
            algorithms: trusted.algorithms.as_slice().into(),
            freshness,
            clock,
            snapshot: ArcSwapOption::new(snapshot.map(Arc::new)),
            refresh_at: AtomicU64::new(NEVER),
            state: Mutex::new(State { flights: Flights::default(), bucket, failure: None }),
            waiting: AtomicUsize::new(0),
        })))
    }

    /// The key of a token, or what to do without it.
    pub(crate) fn look_up(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        patience: &Patience,
    ) -> LookUp {
        let Some(snapshot) = self.current() else { return self.0.without_keys(patience) };
        let selection = snapshot.as_ref().map(|snapshot| snapshot.keys.select(kid, algorithm));
        match selection {
            Some(Selection::Key(key)) => LookUp::Key(Arc::clone(key)),
            Some(Selection::Refused(reason)) => LookUp::Refused(reason),
            Some(Selection::Unknown) | None => self.0.unknown_key(kid, patience),
        }
    }

    /// Whether this very key is still good: the question of a token that was verified before.
    pub(crate) fn holds(&self, key: &Arc<VerifyingKey>) -> bool {
        let snapshot = self.current();
        snapshot.is_some_and(|held| held.as_ref().is_some_and(|held| held.keys.holds(key)))
    }

    /// Waits until the refresh under way has landed, or one that is started now.
    ///
    /// # Errors
    /// When none can be started, or too many wait already.
    pub(crate) async fn wait(&self, patience: &mut Patience) -> Result<(), KeysUnavailable> {
        let _seat = self.0.take_seat()?;
        let Some(mut landed) = self.0.board(patience)? else { return Ok(()) };
        // However it went: the next look-up says what there is.
        let _ = tokio::time::timeout(LOST_AFTER, landed.wait_for(Option::is_some)).await;
        Ok(())
    }

    /// Fetches the keys unless they are held already.
    ///
    /// # Errors
    /// What the fetch met.
    pub(crate) async fn load(&self) -> Result<(), KeysError> {
        let mut patience = Patience::default();
        while self.current().is_none() {
            if let LookUp::Unavailable(unavailable) = self.0.without_keys(&patience) {
                return Err(unavailable.cause);
            }
            self.wait(&mut patience).await.map_err(|unavailable| unavailable.cause)?;
        }
        Ok(())
    }

    /// The good keys, if there are any; starts a refresh when one is due. Takes no lock.
    fn current(&self) -> Option<Guard<Option<Arc<Snapshot>>>> {
        let now = self.0.clock.monotonic();
        if nanos(now) >= self.0.refresh_at.load(Ordering::Relaxed) {
            self.0.refresh_in_background();
        }
        let snapshot = self.0.snapshot.load();
        let is_good = snapshot.as_ref().is_some_and(|snapshot| now < snapshot.good_until);
        is_good.then_some(snapshot)
    }
}

impl Shared {
    fn without_keys(&self, patience: &Patience) -> LookUp {
        let state = self.lock();
        let now = self.clock.monotonic();
        let due = state.failure.as_ref().is_none_or(|failure| now >= failure.retry_at);
        if !patience.spent && (state.flights.current(now).is_some() || due) {
            return LookUp::Fetch;
        }
        LookUp::Unavailable(state.unavailable(now))
    }

    fn unknown_key(&self, kid: Option<&str>, patience: &Patience) -> LookUp {
        let mut state = self.lock();
        let now = self.clock.monotonic();
        let may_ask = self.source.is_some() && !patience.spent;
        if may_ask && (state.flights.current(now).is_some() || state.bucket.has_one(now)) {
            LookUp::Fetch
        } else if state.failure.is_some() {
            LookUp::Unavailable(state.unavailable(now))
        } else {
            LookUp::Refused(InvalidToken::UnknownKey(kid.map(Excerpt::new)))
        }
    }

    /// Joins the flight under way or starts one; `None` when there is nothing to wait for any more.
    fn board(
        self: &Arc<Self>,
        patience: &mut Patience,
    ) -> Result<Option<Arrival<()>>, KeysUnavailable> {
        let mut state = self.lock();
        let now = self.clock.monotonic();
        let arrived = *patience.arrived.get_or_insert(state.flights.started());
        let mut departure = None;
        if state.flights.current(now).is_none() {
            // First loads are free, a refresh for an unknown kid is not.
            if self.has_good_keys(now) && !state.bucket.take(now) {
                return Ok(None);
            }
            departure = self.prepare(&mut state, now);
        }
        let landed = state.flights.current(now).map(|flight| {
            patience.spent = flight.number > arrived;
            flight.landed.clone()
        });
        drop(state);
        if let Some(departure) = departure {
            departure.depart();
        }
        let nowhere = || KeysUnavailable::at_once(KeysError::without_runtime());
        landed.map(Some).ok_or_else(nowhere)
    }

    fn refresh_in_background(self: &Arc<Self>) {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Whoever holds the lock is about to start one, or has just landed one.
            Err(TryLockError::WouldBlock) => return,
        };
        let now = self.clock.monotonic();
        // Only one of the look-ups that saw it due goes on.
        if state.flights.current(now).is_some()
            || nanos(now) < self.refresh_at.load(Ordering::Relaxed)
        {
            return;
        }
        match self.prepare(&mut state, now) {
            Some(departure) => {
                drop(state);
                departure.depart();
            }
            None => {
                let later = now.saturating_add(FIRST_RETRY_WITH_KEYS);
                self.refresh_at.store(nanos(later), Ordering::Relaxed);
                drop(state);
                // Which logs it.
                drop(KeysError::without_runtime());
            }
        }
    }

    /// Prepares a flight; it departs when the lock is given back. `None` outside a tokio runtime.
    fn prepare(self: &Arc<Self>, state: &mut State, now: Duration) -> Option<Departure<Refresh>> {
        let lost_at = now.saturating_add(LOST_AFTER);
        let refresh = |number| Refresh { shared: Arc::clone(self), number };
        let (departure, _) = state.flights.prepare(lost_at, refresh)?;
        self.refresh_at.store(nanos(lost_at), Ordering::Relaxed);
        Some(departure)
    }

    fn refreshed(&self, mut state: MutexGuard<'_, State>, keys: KeySet, etag: Option<HeaderValue>) {
        let now = self.clock.monotonic();
        let Freshness { fresh_for, keep_last_good, .. } = self.freshness;
        let count = keys.len();
        // However the dice fall, before the keys may no longer be used.
        let refresh_in = jittered(fresh_for).min(keep_last_good / 10 * 9);
        let good_until = now.saturating_add(keep_last_good);
        state.failure = None;
        self.snapshot.store(Some(Arc::new(Snapshot { keys, good_until, etag })));
        self.refresh_at.store(nanos(now.saturating_add(refresh_in)), Ordering::Relaxed);
        drop(state);
        tracing::info!(issuer = &*self.issuer, keys = count, "key set refreshed");
    }

    fn failed(&self, mut state: MutexGuard<'_, State>, cause: &KeysError, held: Option<&Snapshot>) {
        let now = self.clock.monotonic();
        let left = held.map(|held| held.good_until.saturating_sub(now));
        let good_for = left.filter(|left| !left.is_zero());
        let in_a_row = state.failure.as_ref().map_or(0, |last| last.in_a_row).saturating_add(1);
        // Keys that die before the next attempt want it at that moment.
        let wait = backoff(in_a_row, good_for.is_some()).min(good_for.unwrap_or(Duration::MAX));
        let retry_at = now.saturating_add(wait);
        state.failure = Some(Failure { cause: cause.clone(), in_a_row, retry_at });
        let refresh_at = if good_for.is_some() { nanos(retry_at) } else { NEVER };
        self.refresh_at.store(refresh_at, Ordering::Relaxed);
        drop(state);
        let issuer = &*self.issuer;
        match (good_for, held) {
            (Some(left), _) => {
                let left = left.as_secs();
                tracing::warn!(issuer, %cause, left, "key set not refreshed: the last good keys are used for so many seconds more");
            }
            (None, Some(_)) => {
                tracing::warn!(issuer, %cause, "key set not refreshed: the last good keys are too old, every token gets 503");
            }
            (None, None) => {
                tracing::warn!(issuer, %cause, "no key set yet: every token gets 503");
            }
        }
    }

    fn take_seat(&self) -> Result<Seat<'_>, KeysUnavailable> {
        Seat::take(&self.waiting, MAX_WAITERS).ok_or_else(|| {
            let met = format!("more than {MAX_WAITERS} requests wait for keys");
            KeysUnavailable::at_once(KeysError::new(met))
        })
    }

    fn has_good_keys(&self, now: Duration) -> bool {
        self.snapshot.load().as_ref().is_some_and(|snapshot| now < snapshot.good_until)
    }

    /// The lock is held for a few instructions at a time, never across a wait, nor while something
    /// is logged: a subscriber may block, or validate a token itself.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a flight of one issuer's keys does.
struct Refresh {
    shared: Arc<Shared>,
    number: u64,
}

impl Errand for Refresh {
    type Fetched = Result<Fetched, KeysError>;
    type News = ();

    async fn fetch(&self) -> Result<Fetched, KeysError> {
        let Self { shared, number } = self;
        if !shared.lock().flights.is_latest(*number) {
            return Err(KeysError::new("the fetch came too late: another has taken its place"));
        }
        let Some(remote) = &shared.source else { return Err(KeysError::new("a static key set")) };
        let held = shared.snapshot.load_full();
        let etag = held.as_ref().and_then(|held| held.etag.as_ref());
        remote.fetch(etag, &shared.algorithms).await
    }

    /// A failure of any kind leaves good keys as they are.
    fn land(&self, fetched: Option<Result<Fetched, KeysError>>) {
        let Self { shared, number } = self;
        let mut state = shared.lock();
        if !state.flights.end(*number) {
            return;
        }
        let held = shared.snapshot.load_full();
        let interrupted = || Err(KeysError::new("the fetch was interrupted"));
        match (fetched.unwrap_or_else(interrupted), held) {
            (Ok(Fetched::Keys(keys, etag)), Some(held)) => {
                shared.refreshed(state, keys.reusing(&held.keys), etag);
            }
            (Ok(Fetched::Keys(keys, etag)), None) => shared.refreshed(state, keys, etag),
            (Ok(Fetched::NotModified), Some(held)) => {
                shared.refreshed(state, held.keys.clone(), held.etag.clone());
            }
            (Ok(Fetched::NotModified), None) => {
                shared.failed(state, &KeysError::new("304, but no keys are held"), None);
            }
            (Err(cause), held) => shared.failed(state, &cause, held.as_deref()),
        }
    }
}

impl State {
    fn unavailable(&self, now: Duration) -> KeysUnavailable {
        match &self.failure {
            Some(failure) => KeysUnavailable {
                retry_after: failure.retry_at.saturating_sub(now),
                cause: failure.cause.clone(),
            },
            None => {
                KeysUnavailable::at_once(KeysError::timeout("the keys were not fetched in time"))
            }
        }
    }
}

fn backoff(in_a_row: u32, has_keys: bool) -> Duration {
    let (first, last) = if has_keys {
        (FIRST_RETRY_WITH_KEYS, LAST_RETRY_WITH_KEYS)
    } else {
        (FIRST_RETRY, LAST_RETRY)
    };
    doubled(first, last, in_a_row)
}

/// ±10 %, so that a fleet started together does not ask together.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * fastrand::f64())
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NEVER - 1)
}

const NEVER: u64 = u64::MAX;
const MAX_WAITERS: usize = 1024;
/// Twice what a fetch may take.
const LOST_AFTER: Duration = Duration::from_secs(10);
/// Without keys nothing works: ask again soon.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(1);
/// With the last good keys there is time.
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
