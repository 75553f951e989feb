//! The token endpoint is down, slow, or breaks its connections.

use std::time::Duration;

use tower_logto::{m2m::TokenRequestErrorKind, testing::ManualClock};

use crate::support::{ended_runtime, ends};

use super::support::{Server, at_once, background_tasks_done, client_of, granted, logto, read};

#[tokio::test]
async fn nobody_notices_an_outage_until_the_token_dies() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let first = tokens.token(&read()).await.unwrap();
    clock.advance(Duration::from_secs(30 * 60));
    issuer.go_down();
    for _ in 0..30 * 60 - 1 {
        clock.advance(Duration::from_secs(1));
        let token = at_once(tokens.token(&read())).expect("no caller waits").unwrap();
        assert_eq!(token.secret(), first.secret());
        background_tasks_done().await;
    }
    clock.advance(Duration::from_secs(1));
    let error = tokens.token(&read()).await.unwrap_err();
    assert_eq!(error.kind(), TokenRequestErrorKind::UnexpectedAnswer);
    assert_eq!(error.status().unwrap(), 500);
    assert!(error.is_retryable());
    assert!(error.to_string().contains("answered 500 Internal Server Error with text/plain"));
    // It was not hammered: 250 ms doubling to 30 s in the last minute and a half.
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
async fn a_cold_client_retries_at_250_ms_doubling_to_30_s() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    issuer.go_down();
    for step in 0..10 {
        let full = Duration::from_millis(250 << step).min(Duration::from_secs(30));
        let error = tokens.token(&read()).await.unwrap_err();
        let wait = error.retry_after().unwrap();
        assert!(wait <= full && wait >= full.mul_f64(0.79), "{step}: {wait:?}");
        let at_once_again = at_once(tokens.token(&read())).expect("the last error at once");
        assert_eq!(at_once_again.unwrap_err().status().unwrap(), 500);
        clock.advance(wait);
    }
    assert_eq!(issuer.token_requests(), 10);
    issuer.recover();
    tokens.token(&read()).await.unwrap();
}

#[tokio::test]
async fn a_closed_port_is_a_connection_error() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    issuer.stop();
    let error = tokens.token(&read()).await.unwrap_err();
    assert_eq!(error.kind(), TokenRequestErrorKind::Connection);
    assert!(error.is_retryable() && !error.is_timeout());
    assert!(std::error::Error::source(&error).is_some());
    assert!(error.to_string().contains("could not be reached: \"Connection refused"), "{error}");
    issuer.start_again();
    clock.advance(Duration::from_secs(1));
    tokens.token(&read()).await.unwrap();
}

#[tokio::test]
async fn a_hanging_endpoint_is_a_timeout() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = tower_logto::m2m::TokenClient::builder(&issuer.issuer(), "app", "secret")
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
async fn a_connection_that_breaks_before_any_answer_is_tried_once_more() {
    let server = Server::start(|n, _| if n == 0 { Vec::new() } else { granted("a") }).await;
    let tokens = server.client().build().unwrap();
    tokens.token(&read()).await.unwrap();
    assert_eq!(server.received().len(), 2);

    let server = Server::start(|_, _| Vec::new()).await;
    let tokens = server.client().build().unwrap();
    let error = tokens.token(&read()).await.unwrap_err();
    assert_eq!(error.kind(), TokenRequestErrorKind::Connection);
    assert_eq!(server.received().len(), 2);
}

#[tokio::test]
async fn no_connection_is_kept_for_logto_to_close() {
    let clock = ManualClock::default();
    let server = Server::start(|n, _| granted(&format!("t{n}"))).await;
    let tokens = server.client().clock(clock.clone()).build().unwrap();
    for _ in 0..3 {
        tokens.token(&read()).await.unwrap();
        clock.advance(Duration::from_secs(3_600));
    }
    let connections =
        server.received().iter().map(|request| request.connection).collect::<Vec<_>>();
    assert_eq!(connections, [0, 1, 2]);
}

/// A program that enters its runtime now and then, or is frozen in between: nobody drives the task.
#[test]
fn a_flight_in_a_runtime_that_stands_still_keeps_nobody_from_a_token() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let clock = ManualClock::default();
    let server = runtime().block_on(Server::start(|n, _| granted(&format!("t{n}"))));
    let tokens = server.client().clock(clock.clone()).build().unwrap();
    let still = runtime();
    assert_eq!(still.block_on(tokens.token(&read())).unwrap().secret(), "t0");
    clock.advance(Duration::from_secs(3_590));
    assert_eq!(still.block_on(tokens.token(&read())).unwrap().secret(), "t0");
    clock.advance(Duration::from_secs(60));
    assert_eq!(runtime().block_on(tokens.token(&read())).unwrap().secret(), "t1");
    still.block_on(background_tasks_done());
    assert_eq!(server.received().len(), 2);
    assert_eq!(at_once(tokens.token(&read())).unwrap().unwrap().secret(), "t1");
}

/// A runtime that ends while a token is asked for: the same fault in the other half.
#[test]
fn a_token_request_that_starts_while_its_runtime_shuts_down_does_not_deadlock() {
    let issuer = tower_logto::Issuer::new("http://127.0.0.1:9/oidc").unwrap();
    let tokens = tower_logto::m2m::TokenClient::new(&issuer, "app", "app-secret").unwrap();
    let request = read();
    let handle = ended_runtime();
    assert!(ends(move || {
        let _entered = handle.enter();
        let _ = at_once(tokens.token(&request));
    }));
}
