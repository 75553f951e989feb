//! Faults found in review.

use std::{future::Future as _, sync::mpsc, thread, time::Duration};

use tower_logto::testing::Fault;

use crate::support::{SHOP, Stage};

/// Runs on a thread of its own, and says whether it came to an end.
fn ends(work: impl FnOnce() + Send + 'static) -> bool {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    ended.recv_timeout(Duration::from_secs(10)).is_ok()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A runtime that is shut down drops a spawned task at once, inside `spawn`: its Drop guard lands
/// the flight, and takes the lock that `start` is called with.
#[test]
fn a_refresh_that_starts_while_its_runtime_shuts_down_does_not_deadlock() {
    let outer = runtime();
    let stage = outer.block_on(Stage::set());
    let validator = stage.validator();
    let token = stage.logto.token().lifetime(Duration::from_secs(7200)).build();
    outer.block_on(validator.validate(&token)).unwrap();
    stage.clock.advance(Duration::from_secs(11 * 60));
    let ended = runtime();
    let handle = ended.handle().clone();
    drop(ended);
    assert!(ends(move || {
        let _entered = handle.enter();
        validator.try_validate(&token).unwrap().unwrap();
    }));
}

#[tokio::test]
async fn keys_that_are_fresh_for_ever_do_not_panic() {
    for _ in 0..20 {
        let stage = Stage::set().await;
        let validator = stage
            .builder()
            .keys_fresh_for(Duration::MAX)
            .keep_last_good_keys_for(Duration::MAX)
            .build()
            .unwrap();
        validator.warm_up().await.unwrap();
        let unknown = stage.logto.token().kid("nobody's").build();
        let refusal = validator.validate(&unknown).await.unwrap_err();
        assert_eq!(refusal.status(), 401);
    }
}

#[tokio::test]
async fn warm_up_goes_on_to_the_next_issuer() {
    let (down, up) = (Stage::set().await, Stage::set().await);
    let validator = tower_logto::Validator::builder()
        .issuer(down.logto.trusted(SHOP))
        .issuer(up.logto.trusted(SHOP))
        .clock(up.clock.clone())
        .build()
        .unwrap();
    down.logto.go_down();
    validator.warm_up().await.unwrap_err();
    assert!(validator.try_validate(&up.logto.token().build()).is_some());
}

/// The last failure with keys puts the next attempt up to a minute off, keys dying or not.
#[tokio::test]
async fn keys_that_died_come_back_within_a_second_of_recovery() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    let token = stage.logto.token().lifetime(Duration::from_secs(48 * 3600)).build();
    validator.validate(&token).await.unwrap();
    stage.logto.fault_jwks(Fault::Status(500, String::new()));
    let long = Duration::from_secs(48 * 3600);
    let unknown = stage.logto.token().kid("nobody's").lifetime(long).build();
    for _ in 0..8 {
        stage.clock.advance(Duration::from_secs(3 * 3600 - 1));
        let _ = validator.validate(&unknown).await;
    }
    // 24 h less 8 s have passed, and the last attempt has just failed.
    stage.clock.advance(Duration::from_secs(8));
    assert_eq!(validator.validate(&token).await.unwrap_err().status(), 503);
    stage.logto.recover();
    stage.clock.advance(Duration::from_secs(1));
    validator.validate(&token).await.unwrap();
}

/// A runtime that ends while a token is asked for: the same fault in the other half.
#[test]
fn a_token_request_that_starts_while_its_runtime_shuts_down_does_not_deadlock() {
    let issuer = tower_logto::Issuer::new("http://127.0.0.1:9/oidc").unwrap();
    let tokens = tower_logto::TokenClient::new(&issuer, "app", "app-secret").unwrap();
    let request = tower_logto::TokenRequest::resource(SHOP);
    let ended = runtime();
    let handle = ended.handle().clone();
    drop(ended);
    assert!(ends(move || {
        let _entered = handle.enter();
        let asked = std::pin::pin!(tokens.token(&request));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = asked.poll(&mut cx);
    }));
}

