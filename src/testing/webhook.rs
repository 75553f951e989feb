//! Sends webhooks as Logto does: each webhook is signed, and a failed webhook is not sent again.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use http::StatusCode;
use serde_json::{Value, json};

use crate::testing::{
    TestIssuer,
    server::state::{IssuerState, TestUser},
    token::random_id,
};

/// Creates the signed webhooks that Logto sends when users and organizations change.
/// [`TestWebhook::send`] delivers a webhook to the receiver.
///
/// [`suspend`](Self::suspend), [`reactivate`](Self::reactivate) and [`delete`](Self::delete) also
/// change the user that `/api/users/{id}` returns.
///
/// ```
/// use tower_logto::{revocation::{Revocations, WebhookReceiver}, testing::TestIssuer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let issuer = TestIssuer::start().await?;
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let webhooks = issuer.webhooks(format!("http://{}/logto", listener.local_addr()?));
///
/// let revocations = Revocations::new([&issuer.issuer()])?;
/// let receiver =
///     WebhookReceiver::builder(&revocations).signing_key(webhooks.signing_key()).build()?;
/// tokio::spawn(axum::serve(listener, receiver.router("/logto")).into_future());
///
/// webhooks.suspend("alice").send().await;
/// assert_eq!(revocations.status().blocked_subjects, 1);
/// # Ok(())
/// # }
/// ```
///
/// # Faults
/// To simulate these cases, proceed as follows:
///
/// - Lost webhook: do not call [`send`](TestWebhook::send).
/// - Late webhook, or webhooks out of order: call `send` later, or in another order.
/// - Duplicate webhook: call `send` twice.
/// - Failed delivery: call [`fail`](TestWebhook::fail), or let the receiver respond with a status
///   other than 2xx.
/// - Wrong signature: call [`wrong_signature`](TestWebhook::wrong_signature).
/// - Test payload of Logto's Console: call [`test_payload`](TestWebhook::test_payload).
#[derive(Debug, Clone)]
pub struct TestWebhooks {
    url: String,
    signing_key: String,
    hook_id: String,
    state: Arc<IssuerState>,
    http: reqwest::Client,
}

/// A signed webhook, which [`send`](Self::send) delivers. [`TestWebhooks::suspend`],
/// [`TestWebhooks::reactivate`] and [`TestWebhooks::delete`] change the user before they return the
/// webhook.
///
/// ```
/// use tower_logto::testing::TestIssuer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let webhooks = TestIssuer::start().await?.webhooks("http://127.0.0.1:1/webhooks");
/// let webhook = webhooks.suspend("alice");
/// assert!(webhook.body().contains("User.SuspensionStatus.Updated"));
/// assert_eq!(webhook.send().await, None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "call send()"]
pub struct TestWebhook {
    webhooks: TestWebhooks,
    body: String,
    signature: String,
}

impl TestIssuer {
    /// Returns a [`TestWebhooks`] with a new signing key, for the receiver at this URL.
    pub fn webhooks(&self, url: impl Into<String>) -> TestWebhooks {
        // Uses no proxy, because the receiver of a test is never behind a proxy.
        let http = reqwest::Client::builder().no_proxy().build().expect("the settings are valid");
        TestWebhooks {
            url: url.into(),
            signing_key: random_id(32),
            hook_id: random_id(21),
            state: self.shared_state(),
            http,
        }
    }
}

impl TestWebhooks {
    /// Signs the webhooks with this key instead of a random key. Use this method if the receiver
    /// already has a signing key.
    pub fn with_signing_key(mut self, key: impl Into<String>) -> Self {
        self.signing_key = key.into();
        self
    }

    /// Returns the signing key, which the receiver needs to check the signatures.
    pub fn signing_key(&self) -> &str {
        &self.signing_key
    }

    /// Returns the `hookId` that all these webhooks have in common. It is the `{id}` in the path
    /// `/api/hooks/{id}/recent-logs`.
    pub fn hook_id(&self) -> &str {
        &self.hook_id
    }

    /// Suspends a user, and returns the webhook that reports this change.
    pub fn suspend(&self, user: &str) -> TestWebhook {
        self.change_user(user, true)
    }

    /// Reactivates a user, and returns the webhook that reports this change.
    pub fn reactivate(&self, user: &str) -> TestWebhook {
        self.change_user(user, false)
    }

    /// Deletes a user, and returns the webhook that reports this change.
    pub fn delete(&self, user: &str) -> TestWebhook {
        self.state.users().insert(user.to_owned(), TestUser::Deleted);
        self.webhook(
            "User.Deleted",
            json!({ "params": { "userId": user }, "matchedRoute": "/users/:userId", "data": { "id": user } }),
        )
    }

    /// Returns the webhook that reports the removal of a user from an organization.
    pub fn remove_member(&self, organization: &str, user: &str) -> TestWebhook {
        self.membership(organization, "removedUserIds", user)
    }

