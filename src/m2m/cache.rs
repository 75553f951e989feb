//! The token cache: one entry per `TokenRequest`, with single flight, refresh before expiry, and
//! backoff.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};
use tokio::sync::Semaphore;

use crate::{
    clock::{Clock, Moment},
    m2m::{
        error::{TokenRequestError, TokenRequestErrorKind},
        token::{IssuedToken, TokenResponse},
        token_endpoint::TokenEndpoint,
        token_request::TokenRequest,
    },
    metrics,
    rate_limit::{RateLimit, RepeatedWarning},
    scope::ScopeSet,
    single_flight::{InFlight, SingleFlight, WaitError, backoff},
};

/// The cached tokens of one application.
pub(crate) struct TokenCache {
    endpoint: TokenEndpoint,
    /// `None` means the default of [`TokenCache::refresh_margin`].
    refresh_margin: Option<Duration>,
    clock: Arc<dyn Clock>,
    /// The entries of requests for which Logto has issued a token.
    granted: Entries,
    /// The entries of requests for which Logto has not issued a token. The organization of such a
    /// request may come from untrusted input. Because these entries are in a separate cache,
    /// requests with made-up organizations cannot evict tokens.
    candidates: Entries,
    /// Counts how often Logto refuses the token request of a candidate, for example because the
    /// organization does not exist. Above a limit, the cache accepts no new candidates for a while.
    refusals: Mutex<RateLimit>,
    /// Limits the number of calls that wait for token requests.
    waiters: Semaphore,
}

type Entries = Cache<Arc<TokenRequest>, Arc<CacheEntry>>;

/// The entry of one request, with its token.
struct CacheEntry {
    request: Arc<TokenRequest>,
    state: Mutex<EntryState>,
}

#[derive(Default)]
struct EntryState {
    token: Option<IssuedToken>,
    /// Whether a service has refused the token. Until the token's successor arrives, other calls
    /// still get the refused token, because another service may accept it.
    is_refused: bool,
    /// The monotonic time from which a call may start a token request: to refresh the token, or to
    /// retry after a failure.
    next_request_at: Duration,
    requests: SingleFlight<TokenResult>,
    /// The number of token requests since the last success, including the request in flight. If the
    /// errors change from temporary to permanent, or from permanent to temporary, the number is
    /// reset to 1.
    failures_in_a_row: u32,
    last_error: Option<TokenRequestError>,
    warning: RepeatedWarning,
    /// The number of invalidations in a row. If the time from `keep_until` to the next invalidation
    /// is longer than [`LAST_KEEP`], the count restarts at one.
    invalidated_in_a_row: u32,
    /// Before this monotonic time, [`TokenCache::invalidate`] has no effect on the token.
    keep_until: Duration,
}

type TokenResult = Result<IssuedToken, TokenRequestError>;

/// The result of a look-up in an entry.
enum CacheLookup {
    Ready(TokenResult),
    Wait(InFlight<TokenResult>),
}

impl TokenCache {
    pub(crate) fn new(
        endpoint: TokenEndpoint,
        refresh_margin: Option<Duration>,
        capacity: usize,
        clock: Arc<dyn Clock>,
    ) -> Self {
        // Uses LRU, because moka's default policy may refuse new entries if the cache is full. Each
        // call for such an entry would then request a new token.
        let entries = |capacity| {
            Cache::builder().max_capacity(capacity).eviction_policy(EvictionPolicy::lru()).build()
        };
        let refusals = RateLimit::new(MAX_REFUSALS, REFUSAL_INTERVAL, clock.monotonic());
        Self {
            endpoint,
            refresh_margin,
            clock,
            granted: entries(capacity as u64),
            candidates: entries(MAX_CANDIDATES),
            refusals: Mutex::new(refusals),
            waiters: Semaphore::new(MAX_WAITERS),
        }
    }

    /// Returns the cached token. If no valid token is cached, waits for a token request, which is
    /// either in flight or started by this call.
    pub(crate) async fn token(self: &Arc<Self>, request: &TokenRequest) -> TokenResult {
        let entry = self.entry(request)?;
        match self.look_up(&entry, None) {
            CacheLookup::Ready(result) => result,
            CacheLookup::Wait(in_flight) => self.wait(&entry, in_flight).await,
        }
    }

    /// Invalidates the token `refused` and returns its successor. Waits for the successor if
    /// necessary.
    ///
    /// A token that recently replaced an invalidated token is not invalidated. If `refused` is such
    /// a token, this method returns the same token again.
    pub(crate) async fn token_other_than(self: &Arc<Self>, refused: &IssuedToken) -> TokenResult {
        self.invalidate(refused);
        let entry = self.entry(refused.request())?;
        match self.look_up(&entry, Some(refused)) {
            CacheLookup::Ready(result) => result,
            CacheLookup::Wait(in_flight) => self.wait(&entry, in_flight).await,
        }
    }

