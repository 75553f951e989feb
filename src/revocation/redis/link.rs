//! The state of an instance's connection to Redis, and the writes over this connection.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{RedisError, RedisResult};
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::{Instant, timeout},
};

use super::{
    RedisStore,
    connection::{Connection, RULES_PER_SCRIPT},
};
use crate::{
    escape::escaped,
    rate_limit::RepeatedWarning,
    revocation::{
        rule::Rule, rule_book::RuleBook, source::Source, status::RevocationStatus,
        store_error::StoreError,
    },
};

/// The connection between a set of rules and Redis.
pub(in crate::revocation) struct RedisLink {
    pub(super) store: RedisStore,
    /// The connection for writes, or `None` if the next write must open a connection.
    writer: AsyncMutex<Option<Connection>>,
    /// The time of the latest response from Redis.
    pub(super) contact: watch::Sender<Instant>,
    state: Mutex<LinkState>,
    /// The lock that is held by the future that receives the rules of other instances. A second
    /// such future waits for the lock.
    pub(super) follower: AsyncMutex<()>,
}

#[derive(Default)]
struct LinkState {
    is_running: bool,
    has_contact: bool,
    last_error: Option<Box<str>>,
    warning: RepeatedWarning,
}

impl RedisLink {
    pub(in crate::revocation) fn new(store: RedisStore) -> Self {
        Self {
            store,
            writer: AsyncMutex::new(None),
            contact: watch::Sender::new(Instant::now()),
            state: Mutex::default(),
            follower: AsyncMutex::new(()),
        }
    }

    /// Returns a new source, whose rules are not loaded yet.
    pub(in crate::revocation) fn source(&self) -> Source {
        Source::shared(self.is_strict())
    }

    pub(super) const fn is_strict(&self) -> bool {
        self.store.strict_after.is_some()
    }

    /// Writes rules to Redis for the other instances. The timeout is 2 s per 500 rules.
    pub(in crate::revocation) async fn write(
        &self,
        rules: &[Rule],
        book: &RuleBook,
    ) -> Result<(), StoreError> {
        if self.store.is_read_only {
            return Err(StoreError::new("the RedisStore is read-only"));
        }
        let parts = u32::try_from(rules.len().div_ceil(RULES_PER_SCRIPT)).unwrap_or(u32::MAX);
        let limit = WRITE_TIMEOUT.saturating_mul(parts.max(1));
        match timeout(limit, self.write_or_reconnect(rules, book)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(StoreError::new(&describe(&error))),
            Err(_) => {
                self.forget_writer();
                Err(StoreError::new("Redis did not respond in time"))
            }
        }
    }

    /// Writes rules. If the first attempt fails, the method tries again with a new connection,
    /// because Redis may have closed the old connection.
    async fn write_or_reconnect(&self, rules: &[Rule], book: &RuleBook) -> RedisResult<()> {
        let mut connection = self.writer(false).await?;
        if connection.write(rules, book).await.is_ok() {
            return Ok(());
        }
        let mut connection = self.writer(true).await?;
        connection.write(rules, book).await
    }

    /// Makes the next write open a new connection. If the network silently dropped the old
    /// connection, every write over the old connection would fail until the operating system closes
    /// the connection. Linux does this after 15 min.
    fn forget_writer(&self) {
        // If the lock is held, another write is already opening a connection.
        if let Ok(mut writer) = self.writer.try_lock() {
            *writer = None;
        }
    }

    async fn writer(&self, is_new: bool) -> RedisResult<Connection> {
        let mut writer = self.writer.lock().await;
        if let Some(connection) = writer.as_ref().filter(|_| !is_new) {
            return Ok(connection.clone());
        }
        // Remove the old connection first. Otherwise, if `open` fails, the next write would use the
        // old connection.
        *writer = None;
        let connection = Connection::open(&self.store).await?;
        *writer = Some(connection.clone());
        Ok(connection)
    }

    pub(super) fn set_running(&self, is_running: bool) {
        self.state().is_running = is_running;
    }

    /// Records a response from Redis.
    pub(super) fn set_contact(&self) {
        self.state().has_contact = true;
        self.contact.send_replace(Instant::now());
    }

    /// Records an error. If the same error repeats, it is logged at most once per minute.
    pub(super) fn set_error(&self, error: &RedisError, now: Duration) {
        let text = describe(error);
        let mut state = self.state();
        state.last_error = Some(text.as_str().into());
        if state.warning.is_due(&text, now) {
            tracing::warn!(
                error = %text,
                "Redis is unavailable, so new revocation rules of other instances do not arrive"
            );
        }
    }

    /// Records that Redis refused to store rules.
    pub(super) fn set_write_error(&self, error: &RedisError, now: Duration) {
        let text = describe(error);
        self.state().last_error = Some(text.as_str().into());
        self.warn(
            &format!("Redis did not store revocation rules that this instance knows: {text}"),
            now,
        );
    }

    /// Logs a warning about the content of Redis. If the same warning repeats, it is logged at most
    /// once per minute.
    pub(super) fn warn(&self, text: &str, now: Duration) {
        if self.state().warning.is_due(text, now) {
            tracing::warn!("{text}");
        }
    }

    pub(in crate::revocation) fn add_to(&self, status: &mut RevocationStatus) {
        let state = self.state();
        status.is_running = state.is_running;
        status.last_contact_secs =
            state.has_contact.then(|| self.contact.borrow().elapsed().as_secs());
        status.last_error = state.last_error.as_deref().map(str::to_owned);
    }

    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the text of an error. Redis may have sent the text, so it is escaped. The text contains
/// no password.
fn describe(error: &RedisError) -> String {
    escaped(&error.to_string()).into()
}

const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
