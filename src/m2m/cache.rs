//! Tokens over time: one entry per request, one flight per entry, refresh ahead, backoff.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};

use crate::{
    clock::Clock,
    m2m::flight::{Arrival, Errand, Flights, Seat, doubled},
    m2m::{
        endpoint::{Answer, TokenEndpoint},
        error::{TokenRequestError, TokenRequestErrorKind},
        request::TokenRequest,
        token::{IssuedToken, Moment},
    },
    scope::ScopeSet,
};

/// The tokens of one application.
pub(crate) struct TokenCache {
    pub(crate) endpoint: TokenEndpoint,
    /// How long before expiry a token is refreshed; `None`: see [`TokenCache::margin`].
    refresh_margin: Option<Duration>,
    pub(crate) clock: Arc<dyn Clock>,
    entries: Cache<Arc<TokenRequest>, Arc<Entry>>,
    waiting: AtomicUsize,
}

/// One kind of token.
struct Entry {
    request: Arc<TokenRequest>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<IssuedToken>,
    /// When the next caller starts a flight: with a token, or after a failure.
    fly_at: Duration,
    /// They bring their outcome to all who wait.
    flights: Flights<Outcome>,
    /// The last flight, if it failed.
    failure: Option<Failure>,
    /// Tokens that were invalidated one after the other, and until when another is not.
    invalidated_in_a_row: u32,
    keep_until: Duration,
}

type Outcome = Result<IssuedToken, TokenRequestError>;

struct Failure {
    error: TokenRequestError,
    in_a_row: u32,
}

/// What an entry has for a caller.
enum Held {
    Final(Outcome),
    Wait(Arrival<Outcome>),
}

impl TokenCache {
    pub(crate) fn new(
        endpoint: TokenEndpoint,
        refresh_margin: Option<Duration>,
        max_entries: usize,
        clock: Arc<dyn Clock>,
    ) -> Self {
        // LRU: the default policy turns newcomers away from a full cache, and each of their
        // callers would ask for a token of its own.
        let entries = Cache::builder()
            .max_capacity(max_entries as u64)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { endpoint, refresh_margin, clock, entries, waiting: AtomicUsize::new(0) }
    }

    /// The token held, or the one that a flight brings. Waits only without a living token.
    pub(crate) async fn token(self: &Arc<Self>, request: &TokenRequest) -> Outcome {
        let entry = match self.entries.get(request) {
            Some(entry) => entry,
            None => self.new_entry(request)?,
        };
        match self.look_at(&entry) {
            Held::Final(outcome) => outcome,
            Held::Wait(flight) => self.wait(request, flight).await,
        }
    }

    /// Drops this token, unless another has taken its place, or one was dropped just before: where
    /// a fresh token is refused as well, another one would not help.
    pub(crate) fn invalidate(&self, token: &IssuedToken) {
        let Some(entry) = self.entries.get(token.request()) else { return };
        let now = self.clock.monotonic();
        let mut state = entry.lock();
        if !state.token.as_ref().is_some_and(|held| held.is(token)) {
            return;
        }
        if now < state.keep_until {
            drop(state);
            tracing::debug!(request = %entry.request, "a fresh token is refused too, and is kept");
            return;
        }
        let quiet_for = now.saturating_sub(state.keep_until);
        let in_a_row = if quiet_for > LAST_KEEP { 1 } else { state.invalidated_in_a_row + 1 };
        state.token = None;
        state.invalidated_in_a_row = in_a_row;
        state.keep_until = now + doubled(FIRST_KEEP, LAST_KEEP, in_a_row);
        drop(state);
        tracing::debug!(request = %entry.request, "token invalidated");
    }

    fn new_entry(&self, request: &TokenRequest) -> Result<Arc<Entry>, TokenRequestError> {
        request.check().map_err(|advice| {
            TokenRequestError::new(TokenRequestErrorKind::NotSent, request, advice)
        })?;
        let request = Arc::new(request.clone());
        let entry = Entry { request: Arc::clone(&request), state: Mutex::default() };
        Ok(self.entries.get_with(request, || Arc::new(entry)))
    }

