//! Asks Logto in the background whether the users of valid tokens are suspended or deleted.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{Revocations, rule::Rule};
use crate::m2m::{ManagementApi, ManagementError, ManagementErrorKind};

/// Asks the Management API whether the users of valid tokens are suspended or deleted. The checks
/// find a suspended or deleted user even if Logto lost the webhook about this user.
///
/// If Logto restarts, the webhooks in flight are lost. Within one [`period`](Self::period), the
/// checks find each suspended or deleted user whose webhook was lost. From then on, the user's
/// tokens are refused. If the [`rate`](Self::checks_per_second) is too low to check all users
/// within one period, it can take longer to find such a user.
///
/// Run the checks in each instance that validates tokens, because an instance checks only the users
/// whose tokens it validated itself.
///
/// ```no_run
/// use std::time::Duration;
/// use tower_logto::{m2m::ManagementApi, revocation::{Revocations, SubjectChecks}};
///
/// # fn example(revocations: Revocations, api: ManagementApi) {
/// let checks = SubjectChecks::new(&revocations, api).period(Duration::from_secs(300));
/// tokio::spawn(checks.run());
/// # }
/// ```
#[derive(Debug)]
#[must_use = "spawn the future of run()"]
pub struct SubjectChecks {
    revocations: Revocations,
    api: ManagementApi,
    period: Duration,
    checks_per_second: u32,
}

/// The fields of a Logto user that the checks need.
#[derive(Deserialize)]
struct User {
    #[serde(rename = "isSuspended")]
    is_suspended: bool,
    /// The time of the user's last change, in milliseconds since the Unix epoch.
    #[serde(rename = "updatedAt")]
    updated_at: u64,
}

impl SubjectChecks {
    /// Creates the checks. From this call on, `revocations` records the users of valid tokens.
    /// [`run`](Self::run) checks the recorded users.
    pub fn new(revocations: &Revocations, api: ManagementApi) -> Self {
        revocations.record_subjects(MAX_SUBJECTS);
        Self {
            revocations: revocations.clone(),
            api,
            period: DEFAULT_PERIOD,
            checks_per_second: DEFAULT_CHECKS_PER_SECOND,
        }
    }

    /// Sets the time between two checks of the same user. The default is 10 min, and the minimum is
    /// 10 s.
    pub fn period(mut self, period: Duration) -> Self {
        self.period = period.max(MIN_PERIOD);
        self
    }

    /// Sets how many users are checked per second. The default is 5, the minimum is 1, and the
    /// maximum is 100. Each check is a request to the Management API, so consider the rate limit of
    /// Logto Cloud.
    pub fn checks_per_second(mut self, checks: u32) -> Self {
        self.checks_per_second = checks.clamp(1, 100);
        self
    }

    /// Runs the checks. The future never completes, so spawn it.
    ///
    /// At most 100,000 users are checked. Machine-to-machine applications are not checked. If there
    /// are at least three users and Logto knows none of them, the Management API probably belongs
    /// to another tenant. In this case, the checks do not block these users.
    ///
    /// If the checks have blocked a user, they lift the block when they find that the user exists
    /// and is not suspended. They do not lift other blocks, such as a block that was set by hand or
    /// a block from before a restart of the service. If a user has such a block and the webhook
    /// that reports the user's reactivation is lost, call [`Revocations::reactivate_subject`].
    ///
    /// # Cancel safety
    /// If you drop the future, the checks end.
    ///
    /// # Runtime
    /// Requires a tokio runtime with I/O and time enabled.
    pub async fn run(self) {
        let mut blocked = HashMap::new();
        let mut rounds = interval(self.period);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let started = Instant::now();
            if let Err(error) = self.round(started, &mut blocked).await {
                tracing::warn!(%error, "some users could not be checked for suspension");
            } else if started.elapsed() > self.period {
                tracing::warn!(
                    "checking all users for suspension took {} s, which is longer than the period: \
                     see SubjectChecks::checks_per_second",
                    started.elapsed().as_secs()
                );
            }
        }
    }

    /// Checks each recorded user once. Returns the last error. The keys of `blocked` are the users
    /// whom the checks have blocked in this round or in an earlier round. The values are the times
    /// of the blocks.
    async fn round(
        &self,
        mut next: Instant,
        blocked: &mut HashMap<String, SystemTime>,
    ) -> Result<(), ManagementError> {
        let mut subjects = self.revocations.recorded_subjects();
        // A round can end early. If the order were fixed, each such round would skip the same
        // users.
        fastrand::shuffle(&mut subjects);
        let (mut found, mut missing) = (0, Vec::new());
        let (mut failures_in_a_row, mut outcome) = (0, Ok(()));
        for subject in subjects {
            sleep_until(next).await;
            next += Duration::from_secs(1) / self.checks_per_second;
            match self.user(&subject).await {
                Ok(Some(user)) => {
                    found += 1;
                    let is_blocked = self.revocations.blocks(&subject);
                    self.store(rule(&subject, &user, blocked, is_blocked)).await;
                }
                Ok(None) => missing.push(subject),
                Err(error) => {
                    outcome = Err(error);
                    failures_in_a_row += 1;
                    if failures_in_a_row == FEW {
                        break;
                    }
                    continue;
                }
            }
            failures_in_a_row = 0;
        }
        tracing::debug!(users = found + missing.len(), "users checked for suspension");
        if found == 0 && missing.len() >= FEW {
            tracing::error!(
                "Logto knows none of the {} users with valid tokens, so no user is refused: does \
                 the ManagementApi belong to the issuer's tenant?",
                missing.len()
            );
            return outcome;
        }
        let now = self.revocations.now();
        missing.iter().for_each(|subject| remember(blocked, subject, now));
        self.store(missing.iter().map(|subject| Rule::block_subject(subject.as_str(), now))).await;
        outcome
    }

    /// Returns the user, or `None` if Logto has no such user.
    async fn user(&self, subject: &str) -> Result<Option<User>, ManagementError> {
        let id: String = url::form_urlencoded::byte_serialize(subject.as_bytes()).collect();
        match self.api.get(&format!("/api/users/{id}")).await {
            Ok(user) => Ok(Some(user)),
            // Only Logto's own 404 shows that the user does not exist. A 404 from another server,
            // such as a proxy, does not contain a Logto error.
            Err(error)
                if error.status() == Some(StatusCode::NOT_FOUND)
                    && error.kind() == ManagementErrorKind::Refused =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn store(&self, rules: impl IntoIterator<Item = Rule>) {
        let rules: Vec<Rule> = rules.into_iter().collect();
        if rules.is_empty() {
            return;
        }
        if let Err(error) = self.revocations.store(rules).await {
            tracing::error!(%error, "the results of the user checks could not be stored");
        }
    }
}

/// Returns the rule that follows from a user's present state. The rule reactivates the user only if
/// the checks have blocked the user. Without this condition, any change to the user's data would
/// lift a block that was set by hand, because every change increases `updatedAt`.
fn rule(
    subject: &str,
    user: &User,
    blocked: &mut HashMap<String, SystemTime>,
    is_blocked: bool,
) -> Option<Rule> {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(user.updated_at))?;
    if user.is_suspended {
        remember(blocked, subject, at);
        return Some(Rule::block_subject(subject, at));
    }
    let blocked_at = blocked.remove(subject)?;
    if !is_blocked {
        // The block no longer applies, for example because a webhook has reactivated the user.
        // A second reactivation could revoke valid tokens, because each reactivation also revokes
        // all tokens that were issued before it. If the user's data has changed since the first
        // reactivation, `updatedAt` is the time of this later change. A second reactivation with
        // this time would revoke the valid tokens that were issued between the first reactivation
        // and the later change.
        return None;
    }
    // If an earlier round did not find the user in Logto, that round blocked the user. The time of
    // this block is the time of that round, which can be later than `updatedAt`. A reactivation
    // lifts only earlier blocks, so its time must be later than the time of the block.
    let after_block = blocked_at + Duration::from_millis(1);
    Some(Rule::reactivate_subject(subject, at.max(after_block)))
}

