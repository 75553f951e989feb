//! Whether the rules of other instances arrive, and what applies while they do not.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::sync::{Semaphore, watch};

/// Where a set of [`Revocations`](super::Revocations) gets rules from.
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
    /// All rules are stored in this process.
    ThisProcess,
    /// The rules of other instances are not loaded yet.
    Loading,
    /// The rules of other instances arrive.
    Connected,
    /// The rules of other instances do not arrive. Those that arrived before apply.
    Disconnected,
}

/// The state of the source, and the generation of the rules that requests compare.
#[derive(Debug)]
pub(super) struct Source {
    state: watch::Sender<SourceState>,
    gate: Mutex<Gate>,
    /// The generation in the gate, or [`CLOSED`].
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

    /// Rules that other instances share. A strict source refuses every token before they are loaded.
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

    /// Changes with each change of the rules. [`CLOSED`] while no token may be accepted.
    pub(super) fn generation(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// Makes every token look up its rules again.
    pub(super) fn next_generation(&self) {
        let mut gate = self.gate();
        gate.generation += 1;
        self.publish(&gate);
    }

    /// Accepts tokens again, or refuses all of them.
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

    /// Waits until the rules are loaded for the first time, for up to 1 s. After that, the rules that
    /// are known apply.
    pub(super) async fn loaded(&self) {
        let Ok(_permit) = self.waiting.try_acquire() else { return };
        let mut state = self.state.subscribe();
        let loaded = state.wait_for(|state| *state != SourceState::Loading);
        if tokio::time::timeout(MAX_FIRST_LOAD, loaded).await.is_err() {
            // Later requests do not wait.
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

/// The generation while no token may be accepted.
pub(crate) const CLOSED: u64 = 0;
const MAX_FIRST_LOAD: Duration = Duration::from_secs(1);
const MAX_WAITING: usize = 16_384;
