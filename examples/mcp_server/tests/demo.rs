//! Runs the demonstration.

use std::process::Command;

#[test]
fn every_call_of_the_demonstration_has_the_expected_result() {
    let program = env!("CARGO_BIN_EXE_example-mcp-server");
    let output = Command::new(program).arg("--demo").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "without a token: 401 Unauthorized, Bearer resource_metadata=",
        "bread and butter for agent",
        "\"scope\":\"delete:products\"",
        "with a token for another API: 401 Unauthorized",
        "with another host: 403 Forbidden",
    ] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
}

#[test]
fn a_resource_that_is_not_the_url_of_the_server_is_refused_at_startup() {
    let output = Command::new(env!("CARGO_BIN_EXE_example-mcp-server"))
        .env("LOGTO_ENDPOINT", "https://tenant.logto.app")
        .env("LOGTO_RESOURCE", "https://shopping.api")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("https://shop.example/mcp"), "{text}");
}
