//! Tests of the webhook receiver over a real socket. Some of the webhooks were captured from a real
//! Logto server.

use std::{
    future::pending,
    time::{Duration, SystemTime},
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tower_logto::{
    Issuer,
    revocation::{EventMapping, Revocations, Rule, WebhookReceiver, WebhookReceiverBuilder},
    testing::{ManualClock, TestIssuer, TestWebhooks},
};

use crate::support::{LogCapture, SECOND, Server, TIMEOUT, fixtures};

/// The time of the manual clocks, in Unix seconds. It is about twenty minutes after the last
/// webhook was captured.
const CAPTURED: u64 = 1_795_528_800;

#[derive(Deserialize)]
struct Captured {
    signing_key: String,
    webhooks: Vec<CapturedWebhook>,
}

#[derive(Deserialize)]
struct CapturedWebhook {
    file: String,
    signature: String,
    body: String,
}

struct Receiver {
    revocations: Revocations,
    server: Server,
}

impl Receiver {
    async fn start(
        configure: impl FnOnce(WebhookReceiverBuilder) -> WebhookReceiverBuilder,
    ) -> Self {
        let issuer = Issuer::logto("https://tenant.logto.app").unwrap();
        let builder = Revocations::builder([&issuer]).clock(ManualClock::at(CAPTURED));
        let revocations = builder.build().unwrap();
        let receiver = configure(WebhookReceiver::builder(&revocations)).build().unwrap();
        let server = Server::start(Router::new().merge(receiver.router("/logto"))).await;
        Self { revocations, server }
    }

    async fn send(&self, signature: &str, body: impl Into<reqwest::Body>) -> Response {
        let request = self.server.request("POST", "/logto").body(body);
        request.header("logto-signature-sha-256", signature).send().await.unwrap()
    }
}

fn captured() -> Captured {
    serde_json::from_str(&fixtures::read("webhooks/captured.json")).unwrap()
}

fn ms(unix_millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(unix_millis)
}

/// Returns the rules that the captured webhook with this file name must create. Webhooks that are
/// not listed here must create no rule.
fn expected(file: &str) -> Vec<Rule> {
    const USER: &str = "byblsf4aguws";
    const OTHER: &str = "5cueh2zz2vxa";
    const ORGANIZATION: &str = "i0qossnegubq";
    let removed = |user, at| {
        vec![Rule::revoke_member(ORGANIZATION, user, at), Rule::revoke_subject(user, at)]
    };
    let removed_application = |app, at| vec![Rule::revoke_member(ORGANIZATION, app, at)];
    match &file[..2] {
        "07" => vec![Rule::block_subject(USER, ms(1_795_526_614_353))],
        "08" => vec![Rule::block_subject(USER, ms(1_795_526_614_732))],
        "09" => vec![Rule::reactivate_subject(USER, ms(1_795_526_615_096))],
        "10" => vec![Rule::delete_subject(USER, ms(1_795_526_645_925))],
        "11" => vec![Rule::delete_subject(OTHER, ms(1_795_526_646_967))],
        "15" => vec![Rule::delete_subject("ozkxelrhq9it", ms(1_795_527_106_869))],
        "19" => vec![Rule::delete_subject("ezkarok8w3ad", ms(1_795_527_435_366))],
        "25" => removed(OTHER, ms(1_795_526_631_901)),
        "26" => removed(USER, ms(1_795_526_632_656)),
        "27" => removed(OTHER, ms(1_795_526_633_015)),
        "29" => removed_application("wee8ogscnwot283w9r446", ms(1_795_526_634_468)),
        "30" => removed_application("l57f2kh2hj8vndkh28m3o", ms(1_795_526_634_828)),
        "31" => vec![Rule::revoke_organization(ORGANIZATION, ms(1_795_526_646_602))],
        _ => Vec::new(),
    }
}

fn sorted(mut rules: Vec<Rule>) -> Vec<Rule> {
    rules.sort_by_key(|rule| format!("{rule:?}"));
    rules
}

#[tokio::test]
async fn every_captured_webhook_creates_the_expected_rules() {
    let Captured { signing_key, webhooks } = captured();
    assert_eq!(webhooks.len(), 65);
    for CapturedWebhook { file, signature, body } in webhooks {
        let receiver = Receiver::start(|builder| builder.signing_key(&signing_key)).await;
        let response = receiver.send(&signature, body).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT, "{file}");
        assert_eq!(sorted(receiver.revocations.rules()), sorted(expected(&file)), "{file}");
    }
}

