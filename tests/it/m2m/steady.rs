//! Tests that a call completes in each of three cases: another call is replacing a refused token,
//! another call is waiting for a token, or the runtime of an earlier call is idle.

use std::time::Duration;

use http::{Request, Response};
use tower::{Layer as _, Service as _, ServiceExt as _, limit::ConcurrencyLimitLayer, service_fn};
use tower_logto::{
    m2m::{BearerLayer, ManagementApi, TokenRequest},
    testing::ManualClock,
};

use super::support::{client_at, client_of, granted, json, logto, read, response, serve};
use crate::support::{SHOPPING_API, poll_once};

#[tokio::test]
async fn refused_token_stays_usable_until_its_successor_arrives() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let first = tokens.token(&read()).await.unwrap();
    issuer.hang();
    let caller = tokio::spawn({
        let (tokens, first) = (tokens.clone(), first.clone());
        async move { tokens.successor(&first).await }
    });
    issuer.token_requested(2).await;
    for _ in 0..100 {
        tokens.invalidate(&first);
        let fallback = poll_once(tokens.token(&read())).expect("no caller waits").unwrap();
        assert_eq!(fallback.secret(), first.secret());
    }
    issuer.recover();
    let second = caller.await.unwrap().unwrap();
    assert_ne!(second.secret(), first.secret());
    assert_eq!(tokens.token(&read()).await.unwrap().secret(), second.secret());
    assert_eq!(issuer.token_requests(), 2);
}

#[tokio::test]
async fn refused_token_is_still_returned_during_an_outage_of_logto() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let first = tokens.token(&read()).await.unwrap();
    issuer.go_down();
    tokens.successor(&first).await.unwrap_err();
    for _ in 0..50 {
        clock.advance(Duration::from_secs(60));
        assert_eq!(tokens.token(&read()).await.unwrap().secret(), first.secret());
    }
}

#[tokio::test]
async fn refused_token_is_not_reused_after_a_permanent_token_request_error() {
    for error in ["invalid_client", "access_denied"] {
        let body = format!("{{\"error\":\"{error}\"}}");
        let server = serve(move |n, _| match n {
            0 => granted("a"),
            _ => json("400 Bad Request", &body),
        });
        let tokens = client_at(&server).build().unwrap();
        let first = tokens.token(&read()).await.unwrap();
        assert_eq!(tokens.successor(&first).await.unwrap_err().code(), Some(error));
        assert_eq!(tokens.token(&read()).await.unwrap_err().code(), Some(error));
    }
}

#[tokio::test]
async fn only_a_response_that_refuses_the_token_invalidates_it() {
    for (status, name, value, requests) in [
        (401, "www-authenticate", "Basic realm=\"proxy\"", 1),
        (401, "www-authenticate", "Basic realm=\"proxy\", bearer", 2),
        (401, "x-none", "x", 2),
        (200, "grpc-status", "16", 1),
    ] {
        let clock = ManualClock::default();
        let issuer = logto(&clock).await;
        let inner = service_fn(move |_: Request<()>| {
            let response = Response::builder().status(status).header(name, value);
            std::future::ready(Ok::<_, std::io::Error>(response.body(()).unwrap()))
        });
        let mut client = BearerLayer::new(client_of(&issuer, &clock), read()).layer(inner);
        client.call(Request::new(())).await.unwrap();
        assert_eq!(issuer.token_requests(), requests, "{status} {name} {value}");
    }
}

#[tokio::test]
async fn call_that_waits_for_a_token_holds_no_concurrency_permit() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    tokens.token(&read()).await.unwrap();
    issuer.hang();
    let inner = ConcurrencyLimitLayer::new(1)
        .layer(service_fn(async |_: Request<()>| Ok::<_, std::io::Error>(Response::new(()))));
    let write = TokenRequest::resource(SHOPPING_API).scopes(["write:products"]);
    let waiting = BearerLayer::new(tokens.clone(), write).layer(inner.clone());
    let waiting = tokio::spawn(waiting.oneshot(Request::new(())));
    issuer.token_requested(2).await;
    let mut cached = BearerLayer::new(tokens, read()).layer(inner);
    let call = async { cached.ready().await.unwrap().call(Request::new(())).await };
    poll_once(call).expect("a cached token does not wait").unwrap();
    issuer.recover();
    waiting.await.unwrap().unwrap();
}

#[test]
fn management_api_works_on_a_second_runtime_while_the_first_is_idle() {
    let server = serve(|_, received| {
        if received.head.starts_with("POST /oidc/token") {
            return granted("a");
        }
        response("200 OK", "content-type: application/json\r\n", "1")
    });
    let tokens = client_at(&server).timeout(Duration::from_secs(2)).build().unwrap();
    let api = ManagementApi::new(&server.url(), tokens, read()).unwrap();
    let (first, second) = (runtime(), runtime());
    first.block_on(api.get::<u64>("/api/a")).unwrap();
    second.block_on(async {
        for _ in 0..4 {
            api.get::<u64>("/api/a").await.unwrap();
        }
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
