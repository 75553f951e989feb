//! The order of waiting signature checks.

use std::{collections::VecDeque, time::Duration};

use tokio::sync::oneshot;

use crate::error::AuthErrorKind;

/// The waiting checks. The checks of known subjects come before all other checks. Each of these two
/// groups is in order of arrival.
///
/// If the queue used only the order of arrival, valid tokens would wait as long as forged tokens.
#[derive(Debug)]
pub(super) struct CheckQueue<T> {
    known: VecDeque<Waiting<T>>,
    others: VecDeque<Waiting<T>>,
    limits: QueueLimits,
    /// The number of checks that arrived at a full queue. This number restarts at 0 when the queue
    /// removes the checks of cancelled requests.
    refused: usize,
}

/// The bounds of the queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueLimits {
    /// The maximum number of waiting checks.
    pub(crate) max_queued: usize,
    /// The longest time that a check may wait. After this time, the check is refused.
    pub(crate) max_time: Duration,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { max_queued: 16_384, max_time: Duration::from_secs(5) }
    }
}

/// The outcome of a check. A request waits for this outcome.
pub(super) type Outcome = Result<(), AuthErrorKind>;

/// A waiting check, and the request that receives its outcome.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) check: T,
    /// If the monotonic clock reaches this time while the check is in the queue, the queue refuses
    /// the check.
    pub(super) deadline: Duration,
    pub(super) outcome: oneshot::Sender<Outcome>,
}

impl<T> CheckQueue<T> {
    pub(super) const fn new(limits: QueueLimits) -> Self {
        Self { known: VecDeque::new(), others: VecDeque::new(), limits, refused: 0 }
    }

    /// Adds a check. If the queue is full, a check of a known subject replaces the newest check of
    /// an unknown subject. In all other cases, a full queue refuses the new check.
    pub(super) fn push(
        &mut self,
        check: T,
        is_known: bool,
        now: Duration,
    ) -> Result<oneshot::Receiver<Outcome>, AuthErrorKind> {
        if self.len() >= self.limits.max_queued {
            self.remove_abandoned();
        }
        if self.len() >= self.limits.max_queued {
            let evicted = if is_known { self.others.pop_back() } else { None };
            match evicted {
                Some(evicted) => self.refuse(evicted),
                None => return Err(self.too_many()),
            }
        }
        let (outcome, receiver) = oneshot::channel();
        let waiting = Waiting { check, deadline: now + self.limits.max_time, outcome };
        if is_known { &mut self.known } else { &mut self.others }.push_back(waiting);
        Ok(receiver)
    }

    /// Refuses the checks that waited too long. Then removes the next check and returns it.
    pub(super) fn pop(&mut self, now: Duration) -> Option<Waiting<T>> {
        self.refuse_late(now);
        self.known.pop_front().or_else(|| self.others.pop_front())
    }

    pub(super) fn len(&self) -> usize {
        self.known.len() + self.others.len()
    }

    /// Drops all checks, so the requests that wait for these checks are refused.
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.others.clear();
    }

    pub(super) const fn too_many(&self) -> AuthErrorKind {
        AuthErrorKind::TooManySignatureChecks { retry_after: self.limits.max_time }
    }

    fn refuse_late(&mut self, now: Duration) {
        let pop_late = |queue: &mut VecDeque<Waiting<T>>| {
            queue.front().filter(|first| now >= first.deadline)?;
            queue.pop_front()
        };
        while let Some(late) = pop_late(&mut self.known).or_else(|| pop_late(&mut self.others)) {
            self.refuse(late);
        }
    }

    fn refuse(&self, waiting: Waiting<T>) {
        // Sending fails if the request was cancelled.
        let _ = waiting.outcome.send(Err(self.too_many()));
    }

    /// Called when a check arrives at a full queue. Once per `max_queued / 8` calls, searches the
    /// whole queue and removes the checks whose requests were cancelled. The other calls do not
    /// search, because a search takes longer than refusing the new check.
    fn remove_abandoned(&mut self) {
        self.refused += 1;
        if self.refused * 8 >= self.limits.max_queued {
            self.refused = 0;
            self.known.retain(|waiting| !waiting.outcome.is_closed());
            self.others.retain(|waiting| !waiting.outcome.is_closed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);
    const LIMITS: QueueLimits = QueueLimits { max_queued: 4, max_time: Duration::from_secs(5) };

    type Receiver = oneshot::Receiver<Outcome>;

    fn push(queue: &mut CheckQueue<u32>, check: u32, is_known: bool) -> Receiver {
        queue.push(check, is_known, NOW).unwrap()
    }

    fn is_refused(receiver: &mut Receiver) -> bool {
        let too_many = |kind| matches!(kind, AuthErrorKind::TooManySignatureChecks { .. });
        receiver.try_recv().is_ok_and(|outcome| outcome.is_err_and(too_many))
    }

    fn order(queue: &mut CheckQueue<u32>, now: Duration) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop(now)).map(|waiting| waiting.check).collect()
    }

    #[test]
    fn known_subjects_come_first_and_each_group_is_in_order_of_arrival() {
        let mut queue = CheckQueue::new(LIMITS);
        let _receivers = [(1, false), (2, true), (3, false), (4, true)]
            .map(|(check, is_known)| push(&mut queue, check, is_known));
        assert_eq!(order(&mut queue, NOW), [2, 4, 1, 3]);
    }

    #[test]
    fn full_queue_refuses_unknown_subjects_and_drops_their_newest_check_for_a_known_subject() {
        let mut queue = CheckQueue::new(LIMITS);
        let mut receivers = [1, 2, 3, 4].map(|check| push(&mut queue, check, false));
        let refused = queue.push(5, false, NOW).unwrap_err();
        let retry_after = LIMITS.max_time;
        assert_eq!(refused, AuthErrorKind::TooManySignatureChecks { retry_after });
        let _known = push(&mut queue, 6, true);
        assert_eq!(receivers.each_mut().map(is_refused), [false, false, false, true]);
        assert_eq!(order(&mut queue, NOW), [6, 1, 2, 3]);
        let _known = [7, 8, 9, 10].map(|check| push(&mut queue, check, true));
        assert!(queue.push(11, true, NOW).is_err(), "11 must not replace a known subject's check");
    }

    #[test]
    fn check_that_waited_too_long_is_refused_even_behind_known_subjects() {
        let mut queue = CheckQueue::new(LIMITS);
        let mut late = push(&mut queue, 1, false);
        let later = NOW + LIMITS.max_time;
        let known = [2, 3].map(|check| queue.push(check, true, later).unwrap());
        assert_eq!(queue.pop(later).map(|waiting| waiting.check), Some(2));
        assert!(is_refused(&mut late));
        drop(known);
        assert_eq!(order(&mut queue, later), [3]);
    }

    #[test]
    fn checks_of_cancelled_requests_make_room_for_new_checks() {
        let mut queue = CheckQueue::new(LIMITS);
        let kept = push(&mut queue, 1, false);
        drop([2, 3, 4].map(|check| push(&mut queue, check, false)));
        let new = [5, 6, 7].map(|check| push(&mut queue, check, false));
        assert_eq!(queue.len(), 4);
        assert_eq!(order(&mut queue, NOW), [1, 5, 6, 7]);
        drop((kept, new));
    }
}
