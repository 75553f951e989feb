//! The Redis commands that write rules, load all rules, and read the stream of changes.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use redis::{
    AsyncConnectionConfig, InfoDict, RedisResult, Script, aio::MultiplexedConnection, cmd,
};

use super::RedisStore;
use crate::revocation::{
    rule::{Change, Rule, millis},
    rule_book::{MAX_AHEAD, RuleBook},
};

/// A connection of one instance to Redis. All clones share the connection.
#[derive(Clone)]
pub(super) struct Connection {
    connection: MultiplexedConnection,
    store: RedisStore,
}

/// A position in the stream of changes. The instance knows all changes up to this position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    /// The id of the entry in the stream.
    pub(super) id: String,
    /// The number of the change. Successive changes have successive numbers.
    pub(super) number: u64,
}

/// An entry of the stream of changes. `rule` is `None` if the entry contains no valid rule.
#[derive(Debug)]
pub(super) struct News {
    pub(super) position: Position,
    pub(super) rule: Option<Rule>,
}

/// A page of a sorted set, and the cursor of the next page.
pub(super) struct Page {
    pub(super) next: u64,
    /// The members that are valid rules.
    pub(super) rules: Vec<Rule>,
    /// The number of members that are not valid rules.
    pub(super) broken: usize,
}

type StreamEntry = (String, Vec<Vec<u8>>);

impl Connection {
    pub(super) async fn open(store: &RedisStore) -> RedisResult<Self> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(BLOCK + TIMEOUT));
        let connection = store.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Self { connection, store: store.clone() })
    }

    /// Writes rules to Redis. If Redis already has the same rule with a different time, the later
    /// time is kept.
    pub(super) async fn write(&mut self, rules: &[Rule], book: &RuleBook) -> RedisResult<()> {
        static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("store.lua")));
        let keep_for = book.limits.keep_cut_offs_for();
        let keys = &self.store.keys;
        for part in rules.chunks(RULES_PER_SCRIPT) {
            let mut call = SCRIPT.key(&keys.blocks);
            call.key(&keys.cut_offs).key(&keys.news).key(&keys.number);
            call.arg(millis(keep_for)).arg(millis(MAX_AHEAD)).arg(book.limits.max_rules);
            for rule in part {
                let kind = if rule.key.change == Change::CutOff { "cut_off" } else { "block" };
                call.arg(kind).arg(rule.key.to_json()).arg(rule.at);
            }
            call.invoke_async::<()>(&mut self.connection).await?;
        }
        Ok(())
    }

    /// Returns the position of the latest change.
    pub(super) async fn position(&mut self) -> RedisResult<Position> {
        let mut latest = cmd("XREVRANGE");
        latest.arg(&self.store.keys.news).arg("+").arg("-").arg("COUNT").arg(1);
        let latest: Vec<StreamEntry> = latest.query_async(&mut self.connection).await?;
        if let Some(entry) = latest.into_iter().next() {
            return Ok(News::parse(entry).position);
        }
        // The stream is empty, because all changes were trimmed or no rule was ever stored.
        let mut number = cmd("GET");
        number.arg(&self.store.keys.number);
        let number: Option<u64> = number.query_async(&mut self.connection).await?;
        Ok(Position { id: "0-0".into(), number: number.unwrap_or_default() })
    }

    /// Returns a page of one sorted set: either the blocks or the cut-offs.
    pub(super) async fn page(&mut self, set: RuleSet, cursor: u64) -> RedisResult<Page> {
        let key = match set {
            RuleSet::Blocks => &self.store.keys.blocks,
            RuleSet::CutOffs => &self.store.keys.cut_offs,
        };
        let mut scan = cmd("ZSCAN");
        scan.arg(key).arg(cursor).arg("COUNT").arg(PAGE_SIZE);
        let (next, members): (u64, Vec<(Vec<u8>, f64)>) =
            scan.query_async(&mut self.connection).await?;
        let count = members.len();
        let rules: Vec<Rule> =
            members.into_iter().filter_map(|(key, at)| Rule::from_stored(&key, at)).collect();
        Ok(Page { next, broken: count - rules.len(), rules })
    }

    /// Returns the changes after a position. If there are none, waits until a change arrives or
    /// `wait` is over. The longest wait is 1 s. If `wait` is `None`, returns immediately.
    pub(super) async fn news(
        &mut self,
        after: &Position,
        wait: Option<Duration>,
    ) -> RedisResult<Vec<News>> {
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(NEWS_AT_ONCE);
        if let Some(wait) = wait {
            // With a timeout of 0, Redis would wait indefinitely.
            read.arg("BLOCK").arg(millis(wait.min(BLOCK)).max(1));
        }
        read.arg("STREAMS").arg(&self.store.keys.news).arg(&after.id);
        let streams: Option<Vec<(String, Vec<StreamEntry>)>> =
            read.query_async(&mut self.connection).await?;
        let entries = streams.into_iter().flatten().flat_map(|(_, entries)| entries);
        Ok(entries.map(News::parse).collect())
    }

    /// Returns the eviction policy, or `None` if the server does not reveal it. Tries `CONFIG`
    /// first and then `INFO`, because managed servers often forbid `CONFIG`.
    pub(super) async fn eviction_policy(&mut self) -> Option<String> {
        let mut get = cmd("CONFIG");
        get.arg("GET").arg("maxmemory-policy");
        let found: RedisResult<HashMap<String, String>> =
            get.query_async(&mut self.connection).await;
        if let Some(policy) = found.ok().and_then(|mut found| found.remove("maxmemory-policy")) {
            return Some(policy);
        }
        let mut info = cmd("INFO");
        info.arg("memory");
        let info: InfoDict = info.query_async(&mut self.connection).await.ok()?;
        info.get("maxmemory_policy")
    }
}

/// The two sorted sets of rules.
#[derive(Debug, Clone, Copy)]
pub(super) enum RuleSet {
    Blocks,
    CutOffs,
}

impl News {
    /// Parses an entry of the stream. An entry without a number gets the number 0, which makes the
    /// instance load all rules again.
    fn parse((id, fields): StreamEntry) -> Self {
        let field = |name: &[u8]| {
            let mut pairs = fields.as_chunks::<2>().0.iter();
            pairs.find(|[key, _]| key == name).map(|[_, value]| value.as_slice())
        };
        let text = |name: &[u8]| field(name).and_then(|value| std::str::from_utf8(value).ok());
        let number = text(b"number").and_then(|number| number.parse().ok()).unwrap_or_default();
        let at = text(b"at").and_then(|at| at.parse().ok());
        let rule = field(b"rule").zip(at).and_then(|(key, at)| Rule::from_stored(key, at));
        Self { position: Position { id, number }, rule }
    }
}

/// The time limit for connecting. A response has a time limit of `BLOCK + TIMEOUT`.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The longest time that one command waits for changes.
pub(super) const BLOCK: Duration = Duration::from_secs(1);
pub(super) const RULES_PER_SCRIPT: usize = 500;
const PAGE_SIZE: usize = 1_000;
const NEWS_AT_ONCE: usize = 1_000;
