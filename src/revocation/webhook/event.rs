//! The body of a webhook.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

/// A webhook that Logto signed. A [mapping](super::WebhookReceiverBuilder::mapping) turns it into
/// rules.
///
/// `data` may contain values that a user chose, for example in the event `User.Data.Updated`. Use
/// the ids in `params` and at the top level.
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
            .map_err(|_| "createdAt is not a date of ISO 8601")?;
        Ok(Self { event, created_at, body })
    }

    /// Returns the name of the event, such as `User.SuspensionStatus.Updated`.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Returns `createdAt`: when Logto created the webhook, after the change.
    pub const fn created_at(&self) -> SystemTime {
        self.created_at
    }

    /// Returns the whole body.
    pub const fn body(&self) -> &Value {
        &self.body
    }

    /// Returns the text at a JSON pointer such as `/params/userId` (RFC 6901), unless it is empty.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.body.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// Returns the texts of the list at a JSON pointer. A missing list is empty.
    pub fn texts(&self, pointer: &str) -> Vec<&str> {
        let list = self.body.pointer(pointer).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Returns the time at a JSON pointer, in milliseconds since the Unix epoch.
    pub(super) fn time(&self, pointer: &str) -> Option<SystemTime> {
        let millis = self.body.pointer(pointer)?.as_u64()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
    }

    pub(super) fn flag(&self, pointer: &str) -> Option<bool> {
        self.body.pointer(pointer)?.as_bool()
    }
}