#[tokio::test]
async fn settings_of_the_event_mapping_change_the_rules() {
    let Captured { signing_key, webhooks } = captured();
    let of = |prefix: &str| webhooks.iter().find(|one| one.file.starts_with(prefix)).unwrap();
    let everyone = |at| vec![Rule::revoke_everyone(ms(at))];
    let organization_only = EventMapping::default().keep_global_tokens_of_removed_members();
    let roles = EventMapping::default().role_changes_revoke_everyone();
    let member = Rule::revoke_member("i0qossnegubq", "5cueh2zz2vxa", ms(1_795_526_631_901));
    for (prefix, mapping, expected) in [
        ("25", organization_only, vec![member]),
        ("51", roles, everyone(1_795_526_645_160)),
        ("40", roles, everyone(1_795_526_643_388)),
        ("48", roles, vec![]),
        ("61", roles, vec![]),
    ] {
        let CapturedWebhook { signature, body, .. } = of(prefix);
        let receiver = Receiver::start(|builder| {
            builder.signing_key(&signing_key).mapping(move |webhook| mapping.rules(webhook))
        });
        let receiver = receiver.await;
        let response = receiver.send(signature, body.clone()).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(receiver.revocations.rules(), expected, "{prefix}");
    }
}

async fn with_kit() -> (Receiver, TestWebhooks) {
    let issuer = TestIssuer::builder().clock(ManualClock::at(CAPTURED)).start().await.unwrap();
    // `sender` only creates and signs webhooks. The tests deliver them with `Receiver::send`, so
    // the receiver URL that is passed here is never used.
    let sender = issuer.webhooks("http://127.0.0.1:1");
    let receiver = Receiver::start(|builder| builder.signing_key(sender.signing_key())).await;
    (receiver, sender)
}

#[tokio::test]
async fn events_without_the_data_for_a_rule_create_no_rule() {
    let (receiver, sender) = with_kit().await;
    let suspended = |params: Value, data: Value| {
        sender.webhook("User.SuspensionStatus.Updated", json!({ "params": params, "data": data }))
    };
    let params = json!({ "userId": "alice" });
    for webhook in [
        sender.suspend("alice").test_payload(),
        suspended(params.clone(), json!({ "id": "alice", "isSuspended": true })),
        suspended(params.clone(), json!({ "id": "alice", "updatedAt": 1 })),
        suspended(params.clone(), json!({ "id": "bob", "isSuspended": true, "updatedAt": 1 })),
        suspended(params, json!({ "id": "alice", "isSuspended": "true", "updatedAt": 1 })),
        suspended(json!({}), json!({ "id": "alice", "isSuspended": true, "updatedAt": 1 })),
        sender.webhook("User.Deleted", json!({ "params": { "userId": "" } })),
        sender.webhook("Organization.Membership.Updated", json!({ "removedUserIds": ["alice"] })),
        sender.webhook("User.Renamed", json!({ "params": { "userId": "alice" } })),
    ] {
        let response = receiver.send(webhook.signature(), webhook.body().to_owned()).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT, "{}", webhook.body());
        assert_eq!(receiver.revocations.rules(), [], "{}", webhook.body());
    }
}

/// In 5 of 10 trials with a real Logto server, the webhook of a suspension arrived after the
/// webhook of the later reactivation.
#[tokio::test]
async fn late_duplicate_and_reordered_webhooks_lead_to_the_state_in_logto() {
    let (receiver, sender) = with_kit().await;
    let (suspended, reactivated) = (sender.suspend("alice"), sender.reactivate("alice"));
    for webhook in [&reactivated, &suspended, &reactivated, &suspended, &suspended] {
        let response = receiver.send(webhook.signature(), webhook.body().to_owned()).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(receiver.revocations.status().blocked_subjects, 0);
    }
    let again = sender.suspend("alice");
    for webhook in [&again, &reactivated, &suspended] {
        receiver.send(webhook.signature(), webhook.body().to_owned()).await;
        assert_eq!(receiver.revocations.status().blocked_subjects, 1);
    }
}

#[tokio::test]
async fn a_member_list_that_logto_truncated_revokes_the_organization() {
    let (receiver, sender) = with_kit().await;
    let users: Vec<String> = (0..5_000).map(|n| format!("user-{n}")).collect();
    let members = json!({ "organizationId": "acme", "removedUserIds": users });
    let webhook = sender.webhook("Organization.Membership.Updated", members);
    let response = receiver.send(webhook.signature(), webhook.body().to_owned()).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let rules = receiver.revocations.rules();
    assert_eq!(rules.len(), 10_001);
    assert!(rules.contains(&Rule::revoke_organization("acme", ms(CAPTURED * 1000))));
}

