//! Tests of the contract of tower's `Service` trait. The layer must call the inner service only
//! after `poll_ready` of the inner service has returned `Ready`. The layer must also work with any
//! type of body.

use std::{convert::Infallible, time::Duration};

use http::{Request, Response};
use tower::{Layer as _, Service as _, ServiceExt as _, limit::ConcurrencyLimit, service_fn};
use tower_logto::{AccessToken, AuthLayer, Require};
use tower_test::mock;

use crate::support::Harness;

/// A body type that is defined only in this test.
#[derive(Debug, Default, PartialEq)]
struct Body(&'static str);

fn request(token: Option<&str>) -> Request<Body> {
    let request = Request::builder();
    let request = match token {
        Some(token) => request.header("authorization", format!("Bearer {token}")),
        None => request,
    };
    request.body(Body("question")).unwrap()
}

#[tokio::test]
async fn refusals_do_not_use_up_the_permits_of_an_inner_concurrency_limit() {
    let harness = Harness::start().await;
    let inner = service_fn(async |request: Request<Body>| {
        assert!(request.extensions().get::<AccessToken>().is_some());
        Ok::<_, Infallible>(Response::new(Body("answer")))
    });
    let layer = AuthLayer::new(harness.validator());
    let mut service = layer.layer(ConcurrencyLimit::new(inner, 1));
    let good = harness.logto.token().build();
    // Requests without a token and requests with a valid token alternate. The layer refuses the
    // requests without a token. The first request with a valid token waits for the keys.
    for token in [None, Some(&good), None, Some(&good), None, Some(&good)] {
        let response =
            service.ready().await.unwrap().call(request(token.map(String::as_str))).await;
        let expected = if token.is_some() { Body("answer") } else { Body::default() };
        assert_eq!(response.unwrap().into_body(), expected);
    }
}

#[tokio::test]
async fn deferred_calls_use_the_inner_service_that_was_polled_ready() {
    let harness = Harness::start().await;
    let (inner, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    // A ConcurrencyLimit panics if it is called before its `poll_ready` has returned `Ready`.
    let guarded = Require::global().scopes(["a"]).layer(ConcurrencyLimit::new(inner, 2));
    let mut service = AuthLayer::new(harness.validator()).layer(guarded);
    handle.allow(2);
    harness.logto.hang();
    let token = harness.logto.token().scopes(["a"]).build();
    let first = service.ready().await.unwrap().call(request(Some(&token)));
    let second = service.ready().await.unwrap().call(request(Some(&token)));
    let (first, second) = (tokio::spawn(first), tokio::spawn(second));
    harness.logto.jwks_requested(1).await;
    harness.logto.recover();
    for _ in 0..2 {
        let (request, send) = handle.next_request().await.unwrap();
        assert_eq!(request.body(), &Body("question"));
        send.send_response(Response::new(Body("answer")));
    }
    for response in [first, second] {
        assert_eq!(response.await.unwrap().unwrap().into_body(), Body("answer"));
    }
}

#[tokio::test]
async fn readiness_and_errors_come_from_the_inner_service() {
    let harness = Harness::start().await;
    let (mut service, mut handle) =
        mock::spawn_layer::<Request<Body>, Response<Body>, _>(AuthLayer::new(harness.validator()));
    handle.allow(0);
    assert!(service.poll_ready().is_pending());
    handle.allow(1);
    assert!(service.poll_ready().is_ready());
    handle.send_error("broken");
    assert!(matches!(service.poll_ready(), std::task::Poll::Ready(Err(_))));
}

#[tokio::test]
async fn a_request_that_is_refused_synchronously_never_reaches_the_inner_service() {
    let harness = Harness::start().await;
    let (mut service, mut handle) =
        mock::spawn_layer::<Request<Body>, Response<Body>, _>(AuthLayer::new(harness.validator()));
    handle.allow(1);
    assert!(service.poll_ready().is_ready());
    let response = service.call(request(None)).await.unwrap();
    assert_eq!(response.status(), 401);
    drop(service);
    let next = tokio::time::timeout(Duration::from_secs(20), handle.next_request()).await;
    assert!(next.unwrap().is_none());
}
