//! The status of a set of rules.

use serde::Serialize;

use super::source::SourceState;

/// The status of a set of [`Revocations`](super::Revocations), for the operator.
///
/// ```
/// use tower_logto::revocation::{RevocationStatus, SourceState};
///
/// /// Use this for an alarm. Do not use it for a readiness probe, because the service works
/// /// without Redis.
/// fn is_healthy(status: &RevocationStatus) -> bool {
///     status.source != SourceState::Disconnected && status.dropped_rules == 0
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RevocationStatus {
    /// The source of the rules, and whether the rules of other instances arrive.
    pub source: SourceState,
    /// Whether the future of `Revocations::run` is running. While it is not running, the rules of
    /// other instances do not arrive.
    pub is_running: bool,
    /// The time since the last response from Redis, in seconds. `None` if Redis has not responded
    /// yet.
    pub last_contact_secs: Option<u64>,
    /// The last error of the connection to Redis. The error remains here after the connection
    /// recovers.
    pub last_error: Option<String>,
    /// The number of targets that have a rule. A target is a subject, a client, an organization, a
    /// member, a token id, or everyone.
    pub rules: usize,
    /// The number of subjects whose tokens are all refused.
    pub blocked_subjects: usize,
    /// The number of cut-offs that were dropped because there were too many rules. As a result, the
    /// service might accept tokens that these cut-offs refused.
    pub dropped_rules: u64,
}
