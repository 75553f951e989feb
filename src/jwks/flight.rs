//! A refresh under way: a task that always lands, and the places to wait for it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{runtime::Handle, sync::watch};

use crate::{
    error::KeysError,
    jwks::{Shared, remote::Fetched},
};

/// A flight about to start. Outside the lock: a runtime that shuts down drops the task, and so lands
/// it, at once.
pub(super) struct Departure {
    runtime: Handle,
    landing: Landing,
}

impl Departure {
    pub(super) const fn new(runtime: Handle, landing: Landing) -> Self {
        Self { runtime, landing }
    }

    /// In a task of its own, which a caller that goes away does not cancel.
    pub(super) fn depart(self) {
        self.runtime.spawn(self.landing.fly());
    }
}

/// Lands a flight when its task ends, also when it panics or its runtime is shut down.
pub(super) struct Landing {
    shared: Arc<Shared>,
    outcome: Option<Result<Fetched, KeysError>>,
    /// Dropped last: whoever waits looks again after the keys are in.
    _sender: watch::Sender<()>,
}

impl Landing {
    pub(super) const fn new(shared: Arc<Shared>, sender: watch::Sender<()>) -> Self {
        Self { shared, outcome: None, _sender: sender }
    }

    async fn fly(mut self) {
        let outcome = self.shared.fetch().await;
        self.outcome = Some(outcome);
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let interrupted = || Err(KeysError::new("the fetch was interrupted"));
        self.shared.land(self.outcome.take().unwrap_or_else(interrupted));
    }
}

/// One of the places to wait.
pub(super) struct Seat<'a>(&'a AtomicUsize);

impl<'a> Seat<'a> {
    /// `None` when so many are taken.
    pub(super) fn take(taken: &'a AtomicUsize, places: usize) -> Option<Self> {
        let seat = Self(taken);
        (taken.fetch_add(1, Ordering::Relaxed) < places).then_some(seat)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
