//! The state of a source of rules: whether the rules of other instances arrive, and whether tokens
//! may be accepted.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::sync::{Semaphore, watch};

/// Says where a set of [`Revocations`](super::Revocations) gets its rules from, and whether the set
/// receives the rules of other instances.
///
/// ```
/// use tower_logto::{Issuer, revocation::{Revocations, SourceState}};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let revocations = Revocations::new([&issuer])?;
/// assert_eq!(revocations.status().source, SourceState::ThisProcess);
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SourceState {
    /// The set is not shared. It contains only the rules that this process stored.
    ThisProcess,
    /// The rules of other instances are not loaded yet.
    Loading,
    /// The rules of other instances arrive.
    Connected,
    /// The rules of other instances do not arrive. The rules that arrived earlier still apply.
    Disconnected,
}

/// The state of the source, and the generation number of the rules. If the generation has not
/// changed since a cached token was last accepted, the validator does not look up the rules for
/// this token.
#[derive(Debug)]
pub(super) struct Source {
    state: watch::Sender<SourceState>,
    gate: Mutex<Gate>,
    /// The generation of the rules. While every token is refused, the value is [`CLOSED`].
    published: AtomicU64,
    waiting: Semaphore,
}

#[derive(Debug)]
struct Gate {
    generation: u64,
    is_open: bool,
}

impl Source {
    pub(super) fn this_process() -> Self {
        Self::new(SourceState::ThisProcess, true)
    }

    /// Creates the source of a set that is shared with other instances. If the source is strict,
    /// every token is refused until the rules are loaded.
    #[cfg(feature = "redis")]
    pub(super) fn shared(is_strict: bool) -> Self {
        Self::new(SourceState::Loading, !is_strict)
    }

    fn new(state: SourceState, is_open: bool) -> Self {
        let source = Self {
            state: watch::Sender::new(state),
            gate: Mutex::new(Gate { generation: 0, is_open }),
            published: AtomicU64::new(CLOSED),
            waiting: Semaphore::new(MAX_WAITING),
        };
        source.next_generation();
        source
    }

    /// Returns a number that changes whenever the rules change. While no token may be accepted,
    /// returns [`CLOSED`] instead.
    pub(super) fn generation(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// Starts a new generation, so every token is compared with the rules again.
    pub(super) fn next_generation(&self) {
        let mut gate = self.gate();
        gate.generation += 1;
        self.publish(&gate);
    }

    /// Sets whether tokens may be accepted. If `is_open` is `false`, every token is refused.
    #[cfg(feature = "redis")]
    pub(super) fn set_open(&self, is_open: bool) {
        let mut gate = self.gate();
        gate.is_open = is_open;
        self.publish(&gate);
    }

    pub(super) fn state(&self) -> SourceState {
        *self.state.borrow()
    }

    #[cfg(feature = "redis")]
    pub(super) fn set_state(&self, state: SourceState) {
        self.state.send_replace(state);
    }

    /// Waits up to 1 s for the rules to be loaded for the first time. If they are not loaded by
    /// then, a strict source still refuses every token. If the source is not strict, the tokens are
    /// checked with the rules that are already known.
    pub(super) async fn loaded(&self) {
        let Ok(_permit) = self.waiting.try_acquire() else { return };
        let mut state = self.state.subscribe();
        let loaded = state.wait_for(|state| *state != SourceState::Loading);
        if tokio::time::timeout(MAX_FIRST_LOAD, loaded).await.is_err() {
            // End the state `Loading`, so later requests do not wait.
            let is_first = self.state.send_if_modified(|state| {
                let is_loading = *state == SourceState::Loading;
                if is_loading {
                    *state = SourceState::Disconnected;
                }
                is_loading
            });
            if is_first {
                tracing::warn!(
                    "the revocation rules were not loaded within 1 s: is the future of \
                     Revocations::run spawned, and does Redis respond?"
                );
            }
        }
    }

    fn publish(&self, gate: &Gate) {
        let published = if gate.is_open { gate.generation } else { CLOSED };
        self.published.store(published, Ordering::Release);
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The value of `Source::generation` while no token may be accepted.
pub(crate) const CLOSED: u64 = 0;
const MAX_FIRST_LOAD: Duration = Duration::from_secs(1);
/// The maximum number of requests that wait for the first rules. Further requests continue
/// immediately, like requests whose wait has timed out: see [`Source::loaded`].
const MAX_WAITING: usize = 16_384;