    /// Starts to request this token's successor. Does nothing if the cache has already invalidated
    /// or replaced this token. Also does nothing if the cache recently invalidated this token's
    /// predecessor. If a service refuses two tokens in a row, a third token would not help.
    pub(crate) fn invalidate(self: &Arc<Self>, token: &IssuedToken) {
        let Some(entry) = self.granted.get(token.request()) else { return };
        let now = self.clock.monotonic();
        let mut state = entry.lock();
        if state.is_refused || !state.token.as_ref().is_some_and(|cached| cached.is_same(token)) {
            return;
        }
        if now < state.keep_until {
            drop(state);
            tracing::debug!(request = %entry.request, "service refused a new token; keeping the token");
            return;
        }
        let unused_for = now.saturating_sub(state.keep_until);
        let in_a_row = if unused_for > LAST_KEEP { 1 } else { state.invalidated_in_a_row + 1 };
        state.is_refused = true;
        if state.failures_in_a_row == 0 {
            state.next_request_at = now;
        }
        state.invalidated_in_a_row = in_a_row;
        state.keep_until = now + backoff(FIRST_KEEP, LAST_KEEP, in_a_row);
        drop(state);
        self.look_up(&entry, None);
        tracing::debug!(request = %entry.request, "access token invalidated");
    }

