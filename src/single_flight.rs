//! Single flight: one background task for all callers that wait for the same result. This module
//! also contains the waiter limit and the retry backoff.

use std::time::Duration;

use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
};

/// Starts and tracks one background task at a time. The owner keeps this struct behind a lock.
///
/// When the owner starts a task, the owner also sets the time of the next retry. The task
/// overwrites that time when it completes. If the task panics, or if its runtime is dropped, the
/// retry time is not overwritten and remains valid.
#[derive(Debug)]
pub(crate) struct SingleFlight<T> {
    started: u64,
    current: Option<InFlight<T>>,
}

/// A task that was started and has not completed.
#[derive(Debug, Clone)]
pub(crate) struct InFlight<T> {
    /// The number of the task. The first task has the number 1.
    pub(crate) number: u64,
    /// When the monotonic clock reaches this time, a new task may replace this task. The owner does
    /// not store the result of a replaced task.
    ///
    /// The deadline is needed because a blocked runtime neither runs nor drops its tasks. Without a
    /// deadline, a task on a blocked runtime would stay in flight, and other runtimes could not
    /// start a new task.
    deadline: Duration,
    outcome: watch::Receiver<Option<T>>,
}

/// The reason why a waiter did not receive an outcome.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WaitError {
    /// The semaphore has no permit left.
    TooManyWaiters,
    /// The task panicked, or its runtime was shut down.
    TaskLost,
}

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self { started: 0, current: None }
    }
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// Returns how many tasks were started, which is also the number of the latest task.
    pub(crate) const fn started(&self) -> u64 {
        self.started
    }

    /// Returns the task in flight, unless its deadline has passed.
    pub(crate) fn in_flight(&self, now: Duration) -> Option<InFlight<T>> {
        self.current.as_ref().filter(|task| now < task.deadline && task.is_running()).cloned()
    }

    /// Spawns a task. If a waiter is cancelled, the task continues. Returns `None` outside a tokio
    /// runtime.
    pub(crate) fn start<F>(
        &mut self,
        deadline: Duration,
        task: impl FnOnce(u64) -> F,
    ) -> Option<InFlight<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let runtime = Handle::try_current().ok()?;
        self.started += 1;
        let (sender, outcome) = watch::channel(None);
        let in_flight = InFlight { number: self.started, deadline, outcome };
        self.current = Some(in_flight.clone());
        let task = task(self.started);
        runtime.spawn(async move {
            // If the runtime was blocked, this line may run long after the deadline. If a newer
            // task has replaced this task and no waiter is left, the channel is closed and this
            // task does nothing.
            if !sender.is_closed() {
                let outcome = task.await;
                sender.send_replace(Some(outcome));
            }
        });
        Some(in_flight)
    }

    /// Marks a task as completed. Each task calls this method at its end. Returns `false` if a
    /// newer task has replaced the calling task. In this case, the owner must not store the result
    /// of the calling task.
    pub(crate) fn finish(&mut self, number: u64) -> bool {
        self.current.take_if(|task| task.number == number).is_some()
    }
}

impl<T: Clone> InFlight<T> {
    /// Waits for the outcome, and keeps a permit of the semaphore while it waits.
    pub(crate) async fn outcome(mut self, waiters: &Semaphore) -> Result<T, WaitError> {
        let _permit = waiters.try_acquire().map_err(|_| WaitError::TooManyWaiters)?;
        let outcome = self.outcome.wait_for(Option::is_some).await;
        outcome.ok().and_then(|outcome| outcome.clone()).ok_or(WaitError::TaskLost)
    }
}

impl<T> InFlight<T> {
    /// Returns whether the task can still send an outcome.
    fn is_running(&self) -> bool {
        self.outcome.has_changed().is_ok()
    }
}

