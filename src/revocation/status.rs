//! The status of a set of rules.

use serde::Serialize;

use super::source::SourceState;

/// The status of a set of [`Revocations`](super::Revocations), for the operator.
///
/// ```
/// use tower_logto::revocation::{RevocationStatus, SourceState};
///
/// /// For an alarm, not for a readiness probe: the service works without Redis.
/// fn is_healthy(status: &RevocationStatus) -> bool {
///     status.source != SourceState::Disconnected && status.dropped_rules == 0
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RevocationStatus {
    /// Whether the rules of other instances arrive.
    pub source: SourceState,
    /// Whether the future of `Revocations::run` runs. Without it, rules of others do not arrive.
    pub is_running: bool,
    /// The time since the last response of Redis, in seconds.
    pub last_contact_secs: Option<u64>,
    /// The last error of the connection to Redis, also after a recovery.
    pub last_error: Option<String>,
    /// The number of subjects, clients, organizations, members and token ids that have a rule.
    pub rules: usize,
    /// The number of subjects whose tokens are all refused.
    pub blocked_subjects: usize,
    /// The number of cut-offs that were dropped because there were too many. Tokens that they
    /// refused may be accepted.
    pub dropped_rules: u64,
}
