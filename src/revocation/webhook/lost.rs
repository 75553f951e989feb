//! Finds webhooks that Logto could not deliver.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{event::Webhook, receiver::WebhookReceiver};
use crate::m2m::{ManagementApi, ManagementError};

/// An entry of the log that Logto keeps for a webhook. Logto returns the newest entry first.
#[derive(Deserialize)]
struct LogEntry {
    id: String,
    payload: Payload,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    result: String,
    #[serde(rename = "hookRequest")]
    request: Option<Request>,
}

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    body: Value,
}

impl WebhookReceiver {
    /// Reads the failed deliveries of a webhook from Logto immediately and then every 30 s, and
    /// stores the resulting rules. The future never completes, so spawn it.
    ///
    /// `hook_id` is the id of the webhook in Logto's Console. Logto sends each event only once, but
    /// keeps failed deliveries in a log for 24 h. The future reads this log from
    /// `GET /api/hooks/{id}/recent-logs`. The log does not contain events that were lost because
    /// Logto itself restarted.
    ///
    /// ```no_run
    /// use tower_logto::{m2m::{ClientSecret, ManagementApi}, revocation::WebhookReceiver};
    ///
    /// # fn example(receiver: &WebhookReceiver) -> Result<(), Box<dyn std::error::Error>> {
    /// let secret = ClientSecret::new(std::env::var("LOGTO_APP_SECRET")?);
    /// let api = ManagementApi::cloud("tenant", "app id", secret)?;
    /// tokio::spawn(receiver.recover(api, "hook id"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// If you drop the future, failed deliveries are no longer read.
    ///
    /// # Runtime
    /// Requires a tokio runtime with I/O and time enabled.
    pub fn recover(
        &self,
        api: ManagementApi,
        hook_id: impl Into<String>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (receiver, hook_id) = (self.clone(), hook_id.into());
        async move {
            // The id of the newest known entry. The rules of this entry and of all older entries
            // are already stored.
            let mut newest = None;
            loop {
                match receiver.recover_once(&api, &hook_id, newest.as_deref()).await {
                    Ok(found) => newest = found.or(newest),
                    Err(error) => receiver
                        .warn(&format!("the failed webhooks cannot be read from Logto: {error}")),
                }
                tokio::time::sleep(INTERVAL).await;
            }
        }
    }

    /// Stores the rules of the entries that are newer than `known`. Returns the id of the newest
    /// entry, or `None` if no entry is newer or if some rules could not be stored.
    async fn recover_once(
        &self,
        api: &ManagementApi,
        hook_id: &str,
        known: Option<&str>,
    ) -> Result<Option<String>, ManagementError> {
        let hook_id: String = url::form_urlencoded::byte_serialize(hook_id.as_bytes()).collect();
        let mut entries = api.pages::<LogEntry>(format!("/api/hooks/{hook_id}/recent-logs"));
        let (mut newest, mut is_complete) = (None, true);
        for _ in 0..MAX_ENTRIES {
            let Some(entry) = entries.next().await else { break };
            let entry = entry?;
            if known == Some(entry.id.as_str()) {
                break;
            }
            newest.get_or_insert(entry.id);
            if entry.payload.result == "Error" {
                is_complete &= self.apply_failed(entry.payload.request).await;
            }
        }
        Ok(newest.filter(|_| is_complete))
    }

    /// Stores the rules of a failed delivery. Returns `false` if the rules could not be stored. If
    /// the body is not a webhook, ignores the body and returns `true`.
    async fn apply_failed(&self, request: Option<Request>) -> bool {
        let body = request.map(|request| request.body).unwrap_or_default();
        match Webhook::from_json(body) {
            Ok(webhook) => self.apply(&webhook).await.is_ok(),
            Err(why) => {
                tracing::warn!("failed webhook in Logto's log is unreadable; ignoring it: {why}");
                true
            }
        }
    }
}

const INTERVAL: Duration = Duration::from_secs(30);
/// The largest number of entries that one call of `recover_once` reads. If the log has more new
/// entries, only the newest ones are read.
const MAX_ENTRIES: usize = 10_000;
