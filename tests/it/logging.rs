//! Tests of the log messages of the layer and the validator. The tests check which texts are in the
//! log, and which texts must never be in the log.

use axum::{Router, routing::get};
use tower_logto::{
    AuthLayer, Issuer, Require, TrustedIssuer, Validator,
    testing::{Fault, TokenBuilder},
};

use crate::support::{
    HOUR, Harness, LogCapture, MINUTE, SECOND, SHOPPING_API, Server, eventually, finishes,
    log_on_every_thread,
};

#[tokio::test]
async fn refusal_is_logged_at_debug_with_advice() {
    let harness = Harness::start().await;
    let log = LogCapture::start();
    let router = Router::new()
        .route("/", get(async || ""))
        .route_layer(Require::global().scopes(["a"]))
        .route_layer(AuthLayer::new(harness.validator()));
    let server = Server::start(router).await;
    let token = || harness.token().scopes(["a"]);
    let issuer = format!("{}/", harness.logto.issuer());
    let text = |token: TokenBuilder| token.build();
    for (token, advice) in [
        (harness.logto.opaque_token(), "ask Logto for a `resource`"),
        (text(token().audience(format!("{SHOPPING_API}/"))), "mind the trailing slash"),
        (text(token().claim("iss", issuer)), "mind the trailing slash"),
        (text(harness.logto.id_token()), "is an ID token; send the access token"),
        (text(token().expired()), "compare this machine's clock with Logto's"),
        (
            text(token().claim("nbf", 9_999_999_999_u64)),
            "compare this machine's clock with Logto's",
        ),
        (text(token().organization_resource("acme")), "constructor Require::organization_"),
        (
            text(token().scopes(["b"])),
            "lacks a scope: it has \"b\", and the route requires all of a",
        ),
        (text(harness.unknown_key_token()), "no usable key with kid"),
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
async fn refusal_log_contains_the_reason_and_the_request_and_the_identity_from_a_valid_token() {
    let harness = Harness::start().await;
    let log = LogCapture::start();
    let router = Router::new()
        .route("/orgs/{org_id}/members", get(async || ""))
        .route_layer(Require::organization_in_path("org_id").scopes(["a"]));
    let server = Server::start(router.layer(AuthLayer::new(harness.validator()))).await;
    let token = || harness.token().subject("alice").client_id("web");
    for (token, fields, absent) in [
        (
            token().organization_resource("acme").build(),
            &["reason=\"wrong_organization\"", "status=403", "sub=\"alice\"", "client_id=\"web\""]
                [..],
            "secret=1",
        ),
        (
            token().organization_resource("acme").build(),
            &["organization_id=\"acme\"", "method=\"GET\"", "path=/orgs/other/members"],
            "secret=1",
        ),
        (
            token().build(),
            &["the token is for no organization, and the request is for \"other\""],
            "x",
        ),
        // If the token cannot be verified, the reason for the refusal may quote a value of the
        // token. The log contains no other text of the token.
        (token().bad_signature().build(), &["reason=\"bad_signature\"", "status=401"], "alice"),
    ] {
        log.take();
        server.get("/orgs/other/members?secret=1", &token).await;
        let logged = log.take();
        for field in fields {
            assert!(logged.contains(field), "{field}: {logged}");
        }
        assert!(!logged.contains(absent), "{logged}");
    }
}

#[tokio::test]
async fn identity_is_recorded_in_a_span_that_declares_the_fields() {
    let harness = Harness::start().await;
    let log = LogCapture::start_for_every_crate();
    let span = |request: &axum::extract::Request| match request.uri().path() {
        "/declared" => tracing::info_span!(
            "request",
            enduser.id = tracing::field::Empty,
            logto.client_id = tracing::field::Empty,
            logto.organization_id = tracing::field::Empty,
        ),
        _ => tracing::info_span!("request", other = tracing::field::Empty),
    };
    let handler = get(async || tracing::info!("handled"));
    let router = Router::new()
        .route("/declared", handler.clone())
        .route("/undeclared", handler)
        .route_layer(AuthLayer::new(harness.validator()))
        .layer(tower_http::trace::TraceLayer::new_for_http().make_span_with(span));
    let server = Server::start(router).await;
    let token = harness.token().subject("alice").client_id("web").organization_resource("acme");
    // The first request waits for the keys. For the second request, the token is in the cache.
    for path in ["/declared", "/declared", "/undeclared"] {
        log.take();
        assert_eq!(server.get(path, &token.clone().build()).await.status(), 200);
        let logged = log.take();
        let handled = logged.lines().find(|line| line.contains("handled")).unwrap();
        for field in ["enduser.id=\"alice\"", "client_id=\"web\"", "organization_id=\"acme\""] {
            assert_eq!(handled.contains(field), path == "/declared", "{field}: {handled}");
        }
    }
}

#[tokio::test]
async fn derived_validators_keep_the_log_level_of_refusals() {
    let harness = Harness::start().await;
    let log = LogCapture::start();
    let validator = harness.builder().log_refusals_at(tracing::Level::INFO).build().unwrap();
    let derived = validator.derive().trust(harness.logto.trusted(SHOPPING_API)).build().unwrap();
    for validator in [validator, derived] {
        let router = Router::new()
            .route("/", get(async || ""))
            .route_layer(Require::global().scopes(["a"]))
            .route_layer(AuthLayer::new(validator));
        let server = Server::start(router).await;
        for (token, status) in [("opaque".to_owned(), 401), (harness.token().build(), 403)] {
            log.take();
            server.get("/", &token).await;
            let logged = log.take();
            let line = logged.lines().find(|line| line.contains("request refused")).unwrap();
            assert!(
                line.contains(" INFO ") && line.contains(&format!("status={status}")),
                "{line}"
            );
        }
    }
}

#[tokio::test]
async fn untrusted_text_is_escaped_and_truncated() {
    let harness = Harness::start().await;
    let log = LogCapture::start();
    let router = Router::new().route("/", get(async || ""));
    let server = Server::start(router.route_layer(AuthLayer::new(harness.validator()))).await;
    let malicious =
        format!("x\r\nERROR forged line \u{1b}[31m\u{202e}\u{7} \"quoted\" {}", "y".repeat(5000));
    let token = || harness.token();
    for token in [
        token().kid(malicious.as_str()),
        token().typ(malicious.as_str()),
        token().header("alg", malicious.as_str()),
        token().claim("iss", malicious.as_str()),
        token().claim("aud", malicious.as_str()),
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
        assert!(!logged.contains(&"y".repeat(100)), "not truncated: {logged}");
    }
}

#[tokio::test]
async fn refresh_is_logged_at_info_and_a_failed_refresh_at_warn() {
    let harness = Harness::start().await;
    let log = LogCapture::start();
    let validator = harness.validator();
    harness.logto.go_down();
    validator.warm_up().await.unwrap_err();
    let failed = log.take();
    assert!(failed.contains("WARN") && failed.contains("500"), "{failed}");
    harness.logto.recover();
    harness.clock.advance(SECOND);
    validator.warm_up().await.unwrap();
    let refreshed = log.take();
    assert!(refreshed.contains("INFO") && refreshed.contains("JWKS refreshed"), "{refreshed}");
}

#[tokio::test]
async fn the_same_failure_is_logged_once_per_minute_and_again_after_a_recovery() {
    let harness = Harness::start().await;
    let log = LogCapture::start();
    let validator = harness.validator();
    let warnings = || log.take().matches("JWKS fetch failed; no keys were fetched yet").count();
    harness.logto.go_down();
    for _ in 0..30 {
        validator.warm_up().await.unwrap_err();
        harness.clock.advance(SECOND);
    }
    assert_eq!(warnings(), 1);
    for _ in 0..60 {
        validator.warm_up().await.unwrap_err();
        harness.clock.advance(SECOND);
    }
    assert_eq!(warnings(), 1);
    harness.logto.recover();
    validator.warm_up().await.unwrap();
    harness.logto.go_down();
    harness.clock.advance(25 * HOUR);
    validator.warm_up().await.unwrap_err();
    assert_eq!(log.take().matches("the stale keys have expired, so requests get 503").count(), 1);
}

#[tokio::test]
async fn unusable_keys_are_logged_when_the_key_set_changes() {
    let harness = Harness::start().await;
    let log = LogCapture::start();
    let validator = harness.validator();
    let keys = harness.logto.jwks().replace("\"keys\":[", "\"keys\":[{\"kty\":\"oct\"},");
    harness.logto.fault_jwks(Fault::Status(200, keys));
    for refreshes in 1..5 {
        validator.warm_up().await.unwrap();
        eventually(|| log.text().matches("JWKS refreshed").count() == refreshes).await;
        harness.clock.advance(11 * MINUTE);
    }
    assert_eq!(log.text().matches("JWK skipped").count(), 1);
}

#[tokio::test]
async fn guard_without_a_layer_is_logged_as_an_error() {
    let log = LogCapture::start();
    let router =
        Router::new().route("/", get(async || "")).route_layer(Require::global().scopes(["a"]));
    let server = Server::start(router).await;
    assert_eq!(server.request("GET", "/").send().await.unwrap().status(), 500);
    let logged = log.take();
    assert!(logged.contains("ERROR") && logged.contains("no AuthLayer around"), "{logged}");
}

#[tokio::test]
async fn plain_http_jwks_uri_is_logged_once_as_a_warning() {
    let log = LogCapture::start();
    let issuer = Issuer::logto("https://auth.example.com").unwrap();
    let trusted = TrustedIssuer::new(&issuer)
        .audience(SHOPPING_API)
        .jwks_uri("http://logto:3001/oidc/jwks")
        .dangerously_allow_http();
    // Resolves the host name `logto` to a closed port of this machine.
    let closed = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let resolve = move || reqwest::Client::builder().resolve("logto", closed).no_proxy();
    let builder = Validator::builder().trust(trusted).http_client_builder(resolve);
    let validator = builder.build().unwrap();
    assert_eq!(log.take(), "", "building a validator logs nothing");
    for _ in 0..2 {
        validator.warm_up().await.unwrap_err();
    }
    let logged = log.take();
    assert_eq!(logged.matches("plain http").count(), 1, "{logged}");
}

/// The validator must not hold a lock while it logs. If it did, a validation inside the subscriber
/// would deadlock.
#[test]
fn subscriber_may_validate_a_token_while_it_logs() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let harness = runtime.block_on(Harness::start());
    let validator = harness.validator();
    runtime.block_on(validator.warm_up()).unwrap();
    let known = harness.logto.token().lifetime(2 * HOUR).build();
    let unknown = harness.logto.token().lifetime(2 * HOUR).kid("unknown").build();
    harness.clock.advance(HOUR);
    log_on_every_thread();
    assert!(finishes(move || {
        let inside = validator.clone();
        let writer = move || {
            let _ = inside.try_validate(&unknown);
            std::io::sink()
        };
        let subscriber = tracing_subscriber::fmt().with_writer(writer).finish();
        // This thread has no runtime, so the validator cannot start the refresh that is due.
        // Instead, the validator logs an error, and this log call runs the subscriber.
        tracing::subscriber::with_default(subscriber, || {
            validator.try_validate(&known).unwrap().unwrap();
        });
    }));
}