    fn look_at(self: &Arc<Self>, entry: &Arc<Entry>) -> Held {
        let now = self.now();
        let state = entry.lock();
        let flight = state.flights.current(now.monotonic).map(|flight| flight.landed.clone());
        if let Some(token) = state.token.clone().filter(|token| token.is_alive(now)) {
            if now.monotonic >= state.fly_at && flight.is_none() {
                // Outside a runtime there is no refresh, and the token serves as long as it lives.
                let _ = self.fly(entry, state);
            }
            return Held::Final(Ok(token));
        }
        if let Some(flight) = flight {
            return Held::Wait(flight);
        }
        if let Some(failure) = &state.failure
            && now.monotonic < state.fly_at
        {
            return Held::Final(Err(failure.error.after(Some(state.fly_at - now.monotonic))));
        }
        match self.fly(entry, state) {
            Ok(flight) => Held::Wait(flight),
            Err(error) => Held::Final(Err(error)),
        }
    }

    /// Starts a flight, once the lock is given back.
    fn fly(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        mut state: MutexGuard<'_, State>,
    ) -> Result<Arrival<Outcome>, TokenRequestError> {
        let asked_at = self.now();
        let lost_at = asked_at.monotonic.saturating_add(self.patience());
        let ask =
            |number| Ask { cache: Arc::clone(self), entry: Arc::clone(entry), number, asked_at };
        let (departure, landed) = state.flights.prepare(lost_at, ask).ok_or_else(|| {
            let met = "tokens cannot be fetched outside a tokio runtime";
            TokenRequestError::new(TokenRequestErrorKind::NotSent, &entry.request, met)
        })?;
        drop(state);
        departure.depart();
        Ok(landed)
    }

    async fn wait(&self, request: &TokenRequest, mut flight: Arrival<Outcome>) -> Outcome {
        let error = |kind, met| Err(TokenRequestError::new(kind, request, met));
        let Some(_seat) = Seat::take(&self.waiting, MAX_WAITERS) else {
            let met = format!("more than {MAX_WAITERS} callers wait for tokens");
            return error(TokenRequestErrorKind::Overloaded, met);
        };
        let patience = self.patience();
        let landed = tokio::time::timeout(patience, flight.wait_for(Option::is_some)).await;
        let outcome = landed.ok().and_then(|landed| landed.ok()?.clone());
        outcome.unwrap_or_else(|| {
            let met = format!("no token within {patience:?}");
            error(TokenRequestErrorKind::Timeout, met)
        })
    }

    /// Takes in what a flight brought. A failure of any kind leaves the token held as it is.
    fn land(&self, ask: &Ask, answer: Result<Answer, TokenRequestError>) -> Outcome {
        let now = self.now();
        let Ask { entry, number, asked_at, .. } = ask;
        let request = &entry.request;
        let answer = answer.and_then(|answer| {
            let missing = request.missing(ScopeSet::new(&answer.scope));
            if missing.is_empty() {
                return Ok(answer);
            }
            Err(TokenRequestError::without_scopes(request, missing))
        });
        let mut state = entry.lock();
        if !state.flights.end(*number) {
            return Err(superseded(request));
        }
        match answer {
            Ok(answer) => {
                let life = answer.expires_in.unwrap_or(UNKNOWN_LIFE);
                let expiry = Moment {
                    unix: asked_at.unix.saturating_add(life),
                    monotonic: asked_at.monotonic.saturating_add(life),
                };
                let token = IssuedToken::new(Arc::clone(request), answer, expiry);
                state.token = Some(token.clone());
                state.failure = None;
                state.fly_at = expiry.monotonic.saturating_sub(self.margin(life));
                drop(state);
                tracing::debug!(%request, life_secs = life.as_secs(), "access token issued");
                Ok(token)
            }
            Err(error) => {
                let held = state.token.as_ref().map(|token| token.life_left(now));
                let last = state.failure.as_ref();
                // An outage that ends in a refusal begins anew, and the other way round.
                let last = last.filter(|last| last.error.is_retryable() == error.is_retryable());
                let in_a_row = last.map_or(0, |last| last.in_a_row) + 1;
                let wait = backoff(&error, in_a_row).max(error.retry_after().unwrap_or_default());
                state.fly_at = now.monotonic + wait;
                state.failure = Some(Failure { error: error.clone(), in_a_row });
                drop(state);
                tracing::warn!(
                    %error,
                    old_token_for_secs = held.unwrap_or_default().as_secs(),
                    retry_after_ms = wait.as_millis(),
                    "no access token"
                );
                Err(error.after(Some(wait)))
            }
        }
    }

