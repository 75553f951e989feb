//! Tests how the crate detects a change in Logto if the webhook for this change failed or was lost.

use std::time::Duration;

use tower_logto::{
    Validator,
    explain::Verdict,
    m2m::{ClientSecret, ManagementApi, TokenClient, TokenRequest},
    revocation::{Revocations, SubjectChecks, WebhookReceiver},
    testing::{ManualClock, TestApp, TestIssuer, TestWebhooks},
};

use crate::support::{LogCapture, SECOND, SHOPPING_API, eventually};

struct Setup {
    issuer: TestIssuer,
    clock: ManualClock,
    webhooks: TestWebhooks,
    revocations: Revocations,
    api: ManagementApi,
}

impl Setup {
    async fn start() -> Self {
        let app = TestApp::new("recovery", "secret").grant(TestIssuer::MANAGEMENT_API, ["all"]);
        let issuer = TestIssuer::builder().app(app).start().await.unwrap();
        // Nothing listens at this address, so every delivery fails.
        let webhooks = issuer.webhooks("http://127.0.0.1:1/logto");
        let revocations = Revocations::new([&issuer.issuer()]).unwrap();
        let secret = ClientSecret::new("secret");
        // After a failure, the token client waits before the next request. The client measures the
        // wait with the manual clock.
        let clock = ManualClock::default();
        let tokens = TokenClient::builder(&issuer.issuer(), "recovery", secret);
        let tokens = tokens.clock(clock.clone()).build().unwrap();
        let request = TokenRequest::self_hosted_management_api();
        let api = ManagementApi::new(&issuer.endpoint(), tokens, request).unwrap();
        Self { issuer, clock, webhooks, revocations, api }
    }

    fn recover(&self) {
        let receiver = WebhookReceiver::builder(&self.revocations)
            .signing_key(self.webhooks.signing_key())
            .build()
            .unwrap();
        tokio::spawn(receiver.recover(self.api.clone(), self.webhooks.hook_id()));
    }

    fn validator(&self) -> Validator {
        Validator::builder()
            .trust(self.issuer.trusted(SHOPPING_API))
            .revocations(&self.revocations)
            .build()
            .unwrap()
    }

    fn blocked(&self) -> usize {
        self.revocations.status().blocked_subjects
    }
}

/// Advances tokio's clock. Before and after this call, the clock runs at its usual speed, because
/// the HTTP connections need a running clock.
async fn advance(seconds: u32) {
    tokio::time::pause();
    tokio::time::advance(seconds * SECOND).await;
    tokio::time::resume();
}

#[tokio::test]
async fn failed_deliveries_are_read_at_the_start_and_every_30_s() {
    let setup = Setup::start().await;
    for n in 0..150 {
        setup.webhooks.suspend(&format!("user-{n}")).fail();
    }
    assert_eq!(setup.webhooks.suspend("alice").send().await, None);
    setup.recover();
    eventually(|| setup.blocked() == 151).await;
    setup.webhooks.reactivate("alice").fail();
    setup.webhooks.delete("bob").fail();
    advance(31).await;
    eventually(|| setup.revocations.rules().len() == 153).await;
    assert_eq!(setup.blocked(), 151, "alice is active, and bob is deleted");
}

#[tokio::test]
async fn an_outage_of_the_management_api_is_logged_and_failed_webhooks_are_found_after_it() {
    let log = LogCapture::start();
    let setup = Setup::start().await;
    setup.webhooks.suspend("alice").fail();
    setup.issuer.go_down();
    setup.recover();
    eventually(|| log.text().contains("the failed webhooks cannot be read from Logto")).await;
    assert_eq!(setup.blocked(), 0);
    setup.issuer.recover();
    setup.clock.advance(31 * SECOND);
    advance(31).await;
    eventually(|| setup.blocked() == 1).await;
}

