//! Tests of the token client while the token endpoint is unavailable or slow, or closes its
//! connections without a response.

use std::time::Duration;

use tower_logto::{m2m::TokenRequestErrorKind, testing::ManualClock};

use crate::support::{background_tasks_done, finishes, poll_once, shut_down_runtime};

use super::support::{client_at, client_of, granted, logto, read, response, secret, serve};

#[tokio::test]
async fn outage_does_not_affect_callers_until_the_token_expires() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let first = tokens.token(&read()).await.unwrap();
    clock.advance(Duration::from_secs(30 * 60));
    issuer.go_down();
    for _ in 0..30 * 60 - 1 {
        clock.advance(Duration::from_secs(1));
        let token = poll_once(tokens.token(&read())).expect("no caller waits").unwrap();
        assert_eq!(token.secret(), first.secret());
        background_tasks_done().await;
    }
    clock.advance(Duration::from_secs(1));
    let error = tokens.token(&read()).await.unwrap_err();
    assert_eq!(error.kind(), TokenRequestErrorKind::UnexpectedResponse);
    assert_eq!(error.status().unwrap(), 500);
    assert!(error.is_retryable());
    assert!(error.to_string().contains("responded with 500 Internal Server Error (text/plain)"));
    // Refreshes start only in the last 90 s of the token's lifetime. A failed refresh is retried
    // after 250 ms. With each further failure, this delay doubles, up to 30 s.
    let requests = issuer.token_requests() - 1;
    assert!((5..=12).contains(&requests), "{requests}");

    background_tasks_done().await;
    issuer.recover();
    let wait = tokens.token(&read()).await.unwrap_err().retry_after().unwrap();
    println!("requests while down: {requests}, recovery after {wait:?} at the latest");
    assert!(wait <= Duration::from_secs(30));
    clock.advance(wait);
    assert_ne!(tokens.token(&read()).await.unwrap().secret(), first.secret());
}

#[tokio::test]
async fn client_without_a_token_retries_with_a_delay_that_doubles_from_250_ms_to_30_s() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    issuer.go_down();
    for step in 0..10 {
        let full = Duration::from_millis(250 << step).min(Duration::from_secs(30));
        let error = tokens.token(&read()).await.unwrap_err();
        let wait = error.retry_after().unwrap();
        assert!(wait <= full && wait >= full.mul_f64(0.79), "{step}: {wait:?}");
        let again = poll_once(tokens.token(&read())).expect("the last error");
        assert_eq!(again.unwrap_err().status().unwrap(), 500);
        clock.advance(wait);
    }
    assert_eq!(issuer.token_requests(), 10);
    issuer.recover();
    tokens.token(&read()).await.unwrap();
}

#[tokio::test]
async fn closed_port_causes_a_connection_error() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    issuer.stop();
    let error = tokens.token(&read()).await.unwrap_err();
    assert_eq!(error.kind(), TokenRequestErrorKind::Connection);
    assert!(error.is_retryable() && !error.is_timeout());
    assert!(error.to_string().contains("could not be reached: \"Connection refused"), "{error}");
    issuer.start_again();
    clock.advance(Duration::from_secs(1));
    tokens.token(&read()).await.unwrap();
}

#[tokio::test]
async fn hanging_endpoint_causes_a_timeout_error() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = tower_logto::m2m::TokenClient::builder(&issuer.issuer(), "app", secret())
        .timeout(Duration::from_millis(100))
        .clock(clock.clone())
        .build()
        .unwrap();
    issuer.hang();
    let error = tokens.token(&read()).await.unwrap_err();
    assert!(error.is_timeout() && error.is_retryable(), "{error}");
    assert!(error.to_string().contains("within 100ms"), "{error}");
}

#[tokio::test]
async fn token_request_is_retried_once_if_the_connection_breaks_without_a_response() {
    let server = serve(|n, _| if n == 0 { Vec::new() } else { granted("a") });
    let tokens = client_at(&server).build().unwrap();
    tokens.token(&read()).await.unwrap();
    assert_eq!(server.requests().len(), 2);

    let server = serve(|_, _| Vec::new());
    let tokens = client_at(&server).build().unwrap();
    let error = tokens.token(&read()).await.unwrap_err();
    assert_eq!(error.kind(), TokenRequestErrorKind::Connection);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn no_idle_connection_to_the_token_endpoint_is_kept() {
    let clock = ManualClock::default();
    let server = serve(|n, _| granted(&format!("t{n}")));
    let tokens = client_at(&server).clock(clock.clone()).build().unwrap();
    for _ in 0..3 {
        tokens.token(&read()).await.unwrap();
        clock.advance(Duration::from_secs(3_600));
    }
    let connections =
        server.requests().iter().map(|request| request.connection).collect::<Vec<_>>();
    assert_eq!(connections, [0, 1, 2]);
}

/// Some programs run their runtime only from time to time, and a program can also be suspended.
/// While the runtime does not run, nothing polls the background task of the token request.
#[test]
fn token_request_in_a_blocked_runtime_does_not_block_other_callers() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let clock = ManualClock::default();
    let server = serve(|n, _| granted(&format!("t{n}")));
    let tokens = client_at(&server).clock(clock.clone()).build().unwrap();
    let blocked = runtime();
    assert_eq!(blocked.block_on(tokens.token(&read())).unwrap().secret(), "t0");
    clock.advance(Duration::from_secs(3_590));
    assert_eq!(blocked.block_on(tokens.token(&read())).unwrap().secret(), "t0");
    clock.advance(Duration::from_secs(60));
    assert_eq!(runtime().block_on(tokens.token(&read())).unwrap().secret(), "t1");
    blocked.block_on(background_tasks_done());
    assert_eq!(server.requests().len(), 2);
    assert_eq!(poll_once(tokens.token(&read())).unwrap().unwrap().secret(), "t1");
}

/// A runtime that is shutting down drops every new task immediately.
#[test]
fn token_request_in_a_runtime_that_shuts_down_does_not_deadlock() {
    let issuer = tower_logto::Issuer::new("http://127.0.0.1:9/oidc").unwrap();
    let tokens = tower_logto::m2m::TokenClient::new(&issuer, "app", secret()).unwrap();
    let request = read();
    let handle = shut_down_runtime();
    assert!(finishes(move || {
        let _entered = handle.enter();
        let _ = poll_once(tokens.token(&request));
    }));
}

#[tokio::test]
async fn retry_after_of_a_failed_refresh_ends_when_the_cached_token_expires() {
    let clock = ManualClock::default();
    let server = serve(|n, _| match n {
        1 => response("503 Service Unavailable", "retry-after: 3600\r\n", ""),
        n => granted(&format!("t{n}")),
    });
    let tokens = client_at(&server).clock(clock.clone()).build().unwrap();
    tokens.token(&read()).await.unwrap();
    // After 3,595 s, a refresh is due, and the cached token is valid for another 5 s. The server
    // responds to the refresh with 503.
    clock.advance(Duration::from_secs(3_595));
    tokens.token(&read()).await.unwrap();
    background_tasks_done().await;
    assert_eq!(server.requests().len(), 2);
    clock.advance(Duration::from_secs(5));
    let token = tokens.token(&read()).await.unwrap();
    assert_eq!(token.secret(), "t2");
}
