//! Tests of every route of `examples/shopping_api`, and of the program itself.

#[path = "../../examples/shopping_api/api.rs"]
#[allow(unreachable_pub, dead_code, reason = "a file of the example")]
pub(crate) mod api;

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;
use tower_logto::{
    ProtectedResourceMetadata,
    testing::{TestApp, TestIssuer},
};

use crate::support::{SHOPPING_API, Server};

/// Requests a token in the same way as Logto's machine-to-machine quick start.
async fn fetch_token(issuer: &str, app: &str, parameters: &[(&str, &str)]) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut form = vec![("grant_type", "client_credentials")];
    form.extend(parameters);
    let answer = client
        .post(format!("{issuer}/token"))
        .basic_auth(app, Some(format!("{app}-secret")))
        .form(&form)
        .send()
        .await
        .unwrap();
    let answer: Value = answer.json().await.unwrap();
    answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[tokio::test]
async fn each_route_accepts_only_its_kinds_of_tokens() {
    let logto = TestIssuer::builder()
        .app(TestApp::new("reader", "reader-secret").grant(SHOPPING_API, ["read:products"]))
        .app(
            TestApp::new("writer", "writer-secret")
                .grant(SHOPPING_API, ["read:products", "write:products"])
                .organization("acme", ["read:members", "invite:member"])
                .organization_grant("acme", SHOPPING_API, ["read:members", "invite:member"]),
        )
        .start()
        .await
        .unwrap();
    let trusted = logto.trusted(SHOPPING_API).organizations();
    let validator = tower_logto::Validator::builder().trust(trusted).build().unwrap();
    let metadata = ProtectedResourceMetadata::new(SHOPPING_API, [&logto.issuer()]);
    let metadata = api::describe(metadata);
    let server = Server::start(api::router(validator).merge(metadata.router())).await;
    let issuer = logto.issuer().to_string();
    let products = ("scope", "read:products write:products");
    let reader = fetch_token(&issuer, "reader", &[("resource", SHOPPING_API), products]).await;
    let writer = fetch_token(&issuer, "writer", &[("resource", SHOPPING_API), products]).await;
    let organization = ("organization_id", "acme");
    let scope = ("scope", "read:members invite:member");
    let member =
        fetch_token(&issuer, "writer", &[("resource", SHOPPING_API), organization, scope]).await;
    let inviter = fetch_token(&issuer, "writer", &[organization, scope]).await;
    let callers = [None, Some(&reader), Some(&writer), Some(&member), Some(&inviter)];
    for (method, path, statuses) in [
        ("GET", "/public", [200, 200, 200, 200, 200]),
        ("GET", "/ready", [200, 200, 200, 200, 200]),
        ("GET", "/products", [401, 200, 200, 403, 403]),
        ("POST", "/products", [401, 403, 201, 403, 403]),
        ("GET", "/me", [401, 200, 200, 200, 200]),
        ("GET", "/orgs/acme/members", [401, 403, 403, 200, 403]),
        ("GET", "/orgs/evil/members", [401, 403, 403, 403, 403]),
        ("GET", "/org-permissions/acme", [401, 403, 403, 403, 200]),
        ("GET", "/org-permissions/evil", [401, 403, 403, 403, 403]),
        ("GET", "/.well-known/oauth-protected-resource", [200, 200, 200, 200, 200]),
    ] {
        for (position, (caller, status)) in callers.iter().zip(statuses).enumerate() {
            let request = server.request(method, path);
            let request = caller.iter().fold(request, |request, token| request.bearer_auth(token));
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), status, "{method} {path} by caller {position}");
        }
    }
    let me: Value = server.get("/me", &member).await.json().await.unwrap();
    assert_eq!(me["client_id"], "writer");
    assert_eq!(me["aud"], SHOPPING_API);
    assert_eq!(me["organization_id"], "acme");
}

