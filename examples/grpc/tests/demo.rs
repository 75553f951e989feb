//! Runs the demonstration.

use std::process::Command;

#[test]
fn every_call_of_the_demonstration_has_the_expected_result() {
    let output = Command::new(env!("CARGO_BIN_EXE_example-grpc")).arg("--demo").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "health without a token: Serving",
        "list without a token: Unauthenticated, the call has no access token",
        "list with a token: 3 products",
        "watch with a token: jam",
        "delete without the scope: PermissionDenied, the access token lacks a required scope",
        "list with a wrong secret: Unauthenticated, the access token for this call was refused",
        "list while Logto is down: Unavailable, the access token for this call is unavailable",
    ] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
}
