//! The rules. A rule specifies the tokens that are refused after a change.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// Specifies which tokens are refused after a change, for example after a user was suspended.
///
/// A *cut-off* (`revoke_…`) refuses the tokens that were issued before a certain time, or within
/// the [margin](super::RevocationsBuilder::margin) after that time. A *block* refuses every token
/// of a subject, including tokens that are issued later.
///
/// [`Revocations::store`](super::Revocations::store) stores rules. You can store rules in any
/// order, and you can store the same rule several times. If several rules differ only in their
/// time, the latest time counts. Rules can be serialized, for example to keep them in a file.
///
/// ```
/// use std::time::SystemTime;
/// use tower_logto::revocation::Rule;
///
/// let now = SystemTime::now();
/// assert_eq!(Rule::block_subject("alice", now), Rule::block_subject("alice", now));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    #[serde(flatten)]
    pub(super) key: RuleKey,
    /// The time of the change, in milliseconds since the Unix epoch.
    pub(super) at: u64,
}

/// The change and the target of a rule, without the time. If several rules have the same key, the
/// latest time counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct RuleKey {
    pub(super) change: Change,
    pub(super) target: Target,
}

/// The kind of change that happened to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    /// Tokens that were issued before the change are refused.
    CutOff,
    /// All tokens are refused, including tokens that are issued after the change.
    Block,
    /// Earlier blocks no longer apply. Tokens that were issued before the reactivation are refused.
    Reactivate,
    /// All tokens are refused permanently.
    Delete,
}

/// The target of a rule, which determines the tokens that the rule applies to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Target {
    Subject(Box<str>),
    Client(Box<str>),
    Organization(Box<str>),
    Member { organization: Box<str>, subject: Box<str> },
    TokenId(Box<str>),
    Everyone,
}

impl Rule {
    /// Refuses every token of a subject until a [reactivation](Self::reactivate_subject) with a
    /// later time is stored. The rule does not expire.
    pub fn block_subject(subject: impl Into<String>, at: SystemTime) -> Self {
        Self::new(Change::Block, Target::Subject(boxed(subject)), at)
    }

    /// Lifts an earlier block of a subject. Tokens that were issued before the reactivation are
    /// still refused.
    pub fn reactivate_subject(subject: impl Into<String>, at: SystemTime) -> Self {
        Self::new(Change::Reactivate, Target::Subject(boxed(subject)), at)
    }

    /// Refuses every token of a subject permanently.
    pub fn delete_subject(subject: impl Into<String>, at: SystemTime) -> Self {
        Self::new(Change::Delete, Target::Subject(boxed(subject)), at)
    }

    /// Refuses the tokens of a subject that were issued before `at`. The subject is the claim
    /// `sub`, which is the id of a user or of a machine-to-machine application.
    pub fn revoke_subject(subject: impl Into<String>, at: SystemTime) -> Self {
        Self::new(Change::CutOff, Target::Subject(boxed(subject)), at)
    }

    /// Refuses the tokens that were issued to an application before `at`. The claim `client_id`
    /// contains the id of the application.
    pub fn revoke_client(client_id: impl Into<String>, at: SystemTime) -> Self {
        Self::new(Change::CutOff, Target::Client(boxed(client_id)), at)
    }

    /// Refuses the tokens that were issued for an organization before `at`.
    pub fn revoke_organization(organization: impl Into<String>, at: SystemTime) -> Self {
        Self::new(Change::CutOff, Target::Organization(boxed(organization)), at)
    }

    /// Refuses the tokens that were issued to a subject for an organization before `at`.
    pub fn revoke_member(
        organization: impl Into<String>,
        subject: impl Into<String>,
        at: SystemTime,
    ) -> Self {
        let (organization, subject) = (boxed(organization), boxed(subject));
        Self::new(Change::CutOff, Target::Member { organization, subject }, at)
    }

    /// Refuses the token with this `jti` (RFC 7519 §4.1.7), if the token was issued before `at`.
    pub fn revoke_token(jwt_id: impl Into<String>, at: SystemTime) -> Self {
        Self::new(Change::CutOff, Target::TokenId(boxed(jwt_id)), at)
    }

    /// Refuses every token that was issued before `at`. Every caller must then request a new token.
    pub fn revoke_everyone(at: SystemTime) -> Self {
        Self::new(Change::CutOff, Target::Everyone, at)
    }

    /// Parses a rule that was read from Redis. Returns `None` if the rule is invalid.
    #[cfg(feature = "redis")]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked"
    )]
    pub(super) fn from_stored(key: &[u8], at: f64) -> Option<Self> {
        let key: RuleKey = serde_json::from_slice(key).ok()?;
        let is_valid = key.is_valid() && (1.0..=LARGEST_EXACT).contains(&at);
        is_valid.then_some(Self { key, at: at as u64 })
    }

    fn new(change: Change, target: Target, at: SystemTime) -> Self {
        let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // The time is at least 1, because `Rules` uses 0 for a change that did not happen.
        Self { key: RuleKey { change, target }, at: millis(since_epoch).max(1) }
    }
}

impl RuleKey {
    /// Returns whether this rule key is valid. A cut-off is valid for every target. A block, a
    /// reactivation or a deletion is valid only for a subject. The constructors of [`Rule`] make
    /// only valid rule keys, but a rule key that is read from Redis or JSON may be invalid.
    pub(super) const fn is_valid(&self) -> bool {
        matches!((self.change, &self.target), (Change::CutOff, _) | (_, Target::Subject(_)))
    }
}

#[cfg(feature = "redis")]
impl RuleKey {
    pub(super) fn to_json(&self) -> String {
        // Serializing strings does not fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Converts a time to whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// 2^53. Redis stores times as `f64`. This type represents every integer up to 2^53 without
/// rounding.
#[cfg(feature = "redis")]
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

fn boxed(text: impl Into<String>) -> Box<str> {
    text.into().into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_key_has_a_fixed_json_text() {
        let at = SystemTime::UNIX_EPOCH;
        for (rule, text) in [
            (Rule::block_subject("a\"b", at), r#"{"change":"block","target":{"subject":"a\"b"}}"#),
            (
                Rule::revoke_member("o", "s", at),
                r#"{"change":"cut_off","target":{"member":{"organization":"o","subject":"s"}}}"#,
            ),
            (Rule::revoke_everyone(at), r#"{"change":"cut_off","target":"everyone"}"#),
        ] {
            assert_eq!(serde_json::to_string(&rule.key).unwrap(), text);
            assert_eq!(serde_json::from_str::<RuleKey>(text).unwrap(), rule.key);
        }
    }
}
