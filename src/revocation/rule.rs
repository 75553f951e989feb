//! A rule: which tokens a change revokes.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// Says which tokens are refused since a change, for example since a user was suspended.
///
/// [`Revocations::store`](super::Revocations::store) stores rules. A rule may be stored twice and
/// in any order: the latest change of a target counts. A rule can be serialized, to keep it
/// somewhere else.
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
    /// Milliseconds since the Unix epoch.
    pub(super) at: u64,
}

/// What a rule says, without its time. For each key, the latest time counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct RuleKey {
    pub(super) change: Change,
    pub(super) target: Target,
}

/// What happened to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    /// Tokens that were issued before are refused.
    CutOff,
    /// All tokens are refused, also those that are issued later.
    Block,
    /// Lifts the blocks before it. Tokens that were issued before are refused.
    Reactivate,
    /// All tokens are refused, for good.
    Delete,
}

/// Whose tokens a rule is about.
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
    /// Refuses every token of a subject, until a [reactivation](Self::reactivate_subject) with a
    /// later time. The rule does not expire.
    pub fn block_subject(subject: impl Into<String>, at: SystemTime) -> Self {
        Self::new(Change::Block, Target::Subject(boxed(subject)), at)
    }

    /// Lifts an earlier block of a subject. Tokens that were issued before stay refused.
    pub fn reactivate_subject(subject: impl Into<String>, at: SystemTime) -> Self {
        Self::new(Change::Reactivate, Target::Subject(boxed(subject)), at)
    }

    /// Refuses every token of a subject, for good.
    pub fn delete_subject(subject: impl Into<String>, at: SystemTime) -> Self {
        Self::new(Change::Delete, Target::Subject(boxed(subject)), at)
    }

    /// Refuses the tokens of a subject that were issued before `at`: the `sub` of a user, or of a
    /// machine-to-machine application.
    pub fn revoke_subject(subject: impl Into<String>, at: SystemTime) -> Self {
        Self::new(Change::CutOff, Target::Subject(boxed(subject)), at)
    }

    /// Refuses the tokens that were issued to an application before `at`: the claim `client_id`.
    pub fn revoke_client(client_id: impl Into<String>, at: SystemTime) -> Self {
        Self::new(Change::CutOff, Target::Client(boxed(client_id)), at)
    }

    /// Refuses the tokens for an organization that were issued before `at`.
    pub fn revoke_organization(organization: impl Into<String>, at: SystemTime) -> Self {
        Self::new(Change::CutOff, Target::Organization(boxed(organization)), at)
    }

    /// Refuses the tokens of a subject for an organization that were issued before `at`.
    pub fn revoke_member(
        organization: impl Into<String>,
        subject: impl Into<String>,
        at: SystemTime,
    ) -> Self {
        let (organization, subject) = (boxed(organization), boxed(subject));
        Self::new(Change::CutOff, Target::Member { organization, subject }, at)
    }

    /// Refuses one token by its `jti`, if it was issued before `at` (RFC 7519 §4.1.7).
    pub fn revoke_token(jwt_id: impl Into<String>, at: SystemTime) -> Self {
        Self::new(Change::CutOff, Target::TokenId(boxed(jwt_id)), at)
    }

    /// Refuses every token of the issuers that was issued before `at`. Every caller must then
    /// request a new token.
    pub fn revoke_everyone(at: SystemTime) -> Self {
        Self::new(Change::CutOff, Target::Everyone, at)
    }

    /// Reads a rule that another instance stored. Returns `None` if it is broken.
    #[cfg(feature = "redis")]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked"
    )]
    pub(super) fn from_stored(key: &[u8], at: f64) -> Option<Self> {
        let key = serde_json::from_slice(key).ok()?;
        (1.0..=LARGEST_EXACT).contains(&at).then_some(Self { key, at: at as u64 })
    }

    fn new(change: Change, target: Target, at: SystemTime) -> Self {
        let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { key: RuleKey { change, target }, at: millis(since_epoch) }
    }
}

#[cfg(feature = "redis")]
impl RuleKey {
    pub(super) fn to_json(&self) -> String {
        // Serialization of strings does not fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Returns whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Redis stores times as `f64`.
#[cfg(feature = "redis")]
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

fn boxed(text: impl Into<String>) -> Box<str> {
    text.into().into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_text_each() {
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
