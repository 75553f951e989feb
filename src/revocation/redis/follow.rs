//! Reads the rules that other instances store in Redis, and applies them in this process.

use std::{collections::HashMap, hash::BuildHasher as _, pin::pin, time::Duration};

use redis::RedisResult;
use tokio::{
    select,
    time::{Instant, sleep, sleep_until},
};

use super::{
    connection::{BLOCK, Connection, News, Position, RULES_PER_SCRIPT, RuleSet},
    link::RedisLink,
};
use crate::revocation::{
    rule::{Change, Rule},
    rule_book::RuleBook,
    source::{CLOSED, SourceState},
};

/// Keeps the rules in `book` up to date with the rules in Redis until the future is dropped.
pub(in crate::revocation) async fn run(book: &RuleBook, link: &RedisLink) {
    let follower = Follower { book, link };
    let Ok(_only) = link.follower.try_lock() else {
        tracing::error!("Revocations::run is already running for this set, so this future waits");
        let _only = link.follower.lock().await;
        return follower.run().await;
    };
    follower.run().await;
}

struct Follower<'a> {
    book: &'a RuleBook,
    link: &'a RedisLink,
}

/// A value whose `Drop` implementation records that the future of [`run`] has ended.
struct Running<'a>(&'a Follower<'a>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let Follower { book, link } = self.0;
        link.set_running(false);
        book.source.set_state(SourceState::Disconnected);
        if link.is_strict() {
            // Refuse every token, because the future of `run` has ended, and no other code enforces
            // the store's time limit.
            book.close();
        }
        tracing::warn!(
            "the future of Revocations::run ended, so rules of other instances do not arrive"
        );
    }
}