    pub(crate) const fn endpoint(&self) -> &TokenEndpoint {
        &self.endpoint
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn entry(&self, request: &TokenRequest) -> Result<Arc<CacheEntry>, TokenRequestError> {
        let known = self.granted.get(request).or_else(|| self.candidates.get(request));
        known.map_or_else(|| self.new_candidate(request), Ok)
    }

    fn new_candidate(&self, request: &TokenRequest) -> Result<Arc<CacheEntry>, TokenRequestError> {
        request.check().map_err(|advice| {
            TokenRequestError::new(TokenRequestErrorKind::NotSent, request, advice)
        })?;
        let now = self.clock.monotonic();
        let permitted_at = self.refusals().next_permit_at(now);
        if permitted_at > now {
            let message = "Logto recently refused too many token requests";
            let kind = TokenRequestErrorKind::Overloaded;
            let error = TokenRequestError::new(kind, request, message);
            return Err(error.with_retry_after(Some(permitted_at - now)));
        }
        let request = Arc::new(request.clone());
        let entry = CacheEntry { request: Arc::clone(&request), state: Mutex::default() };
        Ok(self.candidates.get_with(request, || Arc::new(entry)))
    }

    /// Moves an entry to `granted` after Logto has issued a token for the entry. Candidates cannot
    /// evict the entries in `granted`.
    fn promote(&self, entry: &Arc<CacheEntry>) {
        if !self.granted.contains_key(&entry.request) {
            self.granted.insert(Arc::clone(&entry.request), Arc::clone(entry));
            self.candidates.invalidate(&entry.request);
        }
    }

    /// Looks up the token for a call. `refused` is the token that the caller wants to replace, if
    /// any. If the cache has invalidated that token, this method does not return it.
    fn look_up(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
        refused: Option<&IssuedToken>,
    ) -> CacheLookup {
        let now = self.now();
        let mut state = entry.lock();
        let in_flight = state.requests.in_flight(now.monotonic);
        let delay = state.next_request_at.saturating_sub(now.monotonic);
        let is_refused = state.is_refused;
        let is_usable = |token: &IssuedToken| {
            token.is_valid(now) && !(is_refused && refused.is_some_and(|r| r.is_same(token)))
        };
        if let Some(token) = state.token.clone().filter(is_usable) {
            if delay.is_zero() && in_flight.is_none() {
                // Refreshes the token in the background. Outside a tokio runtime, no refresh
                // starts, but the cached token is still valid.
                let _ = self.start_request(entry, &mut state, now);
            }
            return CacheLookup::Ready(Ok(token));
        }
        if let Some(in_flight) = in_flight {
            return CacheLookup::Wait(in_flight);
        }
        if state.failures_in_a_row > 0 && !delay.is_zero() {
            let error = state.last_error.clone().unwrap_or_else(|| interrupted(&entry.request));
            return CacheLookup::Ready(Err(error.with_retry_after(Some(delay))));
        }
        self.start_request(entry, &mut state, now).map_or_else(
            || {
                let message = "token requests need a tokio runtime";
                let kind = TokenRequestErrorKind::NotSent;
                CacheLookup::Ready(Err(TokenRequestError::new(kind, &entry.request, message)))
            },
            CacheLookup::Wait,
        )
    }

    /// Starts a token request in a new task. Returns `None` outside a tokio runtime.
    fn start_request(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
        state: &mut EntryState,
        now: Moment,
    ) -> Option<InFlight<TokenResult>> {
        let deadline = now.monotonic.saturating_add(self.wait_timeout());
        let (cache, task_entry) = (Arc::clone(self), Arc::clone(entry));
        let in_flight = state.requests.start(deadline, |number| async move {
            let response = cache.endpoint.request_token(&task_entry.request, now.unix).await;
            cache.complete(&task_entry, number, now, response)
        })?;
        // If a task panics, or if its runtime is shut down, the task cannot record its failure.
        // Therefore, the failure is counted in advance. A success resets the count to 0. If the
        // task has not recorded a result by `deadline`, a new request can start.
        state.failures_in_a_row += 1;
        let delay = retry_delay(true, state.failures_in_a_row);
        state.next_request_at = (now.monotonic + delay).min(deadline);
        Some(in_flight)
    }

    async fn wait(&self, entry: &CacheEntry, in_flight: InFlight<TokenResult>) -> TokenResult {
        let request = &entry.request;
        let error = |kind, message| Err(TokenRequestError::new(kind, request, message));
        let timeout = self.wait_timeout();
        match tokio::time::timeout(timeout, in_flight.outcome(&self.waiters)).await {
            Ok(Ok(result)) => result,
            Ok(Err(WaitError::TooManyWaiters)) => {
                let message = format!("{MAX_WAITERS} calls are already waiting for tokens");
                error(TokenRequestErrorKind::Overloaded, message)
            }
            Ok(Err(WaitError::TaskLost)) => {
                let next_request_at = entry.lock().next_request_at;
                let delay = next_request_at.saturating_sub(self.clock.monotonic());
                Err(interrupted(request).with_retry_after(Some(delay)))
            }
            Err(_) => {
                let message = format!("no response within {timeout:?}");
                error(TokenRequestErrorKind::Timeout, message)
            }
        }
    }

    /// Completes a token request. After a failure, the cached token stays in use. There is one
    /// exception: the cache drops the token if a service has refused the token and Logto no longer
    /// grants this token request.
    fn complete(
        &self,
        entry: &Arc<CacheEntry>,
        number: u64,
        requested_at: Moment,
        response: Result<TokenResponse, TokenRequestError>,
    ) -> TokenResult {
        let request = &entry.request;
        let result = response.and_then(|response| {
            let missing = request.missing_scopes(ScopeSet::new(&response.scope));
            if !missing.is_empty() {
                return Err(TokenRequestError::missing_scopes_error(request, missing));
            }
            let lifetime = response.lifetime.unwrap_or(UNKNOWN_LIFETIME);
            let expires_at = requested_at + lifetime;
            Ok((IssuedToken::new(Arc::clone(request), response, expires_at), lifetime))
        });
        metrics::token_requested(match &result {
            Ok(_) => "issued",
            Err(error) => error.kind().label(),
        });
        let mut state = entry.lock();
        if !state.requests.finish(number) {
            // A newer request has replaced this request. The cache ignores the result, but the
            // waiters of this request still receive the result.
            return result.map(|(token, _)| token);
        }
        match result {
            Ok((token, lifetime)) => {
                let margin = self.refresh_margin(lifetime);
                state.next_request_at = (requested_at + lifetime).monotonic.saturating_sub(margin);
                state.token = Some(token.clone());
                state.is_refused = false;
                state.failures_in_a_row = 0;
                state.last_error = None;
                state.warning = RepeatedWarning::default();
                drop(state);
                self.promote(entry);
                let lifetime_secs = lifetime.as_secs();
                tracing::debug!(%request, lifetime_secs, "access token issued");
                Ok(token)
            }
            Err(error) => {
                let (now, is_retryable) = (self.now(), error.is_retryable());
                if !is_retryable && state.token.is_none() {
                    self.refusals().take_permit(now.monotonic);
                }
                // If the errors change from temporary to permanent, or from permanent to temporary,
                // the backoff restarts at its first delay.
                if state.last_error.as_ref().is_some_and(|e| e.is_retryable() != is_retryable) {
                    state.failures_in_a_row = 1;
                }
                let valid_for = state.token.as_ref().map(|token| token.remaining_lifetime(now));
                let valid_for = valid_for.filter(|left| !left.is_zero());
                // The delay from `Retry-After` must not outlast the cached token. A longer delay
                // would make calls fail after the token expires, even if the server has recovered.
                let requested = error.retry_after().unwrap_or_default();
                let requested = requested.min(valid_for.unwrap_or(Duration::MAX));
                let delay = retry_delay(is_retryable, state.failures_in_a_row).max(requested);
                state.next_request_at = now.monotonic + delay;
                state.last_error = Some(error.clone());
                // If Logto no longer grants this token request, no successor will replace a token
                // that a service has refused. The refused token is then useless.
                if state.is_refused && ends_fallback(&error) {
                    state.token = None;
                    state.is_refused = false;
                }
                let is_logged = state.warning.is_due(&error.to_string(), now.monotonic);
                drop(state);
                if is_logged {
                    tracing::warn!(
                        %error,
                        cached_token_valid_for_secs = valid_for.unwrap_or_default().as_secs(),
                        retry_after_ms = delay.as_millis(),
                        "token request failed"
                    );
                }
                Err(error.with_retry_after(Some(delay)))
            }
        }
    }

    /// Returns the time between the refresh of a token and the token's expiry. This time is the
    /// margin plus a random part of up to half of the margin. Without the random part, instances
    /// that start at the same time would also send their token requests at the same time.
    fn refresh_margin(&self, lifetime: Duration) -> Duration {
        let margin = match self.refresh_margin {
            Some(margin) => margin.min(lifetime / 2),
            None => REFRESH_MARGIN.min(lifetime / 10),
        };
        margin.mul_f64(1.0 + 0.5 * fastrand::f64())
    }

    /// Returns how long a call waits for a token request. This time is longer than a token request
    /// can take. If the token request fails, the call therefore receives the error of the token
    /// request, and not the timeout error of [`TokenCache::wait`].
    fn wait_timeout(&self) -> Duration {
        self.endpoint.timeout + GRACE
    }

    fn now(&self) -> Moment {
        Moment::now(&*self.clock)
    }

    fn refusals(&self) -> MutexGuard<'_, RateLimit> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheEntry {
    /// Locks the state. Hold the lock for a few instructions only. Never hold the lock across an
    /// await or while logging.
    fn lock(&self) -> MutexGuard<'_, EntryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether this error shows that Logto no longer grants the token request. After such an
/// error, the cache drops a token that a service has refused.
fn ends_fallback(error: &TokenRequestError) -> bool {
    matches!(error.code(), Some("invalid_client" | "access_denied"))
}

fn interrupted(request: &TokenRequest) -> TokenRequestError {
    let message = "the token request was interrupted by a panic or the shutdown of its runtime";
    TokenRequestError::new(TokenRequestErrorKind::Connection, request, message)
}

/// Returns the backoff, shortened by a random part of up to a fifth. Without the random part, all
/// instances would retry at the same time.
fn retry_delay(is_retryable: bool, failures_in_a_row: u32) -> Duration {
    let (first, last) = if is_retryable {
        (FIRST_RETRY, LAST_RETRY)
    } else {
        (FIRST_RETRY_OF_PERMANENT, LAST_RETRY_OF_PERMANENT)
    };
    backoff(first, last, failures_in_a_row).mul_f64(0.8 + 0.2 * fastrand::f64())
}

const REFRESH_MARGIN: Duration = Duration::from_secs(60);
/// The assumed lifetime of a token whose `expires_in` is missing or invalid. Logto always sends a
/// valid `expires_in`. Without a valid `expires_in`, the cache would request about one token per
/// minute, which is acceptable.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(60);
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// The first retry delay after an error that only a change of the configuration can fix, such as a
/// wrong secret or a missing role.
const FIRST_RETRY_OF_PERMANENT: Duration = Duration::from_secs(10);
const LAST_RETRY_OF_PERMANENT: Duration = Duration::from_secs(5 * 60);
/// The minimum time between the first two invalidations of an entry. Until this time has passed,
/// the cache keeps the successor of the invalidated token, even if a service refuses the successor.
/// With each further invalidation in a row, the time doubles, up to [`LAST_KEEP`].
const FIRST_KEEP: Duration = Duration::from_secs(10);
const LAST_KEEP: Duration = Duration::from_secs(10 * 60);
const MAX_WAITERS: usize = 10_000;
const MAX_CANDIDATES: u64 = 1_000;
/// After Logto has refused this many token requests of candidates in a burst, the cache accepts no
/// new candidates. After each [`REFUSAL_INTERVAL`], it accepts new candidates again until the next
/// refusal. A program that starts with a few wrong settings stays below this number.
const MAX_REFUSALS: u32 = 20;
const REFUSAL_INTERVAL: Duration = Duration::from_secs(5);
const GRACE: Duration = Duration::from_secs(1);
