//! Tests of the configuration file: `--check`, and errors at startup.

use std::process::{Command, Output};

use tower_logto::testing::TestIssuer;

use crate::support::{RULES, TemporaryFile, config};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_logto-forward-auth")).args(arguments).output().unwrap()
}

#[tokio::test]
async fn check_reads_the_file_without_starting_the_server() {
    let logto = TestIssuer::start().await.unwrap();
    let file = TemporaryFile::new("toml", &config(&logto, "proxy = \"caddy\"", RULES));
    let output = run(&["--check", "--config", file.path()]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("8 rules, no mistakes"));
    assert_eq!(logto.jwks_requests(), 0);
}

#[test]
fn the_example_of_the_readme_is_valid() {
    let readme = include_str!("../../README.md");
    let example = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let file = TemporaryFile::new("toml", example);
    let output = run(&["--check", "--config", file.path()]);
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn a_wrong_file_prevents_startup_and_the_error_gives_the_line() {
    let logto = TestIssuer::start().await.unwrap();
    let good = config(&logto, "proxy = \"nginx\"", RULES);
    for (old, new, line, expected) in [
        ("any_scope", "anyscope", ":30: ", "unknown field `anyscope`"),
        ("organization = \"{org_id}\"", "organization = \"{org}\"", ":36: ", "no parameter {org}"),
        ("\"nginx\"", "nginx", ":2: ", "see the README"),
    ] {
        let file = TemporaryFile::new("toml", &good.replace(old, new));
        let output = run(&["--config", file.path()]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let place = format!("error: {}{line}", file.path());
        assert!(stderr.contains(&place) && stderr.contains(expected), "{place} {stderr}");
    }
    let output = run(&["--config", "/does/not/exist.toml"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("/does/not/exist.toml: the file cannot be read"), "{stderr}");
}