impl Follower<'_> {
    async fn run(&self) {
        self.link.set_running(true);
        // If the store is strict, its time limit starts now.
        self.link.contact.send_replace(Instant::now());
        let _running = Running(self);
        let mut strictness = pin!(self.close_when_unavailable());
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
            // Instances that lost the connection at the same time must not reconnect at the same
            // time.
            let wait = backoff.mul_f64(0.5 + fastrand::f64() / 2.0);
            select! {
                () = sleep(wait) => {}
                () = &mut strictness => return,
            }
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// Connects, loads all rules, and then reads the changes. Returns the error that broke the
    /// connection.
    async fn follow(&self) -> RedisResult<std::convert::Infallible> {
        let mut connection = Connection::open(&self.link.store).await?;
        self.check_eviction(&mut connection).await;
        loop {
            let mut position = connection.position().await?;
            self.load(&mut connection).await?;
            self.connected();
            let loaded_at = Instant::now();
            let reload_at = loaded_at + RELOAD_INTERVAL;
            while Instant::now() < reload_at {
                let wait = (reload_at - Instant::now()).min(self.longest_wait());
                let mut news = connection.news(&position, Some(wait)).await?;
                self.link.set_contact();
                if self.book.source.generation() == CLOSED {
                    // The response came after the time limit of the strict store, so every token is
                    // refused. After the next load, tokens are accepted again.
                    break;
                }
                if let Some(last) = news.last() {
                    // Wait briefly, to apply the changes of a burst as one batch.
                    let last = last.position.clone();
                    sleep(BATCH_TIME).await;
                    news.extend(connection.news(&last, None).await?);
                }
                if !self.apply(&mut position, news) {
                    tracing::info!(
                        "changes of revocation rules were missed, so all rules are loaded again"
                    );
                    sleep_until(loaded_at + MIN_RELOAD_INTERVAL).await;
                    break;
                }
            }
        }
    }

    /// Returns the longest time to wait for changes. If the store is strict, the wait is at most a
    /// quarter of the store's time limit, so a Redis that works responds several times before the
    /// limit is reached.
    fn longest_wait(&self) -> Duration {
        self.link.store.strict_after.map_or(BLOCK, |after| BLOCK.min(after / 4))
    }

    /// Applies changes. Returns `false` if a gap in their numbers shows that a change is missing.
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

    /// Loads all rules from Redis, and writes back the rules that Redis lost.
    async fn load(&self, connection: &mut Connection) -> RedisResult<()> {
        let mut loaded = Loaded::default();
        for set in [RuleSet::Blocks, RuleSet::CutOffs] {
            let mut cursor = 0;
            let most = loaded.count.saturating_add(self.most_rules_of_a_set());
            loop {
                let page = connection.page(set, cursor).await?;
                self.link.set_contact();
                loaded.add(&page.rules);
                loaded.count += page.broken;
                if page.broken > 0 {
                    self.warn_of_broken_rules();
                }
                self.book.apply(page.rules);
                cursor = page.next;
                if cursor == 0 {
                    break;
                }
                if loaded.count > most {
                    self.link.warn("Redis contains too many revocation rules to load", self.now());
                    break;
                }
            }
        }
        if !self.link.store.is_read_only {
            // If writing fails, the load still succeeds, because the rules in Redis were read.
            if let Err(error) = self.write_back(connection, &loaded).await {
                self.link.set_write_error(&error, self.now());
            }
        }
        Ok(())
    }

    /// Writes the rules that this instance knows but Redis lacks. Either Redis lost these rules, or
    /// they could not be written during an outage.
    async fn write_back(&self, connection: &mut Connection, loaded: &Loaded) -> RedisResult<()> {
        let has_room = loaded.count < self.book.limits.max_rules;
        // Write back only rules that Redis would keep. If a load wrote a rule that Redis drops
        // immediately, the next load would write the same rule to the stream again.
        let would_stay = |rule: &Rule| {
            !self.book.is_expired(rule) && (has_room || loaded.keeps_beyond_limit(rule))
        };
        let lost: Vec<Rule> = {
            let rules = self.book.rules();
            rules.iter().filter(|rule| loaded.lacks(rule) && would_stay(rule)).collect()
        };
        if !lost.is_empty() {
            tracing::warn!(rules = lost.len(), "Redis lost revocation rules; writing them back");
        }
        for part in lost.chunks(RULES_PER_SCRIPT) {
            connection.write(part, self.book).await?;
            self.link.set_contact();
        }
        Ok(())
    }

    /// Returns the maximum number of rules to load from one sorted set. The maximum limits the
    /// memory that wrong content in Redis can use. Blocks are never dropped, so there can be more
    /// than `max_rules` rules. The maximum is therefore greater than `max_rules`.
    fn most_rules_of_a_set(&self) -> usize {
        self.book.limits.max_rules.saturating_mul(2).max(MIN_RULES_TO_LOAD)
    }

    /// Records that all rules are loaded. Sets the state to `Connected`, and allows the validator
    /// to accept tokens.
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

    /// If the store is strict, refuses every token after Redis has been unavailable for too long.
    /// Never returns.
    async fn close_when_unavailable(&self) {
        let Some(after) = self.link.store.strict_after else { return std::future::pending().await };
        let mut contact = self.link.contact.subscribe();
        loop {
            let last = *contact.borrow_and_update();
            select! {
                // If a response arrives exactly when the time limit ends, the response is in time.
                biased;
                _ = contact.changed() => {}
                () = sleep_until(last + after) => {
                    tracing::error!(
                        "Redis has been unavailable for {} s, so every token is refused until Redis \
                         responds",
                        after.as_secs()
                    );
                    self.book.close();
                    // The time limit starts again only when Redis responds.
                    let _ = contact.changed().await;
                }
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

/// The rules that were loaded from Redis. `times` maps the seeded hash of each rule's key to the
/// rule's time.
#[derive(Default)]
struct Loaded {
    times: HashMap<u64, u64>,
    seed: std::hash::RandomState,
    count: usize,
    /// The time of the oldest cut-off.
    oldest_cut_off: Option<u64>,
}

impl Loaded {
    fn add(&mut self, rules: &[Rule]) {
        for rule in rules {
            self.times.insert(self.seed.hash_one(&rule.key), rule.at);
            self.count += 1;
            if rule.key.change == Change::CutOff {
                self.oldest_cut_off =
                    Some(self.oldest_cut_off.map_or(rule.at, |oldest| oldest.min(rule.at)));
            }
        }
    }

    /// Returns whether Redis would keep this rule even if Redis already contains `max_rules` other
    /// rules. If there are more than `max_rules` rules, Redis drops the oldest cut-offs.
    fn keeps_beyond_limit(&self, rule: &Rule) -> bool {
        rule.key.change != Change::CutOff
            || self.oldest_cut_off.is_some_and(|oldest| oldest < rule.at)
    }

    fn lacks(&self, rule: &Rule) -> bool {
        self.times.get(&self.seed.hash_one(&rule.key)).is_none_or(|at| *at < rule.at)
    }
}

const RELOAD_INTERVAL: Duration = Duration::from_secs(60);
/// The minimum time from one load to the next if changes were missed. Without this minimum, a Redis
/// server that numbers the changes wrongly could make the follower load the rules in a tight loop.
const MIN_RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// The lowest value that `Follower::most_rules_of_a_set` returns. This number of rules takes about
/// 300 MB.
const MIN_RULES_TO_LOAD: usize = 2_000_000;
const BATCH_TIME: Duration = Duration::from_millis(20);
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