    /// Returns the webhook that reports the removal of a machine-to-machine application from an
    /// organization.
    pub fn remove_application(&self, organization: &str, app_id: &str) -> TestWebhook {
        self.membership(organization, "removedApplicationIds", app_id)
    }

    /// Returns the webhook that reports the deletion of an organization.
    pub fn delete_organization(&self, organization: &str) -> TestWebhook {
        let members =
            json!({ "params": { "id": organization }, "matchedRoute": "/organizations/:id" });
        self.webhook("Organization.Deleted", members)
    }

    /// Creates a webhook for any other event. The body contains the fields `event`, `createdAt` and
    /// `hookId`, and all fields of the JSON object `members`. If `members` has a field of the same
    /// name, its value is used.
    pub fn webhook(&self, event: &str, members: Value) -> TestWebhook {
        let created_at = std::time::UNIX_EPOCH + self.state.clock.unix_time();
        let created_at = humantime::format_rfc3339_millis(created_at).to_string();
        let mut body = json!({ "event": event, "createdAt": created_at, "hookId": self.hook_id });
        if let (Some(body), Value::Object(members)) = (body.as_object_mut(), members) {
            body.extend(members);
        }
        TestWebhook::new(self, body.to_string())
    }

    fn change_user(&self, user: &str, is_suspended: bool) -> TestWebhook {
        let now = self.state.clock.unix_time();
        let changed = {
            let mut users = self.state.users();
            let earlier = users.get(user).map_or(Duration::ZERO, TestUser::updated_at);
            // Logto's database applies the changes to a user one after another. Each change
            // therefore gets a later `updatedAt` than the previous change, even if both changes are
            // within the same millisecond.
            let updated_at = now.max(earlier + Duration::from_millis(1));
            let changed = TestUser::Active { is_suspended, updated_at };
            users.insert(user.to_owned(), changed);
            changed
        };
        self.webhook(
            "User.SuspensionStatus.Updated",
            json!({
                "params": { "userId": user },
                "matchedRoute": "/users/:userId/is-suspended",
                "data": changed.to_json(user),
            }),
        )
    }

    fn membership(&self, organization: &str, list: &str, id: &str) -> TestWebhook {
        self.webhook(
            "Organization.Membership.Updated",
            json!({ "params": { "id": organization }, "organizationId": organization, list: [id] }),
        )
    }

    /// Returns the signature of a body.
    pub fn sign(&self, body: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.signing_key.as_bytes());
        let tag = hmac::sign(&key, body.as_bytes());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TestWebhook {
    fn new(webhooks: &TestWebhooks, body: String) -> Self {
        Self { webhooks: webhooks.clone(), signature: webhooks.sign(&body), body }
    }

    /// Returns the body.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// Returns the value of the header `logto-signature-sha-256`.
    pub fn signature(&self) -> &str {
        &self.signature
    }

    /// Replaces the signature with an invalid signature.
    pub fn wrong_signature(mut self) -> Self {
        self.signature = "0".repeat(64);
        self
    }

    /// Replaces the webhook with Logto's test payload for the same event. Logto sends this payload
    /// if an administrator clicks "Send test payload" in the Console.
    pub fn test_payload(self) -> Self {
        let body: Value = serde_json::from_str(&self.body).expect("the body is JSON");
        let event = body["event"].as_str().unwrap_or_default();
        let members = json!({
            "path": "/fake-path/:id",
            "params": { "id": "fake-id" },
            "data": { "result": "success" },
        });
        self.webhooks.webhook(event, members)
    }

    /// Sends the webhook. Returns the status of the response, or `None` if there was no response.
    /// Without a 2xx response, the webhook is listed as failed and is not sent again. Logto also
    /// handles failed webhooks in this way.
    pub async fn send(&self) -> Option<StatusCode> {
        let request = self
            .webhooks
            .http
            .post(&self.webhooks.url)
            .header("content-type", "application/json")
            .header("logto-signature-sha-256", &self.signature)
            .body(self.body.clone());
        let status = request.send().await.ok().map(|response| response.status());
        if !status.is_some_and(|status| status.is_success()) {
            self.fail();
        }
        status
    }

    /// Lists the webhook as failed in `/api/hooks/{id}/recent-logs`, without sending it.
    pub fn fail(&self) {
        let body: Value = serde_json::from_str(&self.body).expect("the body is JSON");
        let at = self.webhooks.state.clock.unix_time().as_millis();
        let log = json!({
            "id": random_id(21),
            "key": format!("TriggerHook.{}", body["event"].as_str().unwrap_or_default()),
            "createdAt": u64::try_from(at).unwrap_or(u64::MAX),
            "payload": { "result": "Error", "hookId": self.webhooks.hook_id, "hookRequest": { "body": body } },
        });
        self.webhooks.state.failed_webhooks().insert(0, (self.webhooks.hook_id.clone(), log));
    }
}
