//! Functions that wait without calling `sleep`, and functions that create runtimes for tests. One
//! function returns a runtime that runs its tasks only inside `block_on`. Another function returns
//! the handle of a runtime that was shut down.

use std::{
    future::Future,
    pin::pin,
    sync::mpsc,
    task::{Context, Poll, Waker},
    thread,
};

use tokio::runtime::{Builder, Handle, Runtime};

use super::TIMEOUT;

/// Polls the future once. Returns its output if it completes without waiting, and `None` otherwise.
pub(crate) fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Waits until a background task has made the condition true.
pub(crate) async fn eventually(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, waiting).await.expect("the condition becomes true");
}

/// Waits until all tasks of the current runtime have ended. These tasks include refreshes and their
/// HTTP connections.
pub(crate) async fn background_tasks_done() {
    eventually(|| Handle::current().metrics().num_alive_tasks() == 0).await;
}

/// Returns a runtime that runs its tasks only inside `block_on`. Between two calls of `block_on`,
/// the tasks make no progress, as on a blocked runtime.
pub(crate) fn new_runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Returns the handle of a runtime that was shut down. `spawn` on this handle drops the new task
/// immediately.
pub(crate) fn shut_down_runtime() -> Handle {
    let runtime = Runtime::new().unwrap();
    runtime.handle().clone()
}

/// Runs the work on a new thread, and returns whether the work completes within [`TIMEOUT`]. If the
/// work deadlocks or panics, the function returns `false`.
pub(crate) fn finishes(work: impl FnOnce() + Send + 'static) -> bool {
    let (done, finished) = mpsc::channel();
    thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    finished.recv_timeout(TIMEOUT).is_ok()
}