#[tokio::test]
async fn a_log_entry_that_is_not_a_webhook_does_not_affect_other_entries() {
    let setup = Setup::start().await;
    setup.webhooks.suspend("alice").fail();
    setup.webhooks.webhook("User.Deleted", serde_json::json!({ "createdAt": 5 })).fail();
    setup.webhooks.suspend("bob").fail();
    setup.recover();
    eventually(|| setup.blocked() == 2).await;
}

#[tokio::test]
async fn users_of_valid_tokens_are_checked_in_the_background() {
    let setup = Setup::start().await;
    let validator = setup.validator();
    let checks = SubjectChecks::new(&setup.revocations, setup.api.clone()).checks_per_second(100);
    let token = |user: &str| setup.issuer.token().audience(SHOPPING_API).subject(user).build();
    for user in ["alice", "bob", "carol", "dave"] {
        validator.validate(&token(user)).await.unwrap();
    }
    // The id of this machine-to-machine application is also the id of a deleted user. The checks
    // must not block the application.
    let machine = setup.issuer.token().audience(SHOPPING_API).client_id("machine");
    let machine = machine.subject("machine").build();
    validator.validate(&machine).await.unwrap();
    // The token of erin is forged, so the checks must not look up erin. Otherwise, they would block
    // erin, who is suspended below.
    let forged = setup.issuer.token().audience(SHOPPING_API).subject("erin").bad_signature();
    let explanation = validator.explain(&forged.build()).await;
    assert_eq!(explanation.verdict(), Verdict::Refused);
    drop(setup.webhooks.suspend("erin"));
    drop(setup.webhooks.suspend("alice"));
    drop(setup.webhooks.suspend("bob"));
    drop(setup.webhooks.reactivate("bob"));
    drop(setup.webhooks.delete("carol"));
    drop(setup.webhooks.delete("machine"));
    tokio::spawn(checks.run());
    eventually(|| setup.blocked() == 2).await;
    let refused = |user: &str| validator.try_validate(&token(user)).unwrap().is_err();
    assert!(refused("alice") && refused("carol") && !refused("bob") && !refused("dave"));
    assert!(validator.try_validate(&machine).unwrap().is_ok());

    // The checks also find a reactivation whose webhook was lost. Tokens that were issued before
    // the reactivation, or within the margin of 2 s after it, stay refused.
    drop(setup.webhooks.reactivate("alice"));
    advance(601).await;
    eventually(|| setup.blocked() == 1).await;
    assert!(refused("alice"), "the token was issued within the margin");
}

#[tokio::test]
async fn the_checks_do_not_lift_a_block_that_was_set_by_hand() {
    let log = LogCapture::start();
    let setup = Setup::start().await;
    let validator = setup.validator();
    let token = setup.issuer.token().audience(SHOPPING_API).subject("alice").build();
    validator.validate(&token).await.unwrap();
    setup.revocations.block_subject("alice").await.unwrap();
    // Every change of a user, such as the reactivation below, sets `updatedAt` to the current time.
    // Because of the sleep, this time is later than the time at which `block_subject` blocked the
    // user. After the reactivation, Logto reports that the user is not suspended.
    tokio::time::sleep(Duration::from_millis(5)).await;
    drop(setup.webhooks.reactivate("alice"));
    tokio::spawn(SubjectChecks::new(&setup.revocations, setup.api.clone()).run());
    eventually(|| log.text().contains("users checked for suspension")).await;
    assert_eq!(setup.blocked(), 1);
}

#[tokio::test]
async fn the_management_api_of_another_tenant_blocks_no_user() {
    let log = LogCapture::start();
    let setup = Setup::start().await;
    let validator = setup.validator();
    let checks = SubjectChecks::new(&setup.revocations, setup.api.clone()).checks_per_second(100);
    for user in ["alice", "bob", "carol"] {
        let token = setup.issuer.token().audience(SHOPPING_API).subject(user).build();
        validator.validate(&token).await.unwrap();
        drop(setup.webhooks.delete(user));
    }
    tokio::spawn(checks.run());
    eventually(|| log.text().contains("knows none of the 3 users")).await;
    assert_eq!(setup.revocations.rules(), []);
}
