//! A test of `--demo`.

use std::process::Command;

#[test]
fn the_demo_succeeds_and_prints_every_status() {
    let program = env!("CARGO_BIN_EXE_logto-forward-auth");
    let output = Command::new(program).arg("--demo").output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    for expected in ["200", "401", "403", "/products/../admin"] {
        assert!(stdout.contains(expected), "{expected}: {stdout}");
    }
}
