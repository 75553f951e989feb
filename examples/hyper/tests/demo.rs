//! Runs the demonstration.

use std::process::Command;

#[test]
fn every_request_of_the_demonstration_has_the_expected_result() {
    let output = Command::new(env!("CARGO_BIN_EXE_example-hyper")).arg("--demo").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for line in ["200 bread and butter for alice", "half a request: the connection is closed"] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
}
