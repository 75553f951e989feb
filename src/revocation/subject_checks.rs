//! Asks Logto in the background whether the users of valid tokens are suspended or deleted.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{Revocations, rule::Rule};
use crate::m2m::{ManagementApi, ManagementError, ManagementErrorKind};

/// Checks the users of valid tokens with the Management API, for webhooks that Logto lost.
///
/// A restart of Logto loses the webhooks in flight. With these checks, a user who was suspended or
/// deleted meanwhile is refused after one [`period`](Self::period), or after the number of users
/// divided by the [`rate`](Self::checks_per_second) if that is longer. Run the checks in one
/// instance if the rules are shared, and in each instance otherwise.
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

/// The part of Logto's user that decides.
#[derive(Deserialize)]
struct User {
    #[serde(rename = "isSuspended")]
    is_suspended: bool,
    /// Milliseconds since the Unix epoch.
    #[serde(rename = "updatedAt")]
    updated_at: u64,
}

impl SubjectChecks {
    /// Checks the users of tokens that are validated with these revocations from now on.
    pub fn new(revocations: &Revocations, api: ManagementApi) -> Self {
        revocations.record_subjects(MAX_SUBJECTS);
        Self {
            revocations: revocations.clone(),
            api,
            period: DEFAULT_PERIOD,
            checks_per_second: DEFAULT_CHECKS_PER_SECOND,
        }
    }

    /// Sets how often each user is checked: every 10 min by default, at least every 10 s.
    pub fn period(mut self, period: Duration) -> Self {
        self.period = period.max(MIN_PERIOD);
        self
    }

    /// Sets how many users are checked per second: 5 by default, from 1 to 100. Consider the rate
    /// limit of Logto Cloud.
    pub fn checks_per_second(mut self, checks: u32) -> Self {
        self.checks_per_second = checks.clamp(1, 100);
        self
    }

    /// Runs the checks. The future never completes, so spawn it.
    ///
    /// The latest 100,000 users are checked. Machine-to-machine applications are not. If Logto knows
    /// none of several users, none is refused, because the Management API is that of another tenant.
    ///
    /// # Cancel safety
    /// If you drop the future, the checks end.
    ///
    /// # Runtime
    /// Requires a tokio runtime with I/O and time enabled.
    pub async fn run(self) {
        let mut rounds = interval(self.period);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let started = Instant::now();
            if let Err(error) = self.round(started).await {
                // An outage fails many checks. The next round repeats them.
                tracing::warn!(%error, "users cannot be checked for suspension");
            } else if started.elapsed() > self.period {
                tracing::warn!(
                    "a check of all users for suspension took {} s, longer than its period: see \
                     SubjectChecks::checks_per_second",
                    started.elapsed().as_secs()
                );
            }
        }
    }

    async fn round(&self, mut next: Instant) -> Result<(), ManagementError> {
        let (mut found, mut missing) = (0, Vec::new());
        for subject in self.revocations.recorded_subjects() {
            sleep_until(next).await;
            next += Duration::from_secs(1) / self.checks_per_second;
            match self.user(&subject).await? {
                Some(user) => {
                    found += 1;
                    self.store(self.rule(&subject, &user)).await;
                }
                None => missing.push(subject),
            }
        }
        if found == 0 && missing.len() >= FEW {
            tracing::error!(
                "Logto knows none of {} users with valid tokens, so none is refused: is the \
                 ManagementApi that of the issuer's tenant?",
                missing.len()
            );
            return Ok(());
        }
        let now = self.revocations.now();
        self.store(missing.iter().map(|subject| Rule::block_subject(subject.as_str(), now))).await;
        Ok(())
    }

    /// Returns the user, or `None` if Logto has deleted it.
    async fn user(&self, subject: &str) -> Result<Option<User>, ManagementError> {
        let id: String = url::form_urlencoded::byte_serialize(subject.as_bytes()).collect();
        match self.api.get(&format!("/api/users/{id}")).await {
            Ok(user) => Ok(Some(user)),
            // Another server may respond with 404, too, but not with an error of Logto.
            Err(error)
                if error.status() == Some(StatusCode::NOT_FOUND)
                    && error.kind() == ManagementErrorKind::Refused =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn rule(&self, subject: &str, user: &User) -> Option<Rule> {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(user.updated_at);
        if user.is_suspended {
            return Some(Rule::block_subject(subject, at));
        }
        // A reactivation also refuses older tokens, so it must not follow from any other change.
        self.revocations.blocks(subject).then(|| Rule::reactivate_subject(subject, at))
    }

    async fn store(&self, rules: impl IntoIterator<Item = Rule>) {
        let rules: Vec<Rule> = rules.into_iter().collect();
        if rules.is_empty() {
            return;
        }
        if let Err(error) = self.revocations.store(rules).await {
            tracing::error!(%error, "the result of a check of users is not stored");
        }
    }
}

const DEFAULT_PERIOD: Duration = Duration::from_secs(10 * 60);
const MIN_PERIOD: Duration = Duration::from_secs(10);
const DEFAULT_CHECKS_PER_SECOND: u32 = 5;
const MAX_SUBJECTS: u64 = 100_000;
/// If Logto knows none of this many users, the Management API is that of another tenant.
const FEW: usize = 3;
