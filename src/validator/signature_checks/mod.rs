//! Checks signatures: on the request's thread, or in a queue during a flood of forged tokens.

mod flood;
mod queue;
mod subjects;

use std::{
    collections::hash_map::RandomState,
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

pub(crate) use queue::QueueLimits;
pub(crate) use subjects::SubjectHash;

use crate::{
    clock::{Clock, Moment},
    error::{AuthErrorKind, InvalidToken},
    jwks::key_set::VerifyingKey,
    metrics,
    validator::signature_checks::{
        flood::{FloodChange, FloodDetector},
        queue::{CheckQueue, Waiting},
        subjects::Subjects,
    },
};

/// Checks signatures for one validator, and for the validators that are derived from it.
///
/// As long as failed checks take little time, each check runs on the thread of its request. If
/// failed checks take too much time, all checks move to threads of this crate. The requests then
/// wait in a queue without blocking a thread. Forged tokens therefore do not delay requests whose
/// tokens are cached.
#[derive(Clone)]
pub(crate) struct SignatureChecks(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    seed: RandomState,
    /// The monotonic time at which the current flood ends, in milliseconds. 0 if there is no flood.
    flood_ends_at_ms: AtomicU64,
    history: Mutex<History>,
    workers: Mutex<Workers>,
    check_added: Condvar,
}

#[derive(Default)]
struct History {
    flood: FloodDetector,
    subjects: Subjects,
}

struct Workers {
    queue: CheckQueue<QueuedCheck>,
    threads: usize,
    max_threads: usize,
}

/// A signature, and the message that was signed.
#[derive(Clone, Copy)]
pub(crate) struct Signed<'a> {
    /// The header, the dot and the payload, exactly as received.
    pub(crate) message: &'a [u8],
    pub(crate) signature: &'a [u8],
    pub(crate) subject: SubjectHash,
}

/// A token whose signature check must wait.
pub(crate) struct SignedToken {
    pub(crate) token: Box<[u8]>,
    /// The length of the signed message: the header, the dot and the payload.
    pub(crate) message_length: usize,
    pub(crate) signature: Vec<u8>,
    pub(crate) subject: SubjectHash,
}

/// A check in the queue.
struct QueuedCheck {
    token: Arc<SignedToken>,
    key: Arc<VerifyingKey>,
}

impl SignedToken {
    pub(crate) fn signed(&self) -> Signed<'_> {
        Signed {
            message: self.token.get(..self.message_length).unwrap_or_default(),
            signature: &self.signature,
            subject: self.subject,
        }
    }
}

impl SignatureChecks {
    pub(crate) fn new(limits: QueueLimits, clock: Arc<dyn Clock>) -> Self {
        // The threads use only a quarter of the cores. Requests with valid tokens need the other
        // cores.
        let max_threads = thread::available_parallelism().map_or(1, |cores| cores.get() / 4).max(1);
        let workers = Workers { queue: CheckQueue::new(limits), threads: 0, max_threads };
        Self(Arc::new(Shared {
            clock,
            seed: RandomState::new(),
            flood_ends_at_ms: AtomicU64::new(0),
            history: Mutex::default(),
            workers: Mutex::new(workers),
            check_added: Condvar::new(),
        }))
    }

    pub(crate) fn subject(&self, issuer: &str, subject: &str) -> SubjectHash {
        SubjectHash::new(&self.0.seed, issuer, subject)
    }

    /// Returns whether a check must currently wait in the queue.
    pub(crate) fn are_queued(&self, now: Moment) -> bool {
        now.monotonic < Duration::from_millis(self.0.flood_ends_at_ms.load(Ordering::Relaxed))
    }

    /// Returns the number of checks in the queue.
    pub(crate) fn queue_length(&self) -> usize {
        lock(&self.0.workers).queue.len()
    }

    /// Checks a signature on the calling thread.
    pub(crate) fn check_now(
        &self,
        signed: Signed<'_>,
        key: &VerifyingKey,
    ) -> Result<(), InvalidToken> {
        self.0.check(signed, key)
    }

    /// Checks a signature. During a flood, the check waits in the queue. Without a flood, or if no
    /// thread for the queue can be started, the check runs on the calling thread.
    ///
    /// # Cancel safety
    /// If the future is dropped while the check waits in the queue, the check is skipped.
    pub(crate) async fn check(
        &self,
        token: &Arc<SignedToken>,
        key: &Arc<VerifyingKey>,
    ) -> Result<(), AuthErrorKind> {
        let now = Moment::now(&*self.0.clock);
        if !self.are_queued(now) || !self.0.ensure_threads() {
            return Ok(self.0.check(token.signed(), key)?);
        }
        let now = now.monotonic;
        let is_known = lock(&self.0.history).subjects.come_first(token.subject, now);
        let check = QueuedCheck { token: Arc::clone(token), key: Arc::clone(key) };
        let (outcome, too_many) = {
            let queue = &mut lock(&self.0.workers).queue;
            let outcome = queue.push(check, is_known, now);
            metrics::queued_checks(queue.len());
            (outcome?, queue.too_many())
        };
        self.0.check_added.notify_one();
        outcome.await.unwrap_or(Err(too_many))
    }
}

