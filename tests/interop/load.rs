//! Callers who never rest, and what became of their requests.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use tokio::{sync::RwLock, task::JoinSet};
use tower_logto::m2m::{IssuedToken, TokenClient, TokenRequest};

use crate::{
    logto::{Logto, say},
    shop::{BRIEF, SHOP, Shop},
};

/// Callers that fetch tokens all the time and use each of them until its key is retired, and one
/// that lives as a service does, on one token that is renewed before it expires.
pub(crate) struct Load {
    scene: Arc<Scene>,
    callers: JoinSet<()>,
    name: String,
    /// At the end of the last phase.
    before: Tally,
}

struct Scene {
    shop: Shop,
    tokens: TokenClient,
    held: Mutex<Vec<IssuedToken>>,
    /// Keys whose tokens may be refused from now on; locked while one of them may be under way.
    retired: RwLock<HashSet<String>>,
    tally: Mutex<Tally>,
}

#[derive(Debug, Clone, Default)]
struct Tally {
    /// Requests answered with 200, by key.
    served: BTreeMap<String, u64>,
    /// The others.
    failures: Vec<String>,
    /// New tokens.
    tokens: u64,
    /// Callers who asked for a token and got none.
    without_token: u64,
    /// The key of the one token that a caller lives on, unless it has none.
    living_on: Option<String>,
}

impl Load {
    pub(crate) async fn start(name: &str, logto: &Logto, shop: Shop) -> Self {
        let scene = Arc::new(Scene {
            shop,
            tokens: logto.reader(),
            held: Mutex::default(),
            retired: RwLock::default(),
            tally: Mutex::default(),
        });
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            callers.spawn(Arc::clone(&scene).collect_and_call(caller));
        }
        callers.spawn(Arc::clone(&scene).live_on_one_token());
        let name = format!("oidc-provider {}: {name}", logto.major);
        let mut load = Self { scene, callers, name, before: Tally::default() };
        load.serves(&logto.kid()).await;
        load.lives_on(&logto.kid()).await;
        load.ends("before");
        load
    }

    /// Until some hundred more requests with tokens of this key have been served.
    pub(crate) async fn serves(&mut self, kid: &str) {
        let served = |tally: &Tally| tally.served.get(kid).copied().unwrap_or(0);
        let enough = served(&self.scene.tally()) + ENOUGH;
        self.until(|tally| served(tally) >= enough).await;
    }

    /// Until the caller that lives on one token has one of this key.
    pub(crate) async fn lives_on(&mut self, kid: &str) {
        self.until(|tally| tally.living_on.as_deref() == Some(kid)).await;
    }

    /// Until the caller that lives on one token is left without.
    pub(crate) async fn is_out_of_tokens(&mut self) {
        self.until(|tally| tally.living_on.is_none()).await;
    }

    /// Tokens of this key are not used any more.
    pub(crate) async fn retire(&mut self, kid: &str) {
        self.scene.retired.write().await.insert(kid.into());
    }

    /// Says what there was in a phase.
    pub(crate) fn ends(&mut self, phase: &str) {
        let now = self.scene.tally().clone();
        let served = |tally: &Tally| tally.served.values().sum::<u64>();
        let failures = now.failures.len() - self.before.failures.len();
        say(&format!(
            "{}, {phase}: {} requests, {failures} failures; {} new tokens, {} times none",
            self.name,
            served(&now) - served(&self.before) + failures as u64,
            now.tokens - self.before.tokens,
            now.without_token - self.before.without_token,
        ));
        self.before = now;
    }

    /// Some token of this key, whether retired or not.
    pub(crate) fn token_of(&self, kid: &str) -> IssuedToken {
        let held = self.scene.held.lock().unwrap();
        held.iter().find(|token| kid_of(token) == kid).unwrap().clone()
    }

    pub(crate) fn shop(&self) -> &Shop {
        &self.scene.shop
    }

    /// Ends the load when all that is under way has been answered.
    pub(crate) async fn stop(&mut self) {
        let _nothing_under_way = self.scene.retired.write().await;
        self.callers.shutdown().await;
        assert_eq!(self.scene.tally().failures, [""; 0]);
    }

    async fn until(&mut self, happened: impl Fn(&Tally) -> bool) {
        loop {
            let tally = self.scene.tally().clone();
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

impl Scene {
    async fn collect_and_call(self: Arc<Self>, caller: u64) {
        for number in 0.. {
            if number % REQUESTS_PER_TOKEN == 0 {
                // A scope of its own, which nobody grants, makes it a token of its own.
                let own = format!("load:{caller}:{number}");
                let request = TokenRequest::resource(SHOP).scopes(["read:products"]);
                match self.tokens.token(&request.optional_scopes([own])).await {
                    Ok(token) => {
                        self.tally().tokens += 1;
                        self.held.lock().unwrap().push(token);
                    }
                    Err(_) => self.tally().without_token += 1,
                }
            }
            let token = fastrand::choice(&*self.held.lock().unwrap()).cloned();
            if let Some(token) = token {
                self.call(&token).await;
            }
            tokio::time::sleep(PACE).await;
        }
    }

    async fn live_on_one_token(self: Arc<Self>) {
        let request = TokenRequest::resource(BRIEF).scopes(["read:products"]);
        loop {
            let token = self.tokens.token(&request).await.ok();
            self.tally().living_on = token.as_ref().map(kid_of);
            match token {
                Some(token) => self.call(&token).await,
                None => self.tally().without_token += 1,
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
        let status = self.shop.get("/products", token.authorization()).await;
        drop(retired);
        let mut tally = self.tally();
        if status == 200 {
            *tally.served.entry(kid).or_default() += 1;
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
    let header = BASE64_URL_SAFE_NO_PAD.decode(header).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().into()
}

const CALLERS: u64 = 6;
const REQUESTS_PER_TOKEN: u64 = 4;
const ENOUGH: u64 = 300;
const PACE: Duration = Duration::from_millis(2);
