//! Runs `examples/m2m_client.rs` with its built-in test issuer, and with a tenant from environment
//! variables.

use std::process::Command;

use tower_logto::testing::ManualClock;

use super::support::{SECRET, logto};
use crate::example::api;
use crate::support::{SHOPPING_API, Server};

/// Runs the example. Returns two values: whether the example succeeded, and its output.
async fn run(variables: &[(&str, &str)]) -> (bool, String) {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.parent().and_then(|deps| deps.parent()).unwrap();
    let path = profile.join("examples/m2m_client");
    assert!(path.exists(), "run `cargo build --example m2m_client` first: no {}", path.display());
    let mut program = Command::new(path);
    for name in ["ENDPOINT", "APP_ID", "APP_SECRET", "RESOURCE", "ORGANIZATION_ID"] {
        program.env_remove(format!("LOGTO_{name}"));
    }
    program.env_remove("SHOPPING_API_URL").envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn example_without_environment_variables_starts_a_test_issuer() {
    let (success, text) = run(&[]).await;
    assert!(success, "{text}");
    for line in [
        "token for https://shopping.api: {\"read:products\", \"write:products\"}",
        "GET /products: 200 OK",
        "POST /products: 201 Created",
        "token for organization acme: {\"invite:member\"}",
        "application reporting:",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[tokio::test]
async fn example_uses_the_tenant_from_environment_variables() {
    let logto = logto(&ManualClock::default()).await;
    let service = Server::start(api::router(logto.validator(SHOPPING_API).unwrap())).await;
    let api = service.url().to_owned();
    let endpoint = logto.endpoint();
    let mut variables = vec![
        ("LOGTO_ENDPOINT", endpoint.as_str()),
        ("LOGTO_APP_ID", "app"),
        ("LOGTO_APP_SECRET", SECRET),
        ("LOGTO_RESOURCE", SHOPPING_API),
    ];
    let (success, text) = run(&variables).await;
    assert!(success && text.contains("skipped, SHOPPING_API_URL is not set"), "{text}");
    assert!(text.contains("skipped, LOGTO_ORGANIZATION_ID is not set"), "{text}");
    assert!(text.contains("application app:"), "{text}");

    variables.extend([("SHOPPING_API_URL", api.as_str()), ("LOGTO_ORGANIZATION_ID", "acme")]);
    let (success, text) = run(&variables).await;
    assert!(success && text.contains("POST /products: 201 Created"), "{text}");

    variables.push(("LOGTO_RESOURCE", "https://shopping.api/"));
    let (success, text) = run(&variables).await;
    assert!(!success && text.contains("mind the trailing slash"), "{text}");
    variables.push(("LOGTO_APP_SECRET", ""));
    let (success, text) = run(&variables).await;
    assert!(!success && text.contains("LOGTO_APP_SECRET is not set"), "{text}");
}