/// Returns how long to wait after a number of failures in a row. The wait starts at `first`, and
/// doubles with each further failure. The wait is never longer than `last`.
pub(crate) fn backoff(first: Duration, last: Duration, failures_in_a_row: u32) -> Duration {
    first.saturating_mul(1 << failures_in_a_row.saturating_sub(1).min(16)).min(last)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        thread,
    };

    use tokio::{
        runtime::{Builder, Runtime},
        sync::{Notify, oneshot},
    };

    use super::*;

    const NOW: Duration = Duration::from_secs(100);
    const DEADLINE: Duration = Duration::from_secs(110);

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[tokio::test]
    async fn all_waiters_share_one_task_and_its_outcome() {
        let mut flight = SingleFlight::default();
        let release = Arc::new(Notify::new());
        let released = Arc::clone(&release);
        let first = flight.start(DEADLINE, |number| async move {
            released.notified().await;
            number
        });
        let second = flight.in_flight(NOW).unwrap();
        assert_eq!((flight.started(), second.number), (1, 1));
        release.notify_one();
        let waiters = Semaphore::new(2);
        let outcomes = tokio::join!(first.unwrap().outcome(&waiters), second.outcome(&waiters));
        assert_eq!(outcomes, (Ok(1), Ok(1)));
        assert!(flight.finish(1));
        assert!(flight.in_flight(NOW).is_none());
    }

    #[tokio::test]
    async fn a_cancelled_waiter_does_not_cancel_the_task() {
        let mut flight = SingleFlight::default();
        let (done, completed) = oneshot::channel();
        let caller = flight.start(DEADLINE, |_| async move { done.send(()).unwrap() });
        drop(caller.unwrap().outcome(&Semaphore::new(1)));
        completed.await.unwrap();
    }

    #[tokio::test]
    async fn a_panicking_task_is_lost_and_a_new_task_may_start() {
        let mut flight = SingleFlight::<u32>::default();
        let lost = flight.start(DEADLINE, |_| async { panic!("on purpose") }).unwrap();
        assert_eq!(lost.outcome(&Semaphore::new(1)).await, Err(WaitError::TaskLost));
        assert!(flight.in_flight(NOW).is_none());
        let next = flight.start(DEADLINE, |_| async { 7 }).unwrap();
        assert_eq!(next.outcome(&Semaphore::new(1)).await, Ok(7));
    }

    #[tokio::test]
    async fn a_task_is_lost_if_its_runtime_is_dropped() {
        let mut flight = SingleFlight::<u32>::default();
        let other = runtime();
        let task = {
            let _context = other.enter();
            flight.start(DEADLINE, |_| std::future::pending()).unwrap()
        };
        assert!(flight.in_flight(NOW).is_some());
        other.shutdown_background();
        assert_eq!(task.outcome(&Semaphore::new(1)).await, Err(WaitError::TaskLost));
        assert!(flight.in_flight(NOW).is_none());
    }

    #[test]
    fn outside_a_runtime_no_task_starts() {
        let mut flight = SingleFlight::default();
        assert!(flight.start(DEADLINE, |_| async {}).is_none());
        assert_eq!(flight.started(), 0);
    }

    #[test]
    fn a_task_of_a_blocked_runtime_is_replaced_after_its_deadline_and_then_does_nothing() {
        let ran = Arc::new(AtomicU32::new(0));
        let task = |_| {
            let ran = Arc::clone(&ran);
            async move { ran.fetch_add(1, Ordering::Relaxed) }
        };
        let mut flight = SingleFlight::default();
        let (blocked, healthy) = (runtime(), runtime());
        {
            let _context = blocked.enter();
            flight.start(DEADLINE, task);
        }
        assert!(flight.in_flight(DEADLINE - Duration::from_millis(1)).is_some());
        assert!(flight.in_flight(DEADLINE).is_none());
        let waiters = Semaphore::new(1);
        let outcome = healthy
            .block_on(async { flight.start(2 * DEADLINE, task).unwrap().outcome(&waiters).await });
        assert_eq!(outcome, Ok(0));
        blocked.block_on(tokio::task::yield_now());
        assert_eq!(ran.load(Ordering::Relaxed), 1, "the replaced task must do nothing");
        assert!(!flight.finish(1), "the result of the replaced task must not be stored");
        assert!(flight.finish(2));
    }

    #[tokio::test]
    async fn a_waiter_without_a_permit_is_refused() {
        let mut flight = SingleFlight::<u32>::default();
        let task = flight.start(DEADLINE, |_| std::future::pending()).unwrap();
        let waiters = Semaphore::new(1);
        let mut first = Box::pin(task.clone().outcome(&waiters));
        assert!(poll_once(&mut first).is_none());
        assert_eq!(task.clone().outcome(&waiters).await, Err(WaitError::TooManyWaiters));
        // A dropped waiter returns its permit.
        drop(first);
        assert!(poll_once(&mut Box::pin(task.outcome(&waiters))).is_none());
    }

    fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        use std::{pin::Pin, task::Waker};
        let mut context = std::task::Context::from_waker(Waker::noop());
        match Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn an_outcome_reaches_a_waiter_on_another_runtime() {
        let mut flight = SingleFlight::default();
        let (sender, receiver) = oneshot::channel::<u32>();
        let owner = runtime();
        let task = {
            let _context = owner.enter();
            flight.start(DEADLINE, |_| async { receiver.await.unwrap() }).unwrap()
        };
        let caller = thread::spawn(move || runtime().block_on(task.outcome(&Semaphore::new(1))));
        sender.send(5).unwrap();
        owner.block_on(async {
            while flight.in_flight(NOW).is_some_and(|task| !task.is_done()) {
                tokio::task::yield_now().await
            }
        });
        assert_eq!(caller.join().unwrap(), Ok(5));
    }

    impl<T: Clone> InFlight<T> {
        fn is_done(&self) -> bool {
            self.outcome.borrow().is_some()
        }
    }

    #[test]
    fn the_backoff_doubles_up_to_its_limit() {
        let (first, last) = (Duration::from_secs(5), Duration::from_secs(60));
        for (failures, seconds) in
            [(0, 5), (1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (u32::MAX, 60)]
        {
            assert_eq!(backoff(first, last, failures).as_secs(), seconds, "{failures}");
        }
    }
}
