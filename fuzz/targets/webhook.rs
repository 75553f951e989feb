//! Arbitrary bodies of webhooks. Only a signed body creates rules. The rules contain ids of users,
//! applications and organizations. The id of a user must come from a field in which Logto sends
//! user ids. The same applies to the ids of applications and organizations.

#![no_main]

use std::sync::LazyLock;

use http::{Request, StatusCode};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tower_logto::{
    Issuer,
    revocation::{Revocations, WebhookReceiver},
    testing::{ManualClock, TestIssuer, TestWebhooks},
};
use tower_logto_fuzz::{ISSUER, NOW};
use tower_service::Service as _;

struct Stage {
    runtime: Runtime,
    webhooks: TestWebhooks,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let logto = runtime.block_on(TestIssuer::start()).unwrap();
    Stage { runtime, webhooks: logto.webhooks("http://127.0.0.1:1/the-target-sends-them") }
});

fuzz_target!(|input: &[u8]| {
    // The first byte selects whether the body is signed.
    let Some((choice, body)) = input.split_first() else { return };
    let Ok(body) = str::from_utf8(body) else { return };
    let is_signed = choice % 2 == 0;
    let set = Revocations::builder([&Issuer::new(ISSUER).unwrap()])
        .clock(ManualClock::at(NOW))
        .build()
        .unwrap();
    let signed = if is_signed { body.to_owned() } else { format!("{body} ") };
    let signature = STAGE.webhooks.sign(&signed);

    let status = send(&set, body, &signature);
    let rules = rules(&set);
    let json = serde_json::from_str::<Value>(body).ok();
    match (is_signed, status) {
        (false, StatusCode::UNAUTHORIZED) => assert!(rules.is_empty()),
        (true, StatusCode::BAD_REQUEST) => assert!(rules.is_empty()),
        (true, StatusCode::NO_CONTENT) => {
            let json = json.expect("the body is JSON");
            assert!(json["event"].is_string() && json["createdAt"].is_string());
            rules.iter().for_each(|rule| check_rule(rule, &json));
        }
        (_, status) => panic!("{status}"),
    }
    // A second delivery of the same webhook changes nothing.
    assert_eq!(send(&set, body, &signature), status);
    assert_eq!(self::rules(&set), rules);
});

fn send(set: &Revocations, body: &str, signature: &str) -> StatusCode {
    let receiver = WebhookReceiver::builder(set).signing_key(STAGE.webhooks.signing_key());
    let mut router = receiver.build().unwrap().router::<()>("/");
    let request = Request::post("/").header("logto-signature-sha-256", signature);
    let response = router.call(request.body(body.to_owned()).unwrap());
    STAGE.runtime.block_on(response).unwrap().status()
}

fn rules(set: &Revocations) -> Vec<Value> {
    let mut rules: Vec<_> =
        set.rules().iter().map(|rule| serde_json::to_value(rule).unwrap()).collect();
    rules.sort_by_key(Value::to_string);
    rules
}

fn check_rule(rule: &Value, body: &Value) {
    let (change, target) = (rule["change"].as_str().unwrap(), &rule["target"]);
    let user = &body["params"]["userId"];
    let removed =
        |list: &str, id: &Value| body[list].as_array().is_some_and(|ids| ids.contains(id));
    let is_expected = match body["event"].as_str().unwrap() {
        "User.SuspensionStatus.Updated" => {
            let expected = match body["data"]["isSuspended"] {
                Value::Bool(true) => "block",
                Value::Bool(false) => "reactivate",
                _ => "no rule",
            };
            change == expected && *target == json!({ "subject": user })
        }
        "User.Deleted" => change == "delete" && *target == json!({ "subject": user }),
        "Organization.Membership.Updated" => {
            let organization = &body["organizationId"];
            let member = &target["member"];
            let is_member = member["organization"] == *organization
                && (removed("removedUserIds", &member["subject"])
                    || removed("removedApplicationIds", &member["subject"]));
            let is_user = removed("removedUserIds", &target["subject"]);
            let is_whole =
                target["organization"] == *organization && body.to_string().len() > 5_000;
            change == "cut_off" && (is_member || is_user || is_whole)
        }
        "Organization.Deleted" => {
            change == "cut_off" && *target == json!({ "organization": body["params"]["id"] })
        }
        _ => false,
    };
    assert!(is_expected, "{rule}");
}
