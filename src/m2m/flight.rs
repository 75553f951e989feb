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

/// The flights to one place, one at a time.
#[derive(Debug)]
pub(crate) struct Flights<News> {
    started: u64,
    current: Option<Flight<News>>,
}

/// A flight under way.
#[derive(Debug)]
pub(crate) struct Flight<News> {
    pub(crate) number: u64,
    /// From then on another may start, and this one then counts for nothing: a runtime that stands
    /// still neither ends its task nor drops it.
    lost_at: Duration,
    pub(crate) landed: Arrival<News>,
}

impl<News> Default for Flights<News> {
    fn default() -> Self {
        Self { started: 0, current: None }
    }
}

impl<News> Flights<News> {
    pub(crate) const fn started(&self) -> u64 {
        self.started
    }

    /// The one that may be waited for.
    pub(crate) fn current(&self, now: Duration) -> Option<&Flight<News>> {
        self.current.as_ref().filter(|flight| now < flight.lost_at)
    }

    /// Prepares the next one, which knows its number; `None` outside a tokio runtime.
    pub(crate) fn prepare<E: Errand<News = News>>(
        &mut self,
        lost_at: Duration,
        errand: impl FnOnce(u64) -> E,
    ) -> Option<(Departure<E>, Arrival<News>)> {
        let runtime = Handle::try_current().ok()?;
        self.started += 1;
        let number = self.started;
        let (sender, landed) = watch::channel(None);
        self.current = Some(Flight { number, lost_at, landed: landed.clone() });
        let landing = Landing { errand: errand(number), fetched: None, sender };
        Some((Departure { runtime, landing }, landed))
    }

    /// Whether no other one has started since this.
    pub(crate) const fn is_latest(&self, number: u64) -> bool {
        self.started == number
    }

    /// Ends this one; false if it was lost, and another one has started since.
    pub(crate) fn end(&mut self, number: u64) -> bool {
        self.current.take_if(|flight| flight.number == number).is_some()
    }
}

/// A flight about to start. Outside the lock: a runtime that shuts down drops the task, and so lands
/// it, at once.
pub(crate) struct Departure<E: Errand> {
    runtime: Handle,
    landing: Landing<E>,
}

impl<E: Errand> Departure<E> {
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
