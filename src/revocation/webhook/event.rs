//! The body of a webhook.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

/// A webhook that Logto created. A [mapping](super::WebhookReceiverBuilder::mapping) turns the
/// webhook into rules.
///
/// `data` may contain values that a user chose, for example in the event `User.Data.Updated`. Take
/// ids from `params` and from the top level instead.
///
/// ```
/// use std::time::SystemTime;
/// use tower_logto::revocation::{Rule, Webhook};
///
/// /// Refuses earlier tokens of a user whose grants Logto revoked.
/// fn rules(webhook: &Webhook) -> Vec<Rule> {
///     match (webhook.event(), webhook.text("/userId")) {
///         ("Grant.LimitExceeded", Some(user)) => {
///             vec![Rule::revoke_subject(user, webhook.created_at())]
///         }
///         _ => Vec::new(),
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    event: String,
    created_at: SystemTime,
    body: Value,
}

#[derive(Deserialize)]
struct Envelope {
    event: String,
    #[serde(rename = "createdAt")]
    created_at: String,
}

impl Webhook {
    pub(super) fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let body = serde_json::from_slice(body).map_err(|_| "the body is not JSON")?;
        Self::from_json(body)
    }

    pub(super) fn from_json(body: Value) -> Result<Self, &'static str> {
        let Envelope { event, created_at } =
            Envelope::deserialize(&body).map_err(|_| "the body has no event or no createdAt")?;
        let created_at = humantime::parse_rfc3339(&created_at)
            .map_err(|_| "createdAt is not an ISO 8601 date")?;
        Ok(Self { event, created_at, body })
    }

    /// Returns the name of the event, such as `User.SuspensionStatus.Updated`.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Returns `createdAt`, the time at which Logto created the webhook. This time is after the
    /// change that the webhook reports.
    pub const fn created_at(&self) -> SystemTime {
        self.created_at
    }

    /// Returns the whole body.
    pub const fn body(&self) -> &Value {
        &self.body
    }

    /// Returns the string at a JSON pointer such as `/params/userId` (RFC 6901). If there is no
    /// string at the pointer, or if the string is empty, returns `None`.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.body.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// Returns the strings in the array at a JSON pointer, and skips elements of other types. If
    /// there is no array at the pointer, the result is empty.
    pub fn texts(&self, pointer: &str) -> Vec<&str> {
        let list = self.body.pointer(pointer).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Returns the time at a JSON pointer. The body contains the time as milliseconds since the
    /// Unix epoch.
    pub(super) fn time(&self, pointer: &str) -> Option<SystemTime> {
        let millis = self.body.pointer(pointer)?.as_u64()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
    }

    pub(super) fn flag(&self, pointer: &str) -> Option<bool> {
        self.body.pointer(pointer)?.as_bool()
    }
}
