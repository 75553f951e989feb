//! A fetch that many wait for: a task that always lands, the places to wait, the time to the next.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{runtime::Handle, sync::watch};

/// What is fetched, and where it goes.
pub(crate) trait Errand: Send + 'static {
    type Fetched: Send;
    /// What those who wait are told.
    type News: Send + Sync;

    fn fetch(&self) -> impl Future<Output = Self::Fetched> + Send;

    /// Takes in what was fetched; `None` where the fetch was interrupted.
    fn land(&self, fetched: Option<Self::Fetched>) -> Self::News;
}

/// The news of a flight, once it has landed.
pub(crate) type Arrival<News> = watch::Receiver<Option<News>>;

/// A flight about to start. Outside the lock: a runtime that shuts down drops the task, and so lands
/// it, at once.
pub(crate) struct Departure<E: Errand> {
    runtime: Handle,
    landing: Landing<E>,
}

impl<E: Errand> Departure<E> {
    /// `None` outside a tokio runtime.
    pub(crate) fn prepare(errand: E) -> Option<(Self, Arrival<E::News>)> {
        let runtime = Handle::try_current().ok()?;
        let (sender, arrival) = watch::channel(None);
        let landing = Landing { errand, fetched: None, sender };
        Some((Self { runtime, landing }, arrival))
    }

    /// In a task of its own, which a caller that goes away does not cancel.
    pub(crate) fn depart(self) {
        self.runtime.spawn(self.landing.fly());
    }
}

/// Lands a flight when its task ends, also when it panics or its runtime is shut down.
struct Landing<E: Errand> {
    errand: E,
    fetched: Option<E::Fetched>,
    sender: watch::Sender<Option<E::News>>,
}

impl<E: Errand> Landing<E> {
    async fn fly(mut self) {
        let fetched = self.errand.fetch().await;
        self.fetched = Some(fetched);
    }
}

impl<E: Errand> Drop for Landing<E> {
    fn drop(&mut self) {
        let news = self.errand.land(self.fetched.take());
        self.sender.send_replace(Some(news));
    }
}

/// One of the places to wait.
pub(crate) struct Seat<'a>(&'a AtomicUsize);

impl<'a> Seat<'a> {
    /// `None` when so many are taken.
    pub(crate) fn take(taken: &'a AtomicUsize, places: usize) -> Option<Self> {
        let seat = Self(taken);
        (taken.fetch_add(1, Ordering::Relaxed) < places).then_some(seat)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The wait after so many failures in a row: the first, doubled each time, up to the last.
pub(crate) fn doubled(first: Duration, last: Duration, in_a_row: u32) -> Duration {
    first.saturating_mul(1 << in_a_row.saturating_sub(1).min(16)).min(last)
}
