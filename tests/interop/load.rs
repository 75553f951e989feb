//! Callers that send requests continuously, and the counts of the results.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::Value;
use tokio::{sync::RwLock, task::JoinSet};
use tower_logto::m2m::{IssuedToken, TokenClient, TokenRequest};

use crate::{
    provider::{Provider, print},
    service::{SHORT_LIVED_API, Service},
    support::{SHOPPING_API, base64url_decode},
};

/// Callers that request new tokens and share all of them. Each caller sends requests with randomly
/// chosen tokens, but not with tokens whose signing key is retired. One additional caller behaves
/// like a typical service: it has a single token, which the token client refreshes before it
/// expires.
pub(crate) struct Load {
    state: Arc<LoadState>,
    callers: JoinSet<()>,
    name: String,
    /// The counts at the end of the last phase.
    before: Tally,
}

struct LoadState {
    service: Service,
    tokens: TokenClient,
    held: Mutex<Vec<IssuedToken>>,
    /// The ids of the retired keys. The service may refuse a token that such a key signed, so the
    /// callers do not use the token. A caller holds a read lock while its request is in flight, so
    /// [`Load::retire`] waits until no request is in flight.
    retired: RwLock<HashSet<String>>,
    tally: Mutex<Tally>,
}

#[derive(Debug, Clone, Default)]
struct Tally {
    /// The number of requests with status 200, by key id.
    accepted: BTreeMap<String, u64>,
    /// The statuses and the key ids of the requests that failed.
    failures: Vec<String>,
    /// The number of new tokens.
    tokens: u64,
    /// The number of failed token requests.
    failed_token_requests: u64,
    /// The id of the key that signed the additional caller's token. `None` if this caller has no
    /// token.
    refreshed_with: Option<String>,
}

impl Load {
    pub(crate) async fn start(name: &str, provider: &Provider, service: Service) -> Self {
        let state = Arc::new(LoadState {
            service,
            tokens: provider.reader(),
            held: Mutex::default(),
            retired: RwLock::default(),
            tally: Mutex::default(),
        });
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            callers.spawn(Arc::clone(&state).use_new_tokens(caller));
        }
        callers.spawn(Arc::clone(&state).use_one_refreshed_token());
        let name = format!("oidc-provider {}: {name}", provider.major);
        let mut load = Self { state, callers, name, before: Tally::default() };
        load.accepted(&provider.kid()).await;
        load.refreshed_with(&provider.kid()).await;
        load.report("before");
        load
    }

    /// Waits until the service has accepted several hundred more requests with tokens that this key
    /// signed.
    pub(crate) async fn accepted(&mut self, kid: &str) {
        let accepted = |tally: &Tally| tally.accepted.get(kid).copied().unwrap_or(0);
        let enough = accepted(&self.state.tally()) + ENOUGH;
        self.until(|tally| accepted(tally) >= enough).await;
    }

    /// Waits until the additional caller has a token that this key signed.
    pub(crate) async fn refreshed_with(&mut self, kid: &str) {
        self.until(|tally| tally.refreshed_with.as_deref() == Some(kid)).await;
    }

    /// Waits until the additional caller has no token. During an outage, this happens when the
    /// caller's token expires.
    pub(crate) async fn without_token(&mut self) {
        self.until(|tally| tally.refreshed_with.is_none()).await;
    }

    /// Makes the callers stop using tokens that this key signed.
    pub(crate) async fn retire(&mut self, kid: &str) {
        self.state.retired.write().await.insert(kid.into());
    }

    /// Prints the counts of a phase.
    pub(crate) fn report(&mut self, phase: &str) {
        let now = self.state.tally().clone();
        let accepted = |tally: &Tally| tally.accepted.values().sum::<u64>();
        let failures = now.failures.len() - self.before.failures.len();
        print(&format!(
            "{}, {phase}: {} requests, {failures} failures; {} new tokens, {} failed token requests",
            self.name,
            accepted(&now) - accepted(&self.before) + failures as u64,
            now.tokens - self.before.tokens,
            now.failed_token_requests - self.before.failed_token_requests,
        ));
        self.before = now;
    }

    /// Returns a token that this key signed, even if the key is retired.
    pub(crate) fn token_of(&self, kid: &str) -> IssuedToken {
        let held = self.state.held.lock().unwrap();
        held.iter().find(|token| kid_of(token) == kid).unwrap().clone()
    }

    pub(crate) fn service(&self) -> &Service {
        &self.state.service
    }

    /// Waits for the responses to all requests in flight, and then stops the callers.
    pub(crate) async fn stop(&mut self) {
        let _no_request_in_flight = self.state.retired.write().await;
        self.callers.shutdown().await;
        assert_eq!(self.state.tally().failures, [""; 0]);
    }

    async fn until(&mut self, happened: impl Fn(&Tally) -> bool) {
        loop {
            let tally = self.state.tally().clone();
            assert_eq!(tally.failures, [""; 0]);
            if happened(&tally) {
                return;
            }
            if let Some(ended) = self.callers.try_join_next() {
                ended.unwrap();
            }
            tokio::time::sleep(PACE).await;
        }
    }
}

impl LoadState {
    async fn use_new_tokens(self: Arc<Self>, caller: u64) {
        for number in 0.. {
            if number % REQUESTS_PER_TOKEN == 0 {
                // Each token request has a different optional scope, which is never granted. The
                // client therefore returns no cached token.
                let unique = format!("load:{caller}:{number}");
                let request = TokenRequest::resource(SHOPPING_API).scopes(["read:products"]);
                match self.tokens.token(&request.optional_scopes([unique])).await {
                    Ok(token) => {
                        self.tally().tokens += 1;
                        self.held.lock().unwrap().push(token);
                    }
                    Err(_) => self.tally().failed_token_requests += 1,
                }
            }
            let token = fastrand::choice(&*self.held.lock().unwrap()).cloned();
            if let Some(token) = token {
                self.call(&token).await;
            }
            tokio::time::sleep(PACE).await;
        }
    }

    async fn use_one_refreshed_token(self: Arc<Self>) {
        let request = TokenRequest::resource(SHORT_LIVED_API).scopes(["read:products"]);
        loop {
            let token = self.tokens.token(&request).await.ok();
            self.tally().refreshed_with = token.as_ref().map(kid_of);
            match token {
                Some(token) => self.call(&token).await,
                None => self.tally().failed_token_requests += 1,
            }
            tokio::time::sleep(PACE).await;
        }
    }

    async fn call(&self, token: &IssuedToken) {
        let kid = kid_of(token);
        let retired = self.retired.read().await;
        if retired.contains(&kid) {
            return;
        }
        let status = self.service.get("/products", token.authorization()).await;
        drop(retired);
        let mut tally = self.tally();
        if status == 200 {
            *tally.accepted.entry(kid).or_default() += 1;
        } else {
            tally.failures.push(format!("{status} for {kid}"));
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap()
    }
}

pub(crate) fn kid_of(token: &IssuedToken) -> String {
    let header = token.secret().split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&base64url_decode(header)).unwrap();
    header["kid"].as_str().unwrap().into()
}

const CALLERS: u64 = 6;
const REQUESTS_PER_TOKEN: u64 = 4;
const ENOUGH: u64 = 300;
const PACE: Duration = Duration::from_millis(2);