    /// How long before expiry a token of this life is refreshed; up to half as long again, so that
    /// a fleet started together does not ask together.
    fn margin(&self, life: Duration) -> Duration {
        let margin = match self.refresh_margin {
            Some(margin) => margin.min(life / 2),
            None => REFRESH_MARGIN.min(life / 10),
        };
        margin.mul_f64(1.0 + 0.5 * fastrand::f64())
    }

    /// The flight gives up by itself; the grace is for its error, which says more.
    fn patience(&self) -> Duration {
        self.endpoint.timeout + GRACE
    }

    fn now(&self) -> Moment {
        Moment { unix: self.clock.unix_time(), monotonic: self.clock.monotonic() }
    }
}

impl Entry {
    /// The lock is held for a few instructions at a time, never across a wait, nor while something
    /// is logged.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a flight for one kind of token does.
struct Ask {
    cache: Arc<TokenCache>,
    entry: Arc<Entry>,
    number: u64,
    asked_at: Moment,
}

impl Errand for Ask {
    type Fetched = Result<Answer, TokenRequestError>;
    type News = Outcome;

    async fn fetch(&self) -> Result<Answer, TokenRequestError> {
        // Its runtime stood still, and a token costs money.
        if !self.entry.lock().flights.is_latest(self.number) {
            return Err(superseded(&self.entry.request));
        }
        self.cache.endpoint.ask(&self.entry.request, self.asked_at.unix).await
    }

    fn land(&self, answer: Option<Result<Answer, TokenRequestError>>) -> Outcome {
        let answer = answer.unwrap_or_else(|| {
            let kind = TokenRequestErrorKind::Connection;
            let met = "the token request was interrupted";
            Err(TokenRequestError::new(kind, &self.entry.request, met))
        });
        self.cache.land(self, answer)
    }
}

fn superseded(request: &TokenRequest) -> TokenRequestError {
    let met = "the token request came too late: another has taken its place";
    TokenRequestError::new(TokenRequestErrorKind::Timeout, request, met)
}

/// Up to a fifth less than the doubled time, so that a fleet does not retry in step.
fn backoff(error: &TokenRequestError, in_a_row: u32) -> Duration {
    let (first, last) = if error.is_retryable() {
        (FIRST_RETRY, LAST_RETRY)
    } else {
        (FIRST_RETRY_OF_PERMANENT, LAST_RETRY_OF_PERMANENT)
    };
    doubled(first, last, in_a_row).mul_f64(0.8 + 0.2 * fastrand::f64())
}

const REFRESH_MARGIN: Duration = Duration::from_secs(60);
/// Of a token without `expires_in`: one token a minute is bearable, and Logto always says.
const UNKNOWN_LIFE: Duration = Duration::from_secs(60);
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// A wrong secret or a missing role: somebody has to change it first.
const FIRST_RETRY_OF_PERMANENT: Duration = Duration::from_secs(10);
const LAST_RETRY_OF_PERMANENT: Duration = Duration::from_secs(5 * 60);
/// After an invalidated token its successor is kept for so long, and longer each time.
const FIRST_KEEP: Duration = Duration::from_secs(10);
const LAST_KEEP: Duration = Duration::from_secs(10 * 60);
const MAX_WAITERS: usize = 10_000;
const GRACE: Duration = Duration::from_secs(1);