#[tokio::test]
async fn wrong_signatures_are_refused_and_store_nothing() {
    let log = LogCapture::start();
    let (receiver, sender) = with_kit().await;
    let webhook = sender.suspend("alice");
    let (good, body) = (webhook.signature().to_owned(), webhook.body().to_owned());
    let changed = body.replace("alice", "bobby");
    for (signature, body, why) in [
        (webhook.clone().wrong_signature().signature(), &body, "another key"),
        (&good.to_uppercase(), &body, "upper case"),
        (&good[..62], &body, "too short"),
        (&format!("{good}00"), &body, "too long"),
        (&format!("sha256={good}"), &body, "a prefix"),
        (&good.replace(&good[..1], "g"), &body, "no hex"),
        ("", &body, "empty"),
        (&good, &changed, "another body"),
        (&good, &format!("{body} "), "a space"),
    ] {
        let response = receiver.send(signature, body.clone()).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{why}");
        assert_eq!(response.bytes().await.unwrap(), Bytes::new(), "{why}");
    }
    let request = receiver.server.request("POST", "/logto").body(body.clone());
    assert_eq!(request.send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "no signature");
    let request = receiver.server.request("POST", "/logto").body(body.clone());
    let twice =
        request.header("logto-signature-sha-256", &good).header("logto-signature-sha-256", &good);
    assert_eq!(twice.send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "two signatures");
    assert_eq!(receiver.revocations.rules(), []);
    assert_eq!(receiver.send(&good, body).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(receiver.revocations.status().blocked_subjects, 1);
    drop(log);
}

#[tokio::test]
async fn a_receiver_with_two_signing_keys_accepts_a_signature_of_either_key() {
    let (_, sender) = with_kit().await;
    let webhook = sender.suspend("alice");
    let receiver = Receiver::start(|builder| {
        builder.signing_key("the next key").signing_key(sender.signing_key())
    });
    let receiver = receiver.await;
    let response = receiver.send(webhook.signature(), webhook.body().to_owned()).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn signed_bodies_that_are_not_webhooks_get_400() {
    let (receiver, sender) = with_kit().await;
    for body in [
        "",
        "{",
        "[]",
        "null",
        r#"{"event":"User.Deleted"}"#,
        r#"{"createdAt":"2026-11-24T13:23:34.375Z"}"#,
        r#"{"event":"User.Deleted","createdAt":"yesterday"}"#,
        r#"{"event":1,"createdAt":"2026-11-24T13:23:34.375Z"}"#,
    ] {
        let response = receiver.send(&sender.sign(body), body).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body}");
    }
}

#[tokio::test]
async fn large_bodies_are_refused_before_they_are_read() {
    let (receiver, sender) = with_kit().await;
    let signature = sender.sign("");
    for (size, expected) in [(1024 * 1024, 401), (1024 * 1024 + 1, 413)] {
        let response = receiver.send(&signature, vec![b' '; size]).await;
        assert_eq!(response.status().as_u16(), expected, "{size}");
    }
}

/// The receiver reads 16 request bodies at a time. If more requests arrive, the oldest requests get
/// 503. A request whose body does not end within 4 s gets 408. Neither surplus requests nor slow
/// requests may delay a webhook.
#[tokio::test(start_paused = true)]
async fn at_most_16_bodies_are_read_at_a_time_and_slow_ones_delay_no_webhook() {
    let (_, sender) = with_kit().await;
    let issuer = Issuer::logto("https://tenant.logto.app").unwrap();
    let revocations = Revocations::new([&issuer]).unwrap();
    let builder = WebhookReceiver::builder(&revocations).signing_key(sender.signing_key());
    let router: Router = builder.build().unwrap().router("/logto");
    let webhook = sender.suspend("alice");
    let request = |body: Body| {
        let request = http::Request::post("/logto");
        let request = request.header("logto-signature-sha-256", webhook.signature());
        router.clone().oneshot(request.body(body).unwrap())
    };
    let endless = || Body::new(Empty::<Bytes>::new().with_trailers(pending()));
    let slow: Vec<_> = (0..100).map(|_| tokio::spawn(request(endless()))).collect();
    let started = tokio::time::Instant::now();
    // The paused clock advances when all requests wait.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let accepted = request(webhook.body().to_owned().into()).await.unwrap();
    assert_eq!(accepted.status(), StatusCode::NO_CONTENT);
    assert_eq!(started.elapsed(), Duration::from_millis(1));
    assert_eq!(revocations.status().blocked_subjects, 1);
    let mut statuses = Vec::new();
    for response in slow {
        let response = tokio::time::timeout(TIMEOUT, response).await.unwrap().unwrap().unwrap();
        statuses.push(response.status().as_u16());
    }
    // When the webhook arrived, the receiver was reading the bodies of the last 16 slow requests.
    // To read the webhook, it refused the oldest of these requests with 503.
    assert_eq!(statuses, [vec![503; 85], vec![408; 15]].concat());
    assert_eq!(started.elapsed(), 4 * SECOND);
}

#[test]
fn missing_and_padded_signing_keys_are_config_errors_and_debug_output_shows_no_signing_key() {
    let issuer = Issuer::logto("https://tenant.logto.app").unwrap();
    let revocations = Revocations::new([&issuer]).unwrap();
    let builder = || WebhookReceiver::builder(&revocations);
    for builder in [builder(), builder().signing_key(""), builder().signing_key("key\n")] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.setting(), "signing_key");
    }
    let builder = builder().signing_key("s3cr3t");
    let shown = format!("{builder:?}");
    let shown = format!("{shown}{:?}", builder.build().unwrap());
    assert!(!shown.contains("s3cr3t"), "{shown}");
}
