//! What the operator reads, and what must never be in it.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, routing::get};
use tower_logto::{AuthLayer, Issuer, Require, TrustedIssuer, Validator, testing::TokenBuilder};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{SHOP, Server, Stage, ends, log_on_every_thread};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Captures what this thread logs; the tests' runtimes have one thread.
    fn capture() -> (Self, DefaultGuard) {
        log_on_every_thread();
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter("tower_logto=trace")
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        (log, guard)
    }

    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_refusal_is_logged_at_debug_with_what_to_do_about_it() {
    let stage = Stage::set().await;
    let (log, _guard) = Log::capture();
    let router = Router::new()
        .route("/", get(async || ""))
        .route_layer(Require::global().scopes(["a"]))
        .route_layer(AuthLayer::new(stage.validator()));
    let server = Server::start(router).await;
    let token = || stage.logto.token().audience(SHOP).scopes(["a"]);
    let issuer = format!("{}/", stage.logto.issuer());
    let text = |token: TokenBuilder| token.build();
    for (token, advice) in [
        (stage.logto.opaque_token(), "ask Logto for a `resource`"),
        (text(token().audience(format!("{SHOP}/"))), "mind the trailing slash"),
        (text(token().claim("iss", issuer)), "mind the trailing slash"),
        (text(stage.logto.id_token()), "is an ID token; send the access token"),
        (text(token().expired()), "compare this machine's clock with Logto's"),
        (
            text(token().claim("nbf", 9_999_999_999_u64)),
            "compare this machine's clock with Logto's",
        ),
        (text(token().organization_resource("acme")), "constructor Require::organization_"),
        (text(token().scopes(["b"])), "lacks a scope: the route requires all of a"),
        (text(token().kid("nobody's")), "no usable key with kid"),
    ] {
        log.take();
        server.get("/", &token).await;
        let logged = log.take();
        let refusal = logged.lines().find(|line| line.contains("request refused"));
        let refusal = refusal.unwrap_or_else(|| panic!("no refusal in {logged:?}"));
        assert!(refusal.contains("DEBUG") && refusal.contains(advice), "{advice}: {refusal}");
        for part in token.split('.').filter(|part| part.len() > 20) {
            assert!(!logged.contains(part), "the token is in the log: {logged}");
        }
    }
}

#[tokio::test]
async fn a_strangers_text_is_escaped_and_cut() {
    let stage = Stage::set().await;
    let (log, _guard) = Log::capture();
    let router = Router::new().route("/", get(async || ""));
    let server = Server::start(router.route_layer(AuthLayer::new(stage.validator()))).await;
    let nasty =
        format!("x\r\nERROR forged line \u{1b}[31m\u{202e}\u{7} \"quoted\" {}", "y".repeat(5000));
    let token = || stage.logto.token().audience(SHOP);
    for token in [
        token().kid(nasty.as_str()),
        token().typ(nasty.as_str()),
        token().header("alg", nasty.as_str()),
        token().claim("iss", nasty.as_str()),
        token().claim("aud", nasty.as_str()),
    ] {
        log.take();
        assert_eq!(server.get("/", &token.build()).await.status(), 401);
        let logged = log.take();
        assert!(logged.contains("x\\r\\nERROR forged line"), "{logged}");
        assert!(
            logged.chars().all(|c| c == '\n' || c == '…' || (' '..='~').contains(&c)),
            "{logged:?}"
        );
        assert!(!logged.lines().any(|line| line.starts_with("ERROR")), "{logged}");
        assert!(!logged.contains(&"y".repeat(100)), "not cut: {logged}");
    }
}

#[tokio::test]
async fn refreshes_are_logged_at_info_and_their_failures_at_warn() {
    let stage = Stage::set().await;
    let (log, _guard) = Log::capture();
    let validator = stage.validator();
    stage.logto.go_down();
    validator.warm_up().await.unwrap_err();
    let failed = log.take();
    assert!(failed.contains("WARN") && failed.contains("500"), "{failed}");
    stage.logto.recover();
    stage.clock.advance(std::time::Duration::from_secs(1));
    validator.warm_up().await.unwrap();
    let refreshed = log.take();
    assert!(refreshed.contains("INFO") && refreshed.contains("JWKS refreshed"), "{refreshed}");
}

#[tokio::test]
async fn a_wiring_mistake_is_logged_as_an_error() {
    let (log, _guard) = Log::capture();
    let router =
        Router::new().route("/", get(async || "")).route_layer(Require::global().scopes(["a"]));
    let server = Server::start(router).await;
    assert_eq!(server.request("GET", "/").send().await.unwrap().status(), 500);
    let logged = log.take();
    assert!(logged.contains("ERROR") && logged.contains("no AuthLayer around"), "{logged}");
}

#[tokio::test]
async fn a_plain_http_address_is_warned_about_once() {
    let (log, _guard) = Log::capture();
    let issuer = Issuer::logto("https://auth.example.com").unwrap();
    let trusted = TrustedIssuer::new(&issuer)
        .audience(SHOP)
        .jwks_uri("http://logto:3001/oidc/jwks")
        .dangerously_allow_http();
    Validator::builder().trust(trusted).build().unwrap();
    let logged = log.take();
    assert_eq!(logged.matches("plain http").count(), 1, "{logged}");
}

/// A subscriber may block, or validate a token itself.
#[test]
fn nothing_is_logged_under_a_lock() {
    const HOUR: Duration = Duration::from_secs(3600);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stage = runtime.block_on(Stage::set());
    let validator = stage.validator();
    runtime.block_on(validator.warm_up()).unwrap();
    let known = stage.logto.token().lifetime(2 * HOUR).build();
    let unknown = stage.logto.token().lifetime(2 * HOUR).kid("unknown").build();
    stage.clock.advance(HOUR);
    log_on_every_thread();
    assert!(ends(move || {
        let inside = validator.clone();
        let writer = move || {
            let _ = inside.try_validate(&unknown);
            std::io::sink()
        };
        let subscriber = tracing_subscriber::fmt().with_writer(writer).finish();
        // Outside a runtime, a refresh that is due is an error event and no more.
        tracing::subscriber::with_default(subscriber, || {
            validator.try_validate(&known).unwrap().unwrap();
        });
    }));
}
