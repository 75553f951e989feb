//! Runs the demonstration, which checks the OpenAPI document against the guards.

use std::process::Command;

#[test]
fn every_operation_needs_the_scopes_that_the_document_names() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_example-openapi")).arg("--demo").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "POST /products: no token: 401; other scopes: 403; [\"read:products\", \"write:products\"]: 201",
        "GET /organizations/acme/members: no token: 401; other scopes: 403; [\"read:members\"]: 200",
        "GET /health: open, 200",
        "The page loads [] from other servers.",
    ] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
}
