//! Tests of the issuer's outages, and of starting and stopping its server.

use std::{io::ErrorKind, net::TcpStream};

use super::*;

fn refuses_connections(endpoint: &str) -> bool {
    let address = endpoint.strip_prefix("http://").unwrap();
    TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[tokio::test]
async fn validation_works_after_every_fault_ends() {
    let (issuer, validator, clock) = start().await;
    let token = issuer.token().build();
    let faults: [fn(&TestIssuer); 5] = [
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
    for (index, fault) in faults.into_iter().enumerate() {
        fault(&issuer);
        assert!(keys_are_unavailable(&validator, &token).await, "{index}");
        clock.advance(Duration::from_secs(60));
        issuer.start_again();
        issuer.recover();
    }
    assert!(validator.validate(&token).await.is_ok());
    // Five of the six validations reached the server. The other one failed because the server was
    // stopped.
    assert_eq!(issuer.jwks_requests(), 5);
}

#[tokio::test]
async fn stopped_server_refuses_connections_and_restarts_on_its_port() {
    let (issuer, ..) = start().await;
    let client = client();
    for _ in 0..3 {
        client.get(issuer.jwks_uri()).send().await.unwrap().bytes().await.unwrap();
        issuer.stop();
        issuer.stop();
        // `stop` has closed the client's idle connection, so the client cannot reuse it.
        assert!(client.get(issuer.jwks_uri()).send().await.is_err());
        assert!(refuses_connections(&issuer.endpoint()));
        issuer.start_again();
        issuer.start_again();
    }
    assert_eq!(issuer.jwks_requests(), 3);
}

#[tokio::test]
async fn hung_request_gets_its_response_on_recovery() {
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
async fn stop_closes_hung_connection() {
    let (issuer, validator, _) = start().await;
    let token = issuer.token().build();
    issuer.fault_jwks(Fault::Hang);
    let waiting = tokio::spawn(async move { keys_are_unavailable(&validator, &token).await });
    issuer.jwks_requested(1).await;
    issuer.stop();
    assert!(waiting.await.unwrap());
}

#[tokio::test]
async fn slow_response_is_accepted() {
    let (issuer, validator, _) = start().await;
    issuer.slow(Duration::from_millis(1));
    assert!(validator.validate(&issuer.token().build()).await.is_ok());
}

#[tokio::test]
async fn dropping_the_last_clone_closes_the_port() {
    let (issuer, ..) = start().await;
    let (endpoint, uri, other) = (issuer.endpoint(), issuer.jwks_uri(), issuer.clone());
    let client = client();
    drop(issuer);
    assert_eq!(client.get(&uri).send().await.unwrap().status(), 200);
    drop(other);
    assert!(refuses_connections(&endpoint));
}

#[tokio::test]
async fn start_fails_on_a_port_in_use() {
    let (issuer, ..) = start().await;
    let port = issuer.endpoint().rsplit(':').next().unwrap().parse().unwrap();
    assert!(TestIssuer::builder().port(port).start().await.is_err());
}

#[test]
fn server_outlives_the_runtime_that_started_it() {
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
fn debug_omits_secret() {
    let app = TestApp::new("reporting", "very secret").grant(SHOPPING, SCOPES);
    let shown = format!("{:?}", TestIssuer::builder().app(app));
    assert!(shown.contains("reporting") && !shown.contains("very secret"), "{shown}");
}
