//! Runs the demonstration, which needs an installed `redis-server` or the variable `REDIS_URL`.

use std::process::Command;

#[test]
fn a_suspended_user_is_refused_on_every_instance_within_a_second() {
    let is_installed = Command::new("redis-server").arg("--version").output().is_ok();
    if !is_installed && std::env::var_os("REDIS_URL").is_none() {
        assert!(std::env::var_os("CI").is_none(), "redis-server is not installed");
        return println!("skipped: redis-server is not installed");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_example-revocation")).arg("--demo").output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "Both instances refuse alice's token after ",
        "a token that alice gets after the suspension: [401, 401]",
        "Every step had the expected result.",
    ] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
}