impl Shared {
    fn check(&self, signed: Signed<'_>, key: &VerifyingKey) -> Result<(), InvalidToken> {
        let started_at = self.clock.monotonic();
        let outcome = key.verify(signed.message, signed.signature);
        let now = self.clock.monotonic();
        let took = now.saturating_sub(started_at);
        metrics::signature_checked(outcome.is_ok(), took);
        let mut history = lock(&self.history);
        match outcome {
            Ok(()) => history.subjects.insert(signed.subject),
            Err(_) => history.subjects.count_bad_signature(signed.subject, now),
        }
        let change = history.flood.record(now, took, outcome.is_err());
        self.publish(&history.flood, change);
        outcome
    }

    /// Makes the state of the flood detector visible to requests. Logs the start or the end of a
    /// flood.
    fn publish(&self, flood: &FloodDetector, change: Option<FloodChange>) {
        let ends_at = flood.ends_at().unwrap_or_default();
        let ends_at = u64::try_from(ends_at.as_millis()).unwrap_or(u64::MAX);
        self.flood_ends_at_ms.store(ends_at, Ordering::Relaxed);
        if let Some(change) = &change {
            metrics::flooded(matches!(change, FloodChange::Started(_)));
        }
        match change {
            None => {}
            Some(FloodChange::Started(counts)) => tracing::warn!(
                checked = counts.checked,
                failed = counts.failed,
                "signature checks are queued; too many tokens have a bad signature"
            ),
            Some(FloodChange::Ended(counts)) => tracing::warn!(
                checked = counts.checked,
                failed = counts.failed,
                "signature checks run without a queue again"
            ),
        }
    }

    /// Starts the threads that are not running yet. Returns `false` if no thread is running and
    /// none can be started.
    fn ensure_threads(self: &Arc<Self>) -> bool {
        let mut workers = lock(&self.workers);
        while workers.threads < workers.max_threads {
            let worker = Worker(Arc::clone(self));
            let thread = thread::Builder::new().name("tower-logto-signatures".into());
            if thread.spawn(move || worker.run()).is_err() {
                break;
            }
            workers.threads += 1;
        }
        workers.threads > 0
    }

    /// Waits for the next check. Returns `None` if no check arrived within `IDLE_TIME`. The calling
    /// thread must then end.
    fn next(&self) -> Option<Waiting<QueuedCheck>> {
        let mut workers = lock(&self.workers);
        loop {
            if let Some(waiting) = workers.queue.pop(self.clock.monotonic()) {
                metrics::queued_checks(workers.queue.len());
                return Some(waiting);
            }
            let (guard, wait) = self
                .check_added
                .wait_timeout(workers, IDLE_TIME)
                .unwrap_or_else(PoisonError::into_inner);
            workers = guard;
            if wait.timed_out() && workers.queue.len() == 0 {
                workers.threads -= 1;
                return None;
            }
        }
    }
}

/// A thread that checks signatures during a flood. After the flood, no more checks arrive, so the
/// thread ends after `IDLE_TIME`.
struct Worker(Arc<Shared>);

impl Worker {
    fn run(self) {
        while let Some(Waiting { check, outcome, .. }) = self.0.next() {
            if !outcome.is_closed() {
                // If the request is cancelled during the check, `send` fails.
                let checked = self.0.check(check.token.signed(), &check.key);
                let _ = outcome.send(checked.map_err(Into::into));
            }
        }
        let mut history = lock(&self.0.history);
        let change = history.flood.end(self.0.clock.monotonic());
        self.0.publish(&history.flood, change);
    }
}

/// If a check panics, its thread ends, and the requests in the queue are refused. Without this
/// refusal, the requests could wait for a thread that no longer exists.
impl Drop for Worker {
    fn drop(&mut self) {
        if thread::panicking() {
            let mut workers = lock(&self.0.workers);
            workers.threads -= 1;
            workers.queue.clear();
        }
    }
}

impl fmt::Debug for SignatureChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignatureChecks").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// After this time without a check, a thread ends.
const IDLE_TIME: Duration = Duration::from_secs(10);
