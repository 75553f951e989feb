//! Runs the program against a test issuer, and checks its output and its exit codes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing helper fails the test")]

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use tower_logto::{
    Validator,
    revocation::{RedisStore, Revocations},
    testing::{TestApp, TestIssuer},
};

const RESOURCE: &str = "https://shopping.api";

async fn logto() -> TestIssuer {
    let app = TestApp::new("app", "the-app-secret").grant(RESOURCE, ["read:products"]);
    TestIssuer::builder().app(app).start().await.unwrap()
}

/// Runs the program with these arguments, environment variables and standard input.
async fn run(arguments: &[&str], variables: &[(&str, &str)], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tower-logto"));
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let stdin = stdin.to_owned();
    let run = move || {
        let mut child = command.spawn().unwrap();
        // The program may end without reading its input, so a failed write is not an error.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child.wait_with_output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_prints_the_checks_and_exits_with_the_verdict() {
    let logto = logto().await;
    let endpoint = logto.endpoint();
    let variables = [("LOGTO_ENDPOINT", &*endpoint), ("LOGTO_RESOURCE", RESOURCE)];
    let token = || logto.token().audience(RESOURCE).scopes(["read:products"]);
    for (token, scope, code, expected) in [
        (token().build(), "read:products", 0, "The token is accepted."),
        (token().build(), "write:products", 1, "the token lacks \"write:products\""),
        (token().expired().build(), "read:products", 1, "the token expired"),
        ("opaque".to_owned(), "read:products", 1, "ask Logto for a `resource`"),
    ] {
        let output = run(&["explain", "--scope", scope], &variables, &token).await;
        let stdout = text(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{stdout}");
        assert!(stdout.contains(expected), "{stdout}");
        assert!(!stdout.contains(&token) || token == "opaque", "{stdout}");
        assert!(!stdout.contains('\u{1b}'), "the output has colours without a terminal");
    }
    let output = run(&["explain", "--json", &token().build()], &variables, "").await;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["verdict"], "accepted");
    assert_eq!(json["checks"][0]["name"], "size");
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_commands_send_no_request() {
    let logto = logto().await;
    let file = std::env::temp_dir().join(format!("jwks-{}.json", std::process::id()));
    std::fs::write(&file, logto.jwks()).unwrap();
    let path = file.to_str().unwrap();
    let endpoint = logto.endpoint();
    let variables = [("LOGTO_ENDPOINT", &*endpoint), ("LOGTO_RESOURCE", RESOURCE)];
    let token = logto.token().audience(RESOURCE).build();
    let output = run(&["explain", "--offline", path, &token], &variables, "").await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let output = run(&["keys", "--offline", path], &variables, "").await;
    assert!(text(&output.stdout).contains("ES384"), "{}", text(&output.stdout));
    assert_eq!(logto.jwks_requests(), 0);
    std::fs::remove_file(file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn token_prints_a_token_and_never_the_secret() {
    let logto = logto().await;
    let endpoint = logto.endpoint();
    let variables = [
        ("LOGTO_ENDPOINT", &*endpoint),
        ("LOGTO_RESOURCE", RESOURCE),
        ("LOGTO_APP_ID", "app"),
        ("LOGTO_APP_SECRET", "the-app-secret"),
    ];
    let output = run(&["token", "--scope", "read:products"], &variables, "").await;
    let token = text(&output.stdout).trim().to_owned();
    let validator = logto.validator(RESOURCE).unwrap();
    validator.validate(&token).await.unwrap().require_scopes(["read:products"]).unwrap();

    let output = run(&["token", "--scope", "read:products", "--explain"], &variables, "").await;
    assert_eq!(text(&output.stdout).lines().count(), 1, "standard output has only the token");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("Granted scopes: read:products"), "{stderr}");
    assert!(stderr.contains("The token is accepted."), "{stderr}");

    let wrong = [&variables[..3], &[("LOGTO_APP_SECRET", "another-secret")]].concat();
    let output = run(&["token"], &wrong, "").await;
    let all = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(all.contains("the app secret is wrong") && !all.contains("another-secret"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_lists_algorithms_and_says_why_entries_are_skipped() {
    let logto = logto().await;
    let usable = logto.jwks();
    let keys = usable.trim_start_matches("{\"keys\":[").trim_end_matches("]}");
    logto.publish(format!(
        r#"{{"keys":[{keys},{{"kty":"oct","kid":"s","k":"AA"}},{{"kty":"OKP","kid":"o"}}]}}"#
    ));
    let endpoint = logto.endpoint();
    let output = run(&["keys"], &[("LOGTO_ENDPOINT", &endpoint)], "").await;
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    for expected in ["EC  ES384", "kid s  oct  skipped: a private", "skipped: unsupported `kty`"] {
        assert!(stdout.contains(expected), "{expected}: {stdout}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_exits_with_2_and_says_what_to_set() {
    let endpoint = ("LOGTO_ENDPOINT", "https://tenant.logto.app");
    let resource = ("LOGTO_RESOURCE", RESOURCE);
    let app = ("LOGTO_APP_ID", "app");
    for (arguments, variables, expected) in [
        (&["explain", "x"][..], vec![], "set LOGTO_ENDPOINT"),
        (&["explain", "x"], vec![endpoint], "set LOGTO_RESOURCE"),
        (&["keys"], vec![], "set LOGTO_ENDPOINT"),
        (&["token"], vec![endpoint, resource], "set LOGTO_APP_ID"),
        (&["token"], vec![endpoint, resource, app], "set LOGTO_APP_SECRET"),
        (&["token", "--secret", "x"], vec![endpoint, resource, app], "unexpected argument"),
    ] {
        let output = run(arguments, &variables, "").await;
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revoke_requires_a_target_and_a_redis_url() {
    let endpoint = ("LOGTO_ENDPOINT", "https://tenant.logto.app");
    let all = [endpoint, ("LOGTO_REDIS_PREFIX", "test"), ("REDIS_URL", "redis://127.0.0.1:1")];
    for (arguments, variables, code, expected) in [
        (&["revoke"][..], &all[..], 2, "--subject"),
        (&["revoke", "--subject", "a"], &all[..2], 2, "set REDIS_URL"),
        (&["revoke", "--subject", "a"], &[endpoint][..], 2, "--prefix"),
        (&["revoke", "--subject", "a", "--client", "b"], &all, 2, "cannot be used with"),
        (&["revoke", "--client", "a", "--block"], &all, 2, "need --subject"),
        (&["revoke", "--subject", "a"], &all, 1, "Connection refused"),
    ] {
        let output = run(arguments, variables, "").await;
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_client_is_refused_by_services() {
    let Ok(url) = std::env::var("REDIS_URL") else {
        return println!("skipped: REDIS_URL is not set");
    };
    let logto = logto().await;
    let endpoint = logto.endpoint();
    let prefix = format!("test:cli:{}", std::process::id());
    let variables =
        [("LOGTO_ENDPOINT", &*endpoint), ("LOGTO_REDIS_PREFIX", &prefix), ("REDIS_URL", &url)];
    let store = RedisStore::new(&url, &prefix).unwrap();
    let revocations = Revocations::builder([&logto.issuer()]).redis(store).build().unwrap();
    tokio::spawn(revocations.run());
    let trusted = logto.trusted(RESOURCE);
    let validator = Validator::builder().trust(trusted).revocations(&revocations).build().unwrap();
    let token = logto.token().audience(RESOURCE).client_id("shop").subject("alice").build();
    validator.validate(&token).await.unwrap();
    for arguments in [
        &["revoke", "--client", "shop"][..],
        &["revoke", "--subject", "bob", "--block"],
        &["revoke", "--organization", "acme", "--subject", "carol"],
    ] {
        let output = run(arguments, &variables, "").await;
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let mut changes = revocations.changes();
    while revocations.status().rules < 3 {
        changes.next().await;
    }
    assert_eq!(validator.validate(&token).await.unwrap_err().reason(), "revoked");
    assert_eq!(revocations.status().blocked_subjects, 1);
}