#[tokio::test]
async fn a_plain_http_address_is_warned_about_once() {
    #[derive(Clone, Default)]
    struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let issuer = tower_logto::Issuer::logto("https://auth.example.com").unwrap();
        let trusted = tower_logto::TrustedIssuer::new(&issuer)
            .audience(SHOP)
            .jwks_uri("http://logto:3001/oidc/jwks")
            .dangerously_allow_http(true);
        tower_logto::Validator::builder().issuer(trusted).build().unwrap();
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("plain http").count(), 1, "{log}");
}

#[test]
fn an_audience_that_can_never_match_is_refused_at_start() {
    let issuer = tower_logto::Issuer::logto("https://auth.example.com").unwrap();
    let trusted = tower_logto::TrustedIssuer::new(&issuer).audience("urn:logto:shopping");
    assert!(tower_logto::Validator::builder().issuer(trusted).build().is_err());
}

/// `iter` says that order has no meaning; `==` has to agree.
#[test]
fn the_order_of_scopes_has_no_meaning() {
    assert_eq!(tower_logto::ScopeSet::new("a b"), tower_logto::ScopeSet::new("b a"));
}

/// Keys that may be used as long as they are fresh: the jitter must not let them die first.
#[tokio::test]
async fn keys_do_not_die_before_their_refresh_is_due() {
    for _ in 0..20 {
        let stage = Stage::set().await;
        let ten_minutes = Duration::from_secs(600);
        let builder = stage.builder().keys_fresh_for(ten_minutes);
        let validator = builder.keep_last_good_keys_for(ten_minutes).build().unwrap();
        let token = stage.logto.token().lifetime(Duration::from_secs(7200)).build();
        validator.validate(&token).await.unwrap();
        stage.clock.advance(ten_minutes - Duration::from_millis(1));
        validator.try_validate(&token).unwrap().unwrap();
        // Time for a refresh, if that started one.
        let _ = tokio::time::timeout(Duration::from_secs(1), stage.logto.jwks_requested(2)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        stage.clock.advance(Duration::from_millis(1));
        assert!(validator.try_validate(&token).is_some(), "a known key does not wait");
    }
}

/// An OPTIONS that asks like a preflight, with a token that an outer layer did not see.
#[tokio::test]
async fn a_token_ends_what_a_preflight_may_do() {
    use axum::{Router, routing::any};
    use tower_logto::{AuthLayer, RequireScopes};
    let stage = Stage::set().await;
    let token = stage.logto.token().build();
    let from_cookie = axum::middleware::map_request(move |mut request: axum::extract::Request| {
        let value = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", value);
        std::future::ready(request)
    });
    let router = Router::new()
        .route("/", any(async || "secret"))
        .route_layer(RequireScopes::all(["a"]))
        .route_layer(AuthLayer::new(stage.validator()))
        .route_layer(from_cookie)
        .route_layer(AuthLayer::new(stage.validator()).allow_preflight().optional());
    let server = crate::support::Server::start(router).await;
    let asked = server
        .request("OPTIONS", "/")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "GET");
    assert_eq!(asked.send().await.unwrap().status(), 403);
}

/// A certificate that is mounted a moment later: the client is built at the next attempt.
#[tokio::test]
async fn a_client_that_could_not_be_built_is_tried_again() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let stage = Stage::set().await;
    let built = AtomicUsize::new(0);
    let make = move || match built.fetch_add(1, Ordering::Relaxed) {
        0 => reqwest::Client::builder().user_agent("no\nheader"),
        _ => reqwest::Client::builder(),
    };
    let validator = stage.builder().http_client(make).build().unwrap();
    let token = stage.logto.token().build();
    assert_eq!(validator.validate(&token).await.unwrap_err().status(), 503);
    stage.clock.advance(Duration::from_secs(1));
    validator.validate(&token).await.unwrap();
}

/// The same demand that makes `RequireScopes::all` panic at start.
#[tokio::test]
async fn no_scopes_at_all_are_no_permission() {
    let stage = Stage::set().await;
    let token = stage.validator().validate(&stage.logto.token().build()).await.unwrap();
    token.require_scopes([]).unwrap_err();
}