/// Remembers a block that the checks set, so that they can lift it later. If the map is full, the
/// block is not remembered, so the checks cannot lift it.
fn remember(blocked: &mut HashMap<String, SystemTime>, subject: &str, at: SystemTime) {
    if blocked.len() < MAX_BLOCKED || blocked.contains_key(subject) {
        blocked.insert(subject.to_owned(), at);
    }
}

const DEFAULT_PERIOD: Duration = Duration::from_secs(10 * 60);
const MIN_PERIOD: Duration = Duration::from_secs(10);
const DEFAULT_CHECKS_PER_SECOND: u32 = 5;
const MAX_SUBJECTS: u64 = 100_000;
/// The maximum number of blocks that the checks remember. The checks can lift only a remembered
/// block.
const MAX_BLOCKED: usize = 100_000;
/// If there are at least `FEW` users and Logto knows none of them, the Management API probably
/// belongs to another tenant. If `FEW` checks in a row fail, Logto is probably unavailable, so the
/// round ends.
const FEW: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn only_blocks_of_the_checks_are_lifted() {
        let user = |is_suspended, updated_at| User { is_suspended, updated_at };
        let mut blocked = HashMap::new();
        let mut rule = |user: User, is_blocked| rule("alice", &user, &mut blocked, is_blocked);
        assert_eq!(rule(user(false, 1), true), None);
        assert_eq!(rule(user(true, 2), false), Some(Rule::block_subject("alice", at(2))));
        assert_eq!(rule(user(true, 3), true), Some(Rule::block_subject("alice", at(3))));
        assert_eq!(rule(user(false, 4), true), Some(Rule::reactivate_subject("alice", at(4))));
        assert_eq!(rule(user(false, 5), true), None);
        // A webhook lifts the second block, and then the user changes the profile.
        assert_eq!(rule(user(true, 6), false), Some(Rule::block_subject("alice", at(6))));
        assert_eq!(rule(user(false, 7), false), None);
        assert_eq!(rule(user(false, 8), true), None);
    }

    #[test]
    fn the_remembered_blocks_are_bounded() {
        let mut blocked = HashMap::new();
        for number in 0..=MAX_BLOCKED {
            remember(&mut blocked, &number.to_string(), at(1));
        }
        remember(&mut blocked, "0", at(2));
        assert_eq!((blocked.len(), blocked["0"]), (MAX_BLOCKED, at(2)));
    }

    #[test]
    fn user_whom_logto_did_not_know_for_a_while_is_reactivated() {
        let mut blocked = HashMap::from([("alice".to_owned(), at(10))]);
        let user = User { is_suspended: false, updated_at: 1 };
        let reactivation = Rule::reactivate_subject("alice", at(11));
        assert_eq!(rule("alice", &user, &mut blocked, true), Some(reactivation));
    }
}
