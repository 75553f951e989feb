//! An identity server that fails, and comes back.

use std::{io::ErrorKind, net::TcpStream};

use super::*;

fn is_refused(endpoint: &str) -> bool {
    let address = endpoint.strip_prefix("http://").unwrap();
    TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[tokio::test]
async fn an_outage_ends() {
    let (issuer, validator, clock) = start().await;
    let token = issuer.token().build();
    type Trouble = fn(&TestIssuer);
    let troubles: [Trouble; 5] = [
        TestIssuer::go_down,
        TestIssuer::stop,
        |issuer| issuer.publish("{}"),
        |issuer| issuer.fault_jwks(Fault::Status(404, String::new())),
        |issuer| {
            let redirect = http::Response::builder()
                .status(302)
                .header(header::LOCATION, issuer.jwks_uri())
                .body(String::new());
            issuer.fault_jwks(Fault::Response(redirect.unwrap()));
        },
    ];
    for (tried, trouble) in troubles.into_iter().enumerate() {
        trouble(&issuer);
        assert!(is_unavailable(&validator, &token).await, "{tried}");
        clock.advance(Duration::from_secs(60));
        issuer.start_again();
        issuer.recover();
    }
    assert!(validator.validate(&token).await.is_ok());
    // Every time but while it was stopped.
    assert_eq!(issuer.jwks_requests(), 5);
}

#[tokio::test]
async fn a_stopped_server_refuses_connections_and_comes_back_on_its_port() {
    let (issuer, ..) = start().await;
    let client = client();
    for _ in 0..3 {
        client.get(issuer.jwks_uri()).send().await.unwrap().bytes().await.unwrap();
        issuer.stop();
        issuer.stop();
        // The client's kept connection is closed with the rest.
        assert!(client.get(issuer.jwks_uri()).send().await.is_err());
        assert!(is_refused(&issuer.endpoint()));
        issuer.start_again();
        issuer.start_again();
    }
    assert_eq!(issuer.jwks_requests(), 3);
}

#[tokio::test]
async fn a_hung_request_is_answered_on_recovery() {
    let (issuer, validator, _) = start().await;
    let token = issuer.token().build();
    issuer.hang();
    let waiting = tokio::spawn(async move { validator.validate(&token).await });
    issuer.jwks_requested(1).await;
    assert!(!waiting.is_finished());
    issuer.recover();
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_hung_connection_is_cut_by_stop() {
    let (issuer, validator, _) = start().await;
    let token = issuer.token().build();
    issuer.fault_jwks(Fault::Hang);
    let waiting = tokio::spawn(async move { is_unavailable(&validator, &token).await });
    issuer.jwks_requested(1).await;
    issuer.stop();
    assert!(waiting.await.unwrap());
}

#[tokio::test]
async fn slow_is_slow_and_right() {
    let (issuer, validator, _) = start().await;
    issuer.slow(Duration::from_millis(1));
    assert!(validator.validate(&issuer.token().build()).await.is_ok());
}

#[tokio::test]
async fn the_last_handle_closes_the_port() {
    let (issuer, ..) = start().await;
    let (endpoint, uri, other) = (issuer.endpoint(), issuer.jwks_uri(), issuer.clone());
    let client = client();
    drop(issuer);
    assert_eq!(client.get(&uri).send().await.unwrap().status(), 200);
    drop(other);
    assert!(is_refused(&endpoint));
}

#[tokio::test]
async fn a_port_can_be_chosen_once() {
    let (issuer, ..) = start().await;
    let port = issuer.endpoint().rsplit(':').next().unwrap().parse().unwrap();
    assert!(TestIssuer::builder().port(port).start().await.is_err());
}

#[test]
fn it_outlives_the_runtime_that_started_it() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    let issuer = runtime().block_on(TestIssuer::start()).unwrap();
    let validator = issuer.validator(SHOPPING).unwrap();
    let token = issuer.token().build();
    assert!(tokio::runtime::Runtime::new().unwrap().block_on(validator.validate(&token)).is_ok());
}

#[test]
fn debug_shows_no_secret() {
    let app = TestApp::new("reporting", "very secret").grant(SHOPPING, SCOPES);
    let shown = format!("{:?}", TestIssuer::builder().app(app));
    assert!(shown.contains("reporting") && !shown.contains("very secret"), "{shown}");
}