/// Returns a command that starts the example's program. `cargo test` has built this program.
fn program() -> Command {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.parent().and_then(|deps| deps.parent()).unwrap().to_owned();
    let path: PathBuf = profile.join("examples/shopping_api");
    assert!(path.exists(), "run `cargo build --example shopping_api`: {}", path.display());
    let mut program = Command::new(path);
    let settings = ["LOGTO_ENDPOINT", "LOGTO_RESOURCE", "LOGTO_JWKS_URI", "LOGTO_ALLOW_HTTP"];
    for name in settings {
        program.env_remove(name);
    }
    program.env("PORT", "0").env("ISSUER_PORT", "0").stdout(Stdio::piped()).stderr(Stdio::piped());
    program
}

/// The running program, which stops when this value is dropped.
struct Running(Child);

impl Running {
    /// Starts the program, and reads its address from its output.
    fn start(mut program: Command) -> (Self, String, BufReader<ChildStdout>) {
        let mut child = program.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let url = line.split_whitespace().find(|word| word.starts_with("http://"));
        let url = url.unwrap_or_else(|| panic!("{line:?}")).trim_end_matches(',').to_owned();
        (Self(child), url, output)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn program_starts_without_logto_and_stops_on_sigterm() {
    let mut down = program();
    down.env("LOGTO_ENDPOINT", "http://127.0.0.1:9");
    let (mut running, url, _output) = Running::start(down);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let open = client.get(format!("{url}/public")).send().await.unwrap();
    assert_eq!(open.status(), 200);
    let ready = client.get(format!("{url}/ready")).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    let pid = running.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn printed_commands_get_the_expected_statuses() {
    let (mut running, url, mut output) = Running::start(program());
    let mut commands = String::new();
    for line in (&mut output).lines() {
        let line = line.unwrap();
        let is_last = line.contains("/me ");
        commands.push_str(&line);
        commands.push('\n');
        if is_last {
            break;
        }
    }
    let script = commands.split_once("quick start\n").unwrap().1;
    let script = script.replace("curl -i", "curl -s -o /dev/null -w '%{http_code}\\n'");
    let shell = Command::new("sh").args(["-c", &script]).output().unwrap();
    let statuses = String::from_utf8(shell.stdout).unwrap();
    assert_eq!(
        statuses.lines().collect::<Vec<_>>(),
        ["200", "401", "403", "201", "200", "200", "200"]
    );
    assert!(url.starts_with("http://127.0.0.1:"));
    running.0.kill().unwrap();
}

#[test]
fn invalid_variable_is_reported_with_exit_code_2() {
    for (name, value) in [
        ("LOGTO_ENDPOINT", "tenant.logto.app"),
        ("LOGTO_ENDPOINT", "https://tenant.logto.app/oidc"),
        ("LOGTO_ENDPOINT", "http://logto:3001"),
        ("LOGTO_RESOURCE", "two words"),
        ("LOGTO_JWKS_URI", "http://logto:3001/oidc/jwks"),
        ("LOGTO_CLOCK_TOLERANCE_SECS", "-1"),
        ("LOGTO_CLOCK_TOLERANCE_SECS", "301"),
        ("LOGTO_UNKNOWN_KEY_COOLDOWN_SECS", "0"),
        ("LOGTO_UNKNOWN_KEY_COOLDOWN_SECS", "ten"),
        ("LOGTO_ALLOW_HTTP", "yes"),
        ("PORT", "65536"),
        ("ISSUER_PORT", "x"),
    ] {
        let output = program().env(name, value).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}={value}: {message}");
        assert!(message.contains(&format!("shopping_api: {name}: ")), "{name}={value}: {message}");
    }
}

#[test]
fn logto_allow_http_permits_a_plain_http_endpoint() {
    let mut internal = program();
    internal.env("LOGTO_ENDPOINT", "http://logto:3001").env("LOGTO_ALLOW_HTTP", "1");
    let (_running, url, _output) = Running::start(internal);
    assert!(url.starts_with("http://127.0.0.1:"));
}
