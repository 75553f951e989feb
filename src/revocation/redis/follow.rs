//! Follows the rules that other instances store.

use std::{collections::HashMap, hash::BuildHasher as _, pin::pin, time::Duration};

use redis::RedisResult;
use tokio::{
    select,
    time::{Instant, sleep, sleep_until},
};

use super::{
    connection::{Connection, News, Position, RuleSet},
    link::RedisLink,
};
use crate::revocation::{rule::Rule, rule_book::RuleBook, source::SourceState};

/// Follows Redis until it is dropped.
pub(in crate::revocation) async fn run(book: &RuleBook, link: &RedisLink) {
    let follower = Follower { book, link };
    let Ok(_only) = link.follower.try_lock() else {
        tracing::error!("Revocations::run is already running for this set, so this one waits");
        let _only = link.follower.lock().await;
        return follower.run().await;
    };
    follower.run().await;
}

struct Follower<'a> {
    book: &'a RuleBook,
    link: &'a RedisLink,
}

/// Marks the end of the future.
struct Running<'a>(&'a Follower<'a>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let Follower { book, link } = self.0;
        link.set_running(false);
        book.source.set_state(SourceState::Disconnected);
        if link.is_strict() {
            // Nobody is left who would do it later.
            book.source.set_open(false);
        }
        tracing::warn!("the future of Revocations::run ended, so rules of others do not arrive");
    }
}

impl Follower<'_> {
    async fn run(&self) {
        self.link.set_running(true);
        // The time until a strict set closes begins now.
        self.link.contact.send_replace(Instant::now());
        let _running = Running(self);
        let mut strictness = pin!(self.close_when_away());
        let mut backoff = MIN_BACKOFF;
        loop {
            let started = Instant::now();
            let result = select! {
                result = self.follow() => result,
                () = &mut strictness => return,
            };
            let Err(error) = result;
            self.book.source.set_state(SourceState::Disconnected);
            self.link.set_error(&error, self.now());
            if started.elapsed() > MAX_BACKOFF {
                backoff = MIN_BACKOFF;
            }
            // Instances that lost the connection together must not return together.
            let wait = backoff.mul_f64(0.5 + fastrand::f64() / 2.0);
            select! {
                () = sleep(wait) => {}
                () = &mut strictness => return,
            }
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// Connects, loads all rules, and reads the news. Ends with the error that broke the connection.
    async fn follow(&self) -> RedisResult<std::convert::Infallible> {
        let mut connection = Connection::open(&self.link.store).await?;
        self.check_eviction(&mut connection).await;
        loop {
            let mut position = connection.position().await?;
            self.load(&mut connection).await?;
            self.connected();
            let reload_at = Instant::now() + RELOAD_INTERVAL;
            while Instant::now() < reload_at {
                let wait = reload_at - Instant::now();
                let mut news = connection.news(&position, Some(wait)).await?;
                self.link.set_contact();
                if let Some(last) = news.last() {
                    // More news of the same burst make one batch.
                    let last = last.position.clone();
                    sleep(BATCH_TIME).await;
                    news.extend(connection.news(&last, None).await?);
                }
                if !self.apply(&mut position, news) {
                    tracing::info!("news of revocation rules are missing, so all rules are loaded");
                    break;
                }
            }
        }
    }

    /// Applies news. Returns whether none is missing.
    fn apply(&self, position: &mut Position, news: Vec<News>) -> bool {
        let mut is_complete = true;
        let mut rules = Vec::with_capacity(news.len());
        for News { position: next, rule } in news {
            is_complete &= Some(next.number) == position.number.checked_add(1);
            *position = next;
            match rule {
                Some(rule) => rules.push(rule),
                None => self.warn_of_broken_rules(),
            }
        }
        self.book.apply(rules);
        is_complete
    }

    /// Loads all rules, and writes back those that Redis lost.
    async fn load(&self, connection: &mut Connection) -> RedisResult<()> {
        let mut loaded = Loaded::default();
        for set in [RuleSet::Blocks, RuleSet::CutOffs] {
            let mut cursor = 0;
            loop {
                let page = connection.page(set, cursor).await?;
                self.link.set_contact();
                loaded.add(&page.rules);
                if page.broken > 0 {
                    self.warn_of_broken_rules();
                }
                self.book.apply(page.rules);
                cursor = page.next;
                if cursor == 0 || loaded.count > 2 * self.book.limits.max_rules {
                    break;
                }
            }
        }
        if !self.link.store.is_read_only {
            let lost: Vec<Rule> =
                self.book.rules().iter().filter(|rule| loaded.lacks(rule)).collect();
            if !lost.is_empty() && loaded.count < self.book.limits.max_rules {
                tracing::warn!(
                    rules = lost.len(),
                    "Redis lost revocation rules; writing them back"
                );
                connection.write(&lost, self.book).await?;
            }
        }
        Ok(())
    }

    /// Rules apply again, after the first load or after an outage.
    fn connected(&self) {
        let source = &self.book.source;
        self.link.set_contact();
        if source.state() != SourceState::Connected {
            let rules = self.book.rules().count();
            tracing::info!(rules, "revocation rules are loaded from Redis");
            source.set_state(SourceState::Connected);
        }
        source.set_open(true);
    }

    /// Refuses every token while Redis is away for too long, if the store is strict. Never returns.
    async fn close_when_away(&self) {
        let Some(after) = self.link.store.strict_after else { return std::future::pending().await };
        let mut contact = self.link.contact.subscribe();
        loop {
            let last = *contact.borrow_and_update();
            select! {
                () = sleep_until(last + after) => {
                    tracing::error!(
                        "Redis is away for {} s, so every token is refused until it is back",
                        after.as_secs()
                    );
                    self.book.source.set_open(false);
                    // Until the next response.
                    let _ = contact.changed().await;
                }
                _ = contact.changed() => {}
            }
        }
    }

    async fn check_eviction(&self, connection: &mut Connection) {
        let Some(policy) = connection.eviction_policy().await else { return };
        if policy != "noeviction" && !policy.starts_with("volatile-") {
            tracing::warn!(
                policy = %crate::escape::escaped(&policy),
                "Redis may drop revocation rules: set its maxmemory-policy to noeviction"
            );
        }
    }

    fn warn_of_broken_rules(&self) {
        self.link.warn("Redis contains revocation rules that cannot be read", self.now());
    }

    fn now(&self) -> Duration {
        self.book.clock.monotonic()
    }
}

/// The rules that Redis has: the seeded hash of each, and its time.
#[derive(Default)]
struct Loaded {
    times: HashMap<u64, u64>,
    seed: std::hash::RandomState,
    count: usize,
}

impl Loaded {
    fn add(&mut self, rules: &[Rule]) {
        for rule in rules {
            self.times.insert(self.seed.hash_one(&rule.key), rule.at);
            self.count += 1;
        }
    }

    fn lacks(&self, rule: &Rule) -> bool {
        self.times.get(&self.seed.hash_one(&rule.key)).is_none_or(|at| *at < rule.at)
    }
}

const RELOAD_INTERVAL: Duration = Duration::from_secs(60);
const BATCH_TIME: Duration = Duration::from_millis(20);
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
