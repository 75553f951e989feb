//! Tests of `ManagementApi`: errors, paging, the retry after a `401`, and the pause after a `429`.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use tower_logto::{
    m2m::{ClientSecret, ManagementApi, ManagementErrorKind::*, TokenClient, TokenRequest},
    testing::{ManualClock, TestApp, TestIssuer},
};

use super::support::{self, client_at, granted, response, serve};
use crate::support::{RawServer, ReceivedRequest, fixtures::captured_response, poll_once};

#[derive(Debug, Deserialize)]
struct Item {
    id: u64,
}

/// Starts a server with a token endpoint and a Management API. The Management API responds with the
/// bytes that `api` returns. The first argument of `api` is the index of the call, starting at 0.
async fn start(
    api: impl Fn(usize, &ReceivedRequest) -> Vec<u8> + Send + Sync + 'static,
) -> (RawServer, ManagementApi, ManualClock) {
    let (tokens, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let next = |counter: &AtomicUsize| counter.fetch_add(1, Ordering::Relaxed);
    let server = serve(move |_, received| {
        if received.head.starts_with("POST /oidc/token") {
            return granted(&format!("t{}", next(&tokens)));
        }
        api(next(&calls), received)
    });
    let clock = ManualClock::default();
    let tokens = client_at(&server).clock(clock.clone()).build().unwrap();
    // The token endpoint above grants only the scope `read:products`. A request from
    // `TokenRequest::management_api` requires the scope `all`, and would therefore fail here.
    let request = TokenRequest::resource("https://default.logto.app/api");
    let api = ManagementApi::new(&server.url(), tokens, request).unwrap();
    (server, api, clock)
}

fn api_calls(server: &RawServer) -> Vec<ReceivedRequest> {
    let received = server.requests().into_iter();
    received.filter(|received| !received.head.starts_with("POST /oidc/token")).collect()
}

#[tokio::test]
async fn captured_errors_have_a_code_and_a_hint() {
    for (file, status, code, retried, hint) in [
        ("bad-token", 401, "auth.unauthorized", true, "different resource indicators"),
        ("basic-scheme", 401, "auth.authorization_token_type_not_supported", true, ""),
        ("no-token", 401, "auth.authorization_header_missing", true, ""),
        ("noscope", 403, "auth.forbidden", false, "Logto Management API access"),
        ("wrong-aud", 401, "auth.unauthorized", true, "different resource indicators"),
    ] {
        let bytes = captured_response(&format!("management-api/{file}.http"));
        let (server, api, _) = start(move |_, _| bytes.clone()).await;
        let error = api.get::<Value>("/api/applications").await.unwrap_err();
        assert_eq!(error.kind(), Refused, "{file}");
        assert_eq!(error.status().unwrap(), status);
        assert_eq!(error.code(), Some(code));
        assert!(error.message().is_some_and(|message| message.ends_with('.')));
        assert!(error.to_string().contains(hint), "{error}");
        assert!(!error.is_retryable() && !error.is_timeout());
        assert_eq!(api_calls(&server).len(), if retried { 2 } else { 1 }, "{file}");
        if file == "wrong-aud" {
            assert_eq!(error.data::<Value>().unwrap()["claim"], "aud");
        }
        println!("{error}");
    }
}

#[tokio::test]
async fn captured_pages_are_read_until_the_total_is_reached() {
    let bytes = captured_response("management-api/get-applications.http");
    let (server, api, _) = start(move |_, _| bytes.clone()).await;
    let mut pages = api.pages::<Value>("/api/applications").page_size(2);
    let mut names = Vec::new();
    while let Some(application) = pages.next().await {
        names.push(application.unwrap()["name"].as_str().unwrap().to_owned());
    }
    // The server sends the same captured page in response to both calls.
    assert_eq!(names, ["m2m-none", "m2m-mgmt", "m2m-none", "m2m-mgmt"]);
    assert_eq!(pages.total(), Some(4));
    let calls = api_calls(&server);
    let lines = calls.iter().map(|call| call.head.lines().next().unwrap()).collect::<Vec<_>>();
    assert_eq!(
        lines,
        [
            "GET /api/applications?page=1&page_size=2 HTTP/1.1",
            "GET /api/applications?page=2&page_size=2 HTTP/1.1"
        ]
    );
    assert!(calls.iter().all(|call| call.head.to_lowercase().contains("authorization: bearer t0")));
}

fn page_of(received: &ReceivedRequest, total: usize) -> Vec<u8> {
    let query = received.head.split(['?', ' ']).nth(2).unwrap();
    let number = |name: &str| {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        value.unwrap().parse::<usize>().unwrap()
    };
    let (page, size) = (number("page"), number("page_size"));
    let ids = (page - 1) * size..(page * size).min(total);
    let items = ids.map(|id| json!({ "id": id })).collect::<Vec<_>>();
    let headers = format!(
        "content-type: application/json; charset=utf-8\r\nTotal-Number: {total}\r\n\
         Link: <http://127.0.0.1:1/users?page=2>; rel=\"next\"\r\n"
    );
    response("200 OK", &headers, &Value::from(items).to_string())
}

#[tokio::test]
async fn paging_ends_at_the_total_count_and_follows_no_link() {
    for (total, calls) in [(0, 1), (1, 1), (100, 1), (101, 2), (250, 3)] {
        let (server, api, _) = start(move |_, received| page_of(received, total)).await;
        let mut pages = api.pages::<Item>("/api/users?search=%25a%25");
        let mut ids = Vec::new();
        while let Some(item) = pages.next().await {
            ids.push(item.unwrap().id);
        }
        assert_eq!(ids, (0..total as u64).collect::<Vec<_>>());
        assert!(pages.next().await.is_none());
        assert_eq!(api_calls(&server).len(), calls, "{total}");
        assert!(api_calls(&server)[0].head.contains("?search=%25a%25&page=1&page_size=100 "));
    }
}

#[tokio::test]
async fn list_with_pages_shorter_than_requested_is_complete() {
    let (server, api, _) = start(|_, received| {
        let mut received = received.clone();
        received.head = received.head.replace("page_size=100", "page_size=20");
        page_of(&received, 50)
    })
    .await;
    let mut pages = api.pages::<Item>("/api/users");
    let mut ids = Vec::new();
    while let Some(item) = pages.next().await {
        ids.push(item.unwrap().id);
    }
    assert_eq!(ids, (0..50).collect::<Vec<_>>());
    assert_eq!(api_calls(&server).len(), 3);
}

#[tokio::test]
async fn list_ends_at_an_empty_page_despite_a_wrong_total() {
    let (server, api, _) = start(|_, received| {
        let page = String::from_utf8(page_of(received, 150)).unwrap();
        page.replace("Total-Number: 150", "Total-Number: 18446744073709551615").into_bytes()
    })
    .await;
    let mut pages = api.pages::<Item>("/api/users");
    let mut count = 0;
    while let Some(item) = pages.next().await {
        assert_eq!(item.unwrap().id, count);
        count += 1;
    }
    assert_eq!((count, api_calls(&server).len()), (150, 3));
}

#[tokio::test]
async fn list_without_a_total_is_one_page() {
    let (server, api, _) = start(|_, _| support::json("200 OK", "[{\"id\":1},{\"id\":2}]")).await;
    let mut pages = api.pages::<Item>("/api/roles");
    assert_eq!(pages.next().await.unwrap().unwrap().id, 1);
    assert_eq!(pages.next().await.unwrap().unwrap().id, 2);
    assert!(pages.next().await.is_none());
    assert_eq!(api_calls(&server).len(), 1);
}

#[tokio::test]
async fn pages_implement_stream() {
    use std::pin::pin;
    let (_server, api, _) = start(|_, received| page_of(received, 150)).await;
    let mut stream = pin!(api.pages::<Item>("/api/users"));
    let mut count = 0;
    while let Some(item) =
        std::future::poll_fn(|cx| futures_core::Stream::poll_next(stream.as_mut(), cx)).await
    {
        assert_eq!(item.unwrap().id, count);
        count += 1;
    }
    assert_eq!(count, 150);
}

#[tokio::test]
async fn list_can_be_resumed_after_an_error() {
    let (_server, api, clock) = start(|n, received| match n {
        1 => response("429 Too Many Requests", "retry-after: 30\r\n", ""),
        _ => page_of(received, 150),
    })
    .await;
    let mut pages = api.pages::<Item>("/api/users");
    for id in 0..100 {
        assert_eq!(pages.next().await.unwrap().unwrap().id, id);
    }
    let error = pages.next().await.unwrap().unwrap_err();
    assert!(error.is_retryable());
    assert!(pages.next().await.is_none());
    clock.advance(error.retry_after().unwrap());
    pages.resume();
    assert_eq!(pages.next().await.unwrap().unwrap().id, 100);
}

#[tokio::test]
async fn calls_fail_immediately_until_the_retry_after_time_of_a_429_has_passed() {
    let (server, api, clock) = start(|n, _| match n {
        0 => {
            let body = "{\"code\":\"request.rate_limited\",\"message\":\"Slow down.\"}";
            let headers = "retry-after: 60\r\ncontent-type: application/json\r\n";
            response("429 Too Many Requests", headers, body)
        }
        _ => support::json("200 OK", "1"),
    })
    .await;
    let error = api.get::<u64>("/api/a").await.unwrap_err();
    assert_eq!(error.code(), Some("request.rate_limited"));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    clock.advance(Duration::from_secs(59));
    let error = poll_once(api.get::<u64>("/api/b")).unwrap().unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    assert_eq!(api_calls(&server).len(), 1);
    clock.advance(Duration::from_secs(1));
    assert_eq!(api.get::<u64>("/api/b").await.unwrap(), 1);
}

#[tokio::test]
async fn huge_retry_after_is_limited_to_two_minutes() {
    for seconds in [u128::from(u64::MAX), u128::MAX] {
        let headers = format!("retry-after: {seconds}\r\n");
        let (_server, api, clock) = start(move |n, _| match n {
            0 => response("429 Too Many Requests", &headers, ""),
            _ => support::json("200 OK", "1"),
        })
        .await;
        let wait = api.get::<u64>("/api/a").await.unwrap_err().retry_after().unwrap();
        assert_eq!(wait, Duration::from_secs(120));
        let error = poll_once(api.get::<u64>("/api/a")).unwrap().unwrap_err();
        assert_eq!(error.retry_after(), Some(wait));
        clock.advance(wait);
        assert_eq!(api.get::<u64>("/api/a").await.unwrap(), 1);
    }
}

#[tokio::test]
async fn call_is_retried_once_with_a_new_token_after_a_401() {
    let (server, api, _) = start(|_, received| {
        if received.head.to_lowercase().contains("bearer t0") {
            return support::json("401 Unauthorized", "{\"code\":\"auth.unauthorized\"}");
        }
        support::json("201 Created", &received.body)
    })
    .await;
    let created: Item = api.post("/api/items", &json!({ "id": 7 })).await.unwrap();
    assert_eq!(created.id, 7);
    assert_eq!(api_calls(&server).len(), 2);
    // The next call uses the new token in its first attempt.
    let patched: Item = api.patch("/api/items/7", &json!({ "id": 8 })).await.unwrap();
    assert_eq!(patched.id, 8);
    assert_eq!(api_calls(&server).len(), 3);
}

#[tokio::test]
async fn response_without_json_is_read_as_null_or_is_an_error() {
    let (server, api, _) = start(|_, received| match received.head.split(' ').next() {
        Some("DELETE") => response("204 No Content", "", ""),
        Some("PUT") => {
            response("201 Created", "content-type: text/plain; charset=utf-8\r\n", "Created")
        }
        _ => response("200 OK", "content-type: text/html\r\n", "<html>"),
    })
    .await;
    api.delete("/api/users/1").await.unwrap();
    api.put::<()>("/api/users/1/roles", &json!({ "roleIds": [] })).await.unwrap();
    api.put::<IgnoredAny>("/api/users/1/roles", &json!({ "roleIds": [] })).await.unwrap();
    let error = api.get::<IgnoredAny>("/api/users").await.unwrap_err();
    assert_eq!(error.kind(), UnexpectedResponse);
    assert!(error.to_string().contains("text/html"), "{error}");
    let calls = api_calls(&server);
    assert!(calls[1].head.to_lowercase().contains("content-type: application/json"));
    assert_eq!(calls[1].body, "{\"roleIds\":[]}");
}

#[tokio::test]
async fn error_describes_a_response_that_does_not_come_from_logto() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n["
        .to_vec();
    let huge = "x".repeat(17 * 1024 * 1024);
    for (bytes, kind, what) in [
        (
            support::json("200 OK", "{\"id\":\"secret text\"}"),
            UnexpectedResponse,
            "a value has the wrong type (line 1",
        ),
        (support::json("200 OK", "{}"), UnexpectedResponse, "the field \"id\""),
        (support::json("200 OK", "{\"id\":"), UnexpectedResponse, "the JSON is truncated"),
        (support::json("200 OK", &huge), UnexpectedResponse, "exceeds 16777216 bytes"),
        (
            response("502 Bad Gateway", "content-type: text/html\r\n", "<html>"),
            UnexpectedResponse,
            "502",
        ),
        (
            response("308 x", "location: http://127.0.0.1:1/\r\n", ""),
            UnexpectedResponse,
            "redirects",
        ),
        (
            response("404 Not Found", "content-type: text/plain\r\n", "Not Found"),
            UnexpectedResponse,
            "endpoint",
        ),
        (support::json("400 x", "[\"a.code\",null,null]"), UnexpectedResponse, "400"),
        (cut, Connection, "incomplete body: \"end of file"),
        (Vec::new(), Connection, "no response: \"connection closed"),
    ] {
        let (_server, api, _) = start(move |_, _| bytes.clone()).await;
        let error = api.get::<Item>("/api/items/1").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(what), "{what}: {error}");
        assert!(error.to_string().starts_with("GET /api/items/1"), "which call it was: {error}");
        assert!(!format!("{error} {error:?}").contains("secret text"), "{error:?}");
    }
}

#[tokio::test]
async fn only_idempotent_calls_are_retried_after_a_broken_connection() {
    let (server, api, _) = start(|n, _| match n {
        0 => Vec::new(),
        _ => support::json("200 OK", "1"),
    })
    .await;
    assert_eq!(api.get::<u64>("/api/a").await.unwrap(), 1);
    assert_eq!(api_calls(&server).len(), 2);

    let (server, api, _) = start(|_, _| Vec::new()).await;
    let error = api.post::<u64>("/api/a", &1).await.unwrap_err();
    assert_eq!(error.kind(), Connection);
    assert_eq!(api_calls(&server).len(), 1);
}

#[tokio::test]
async fn query_does_not_appear_in_errors() {
    let (_server, api, _) = start(|_, _| Vec::new()).await;
    let error = api.get::<Value>("/api/users?search=alice").await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("/api/users") && !text.contains("alice"), "{text}");
}

#[tokio::test]
async fn connection_is_reused_for_the_next_page() {
    let (server, api, _) = start(|_, received| page_of(received, 500)).await;
    let mut pages = api.pages::<Item>("/api/users");
    while let Some(item) = pages.next().await {
        item.unwrap();
    }
    let calls = api_calls(&server);
    assert_eq!(calls.len(), 5);
    assert!(calls.iter().all(|call| call.connection == calls[0].connection));
}

#[tokio::test]
async fn management_api_call_is_not_sent_if_no_token_can_be_obtained() {
    let server = serve(|_, _| captured_response("token-endpoint/wrong-secret-basic.http"));
    let tokens = client_at(&server).build().unwrap();
    let request = TokenRequest::self_hosted_management_api();
    let api = ManagementApi::new(&server.url(), tokens, request).unwrap();
    let error = api.get::<Value>("/api/applications").await.unwrap_err();
    assert_eq!(error.kind(), Token);
    assert_eq!(error.token_error().unwrap().code(), Some("invalid_client"));
    assert!(error.to_string().contains("the app secret is wrong"), "{error}");
    assert!(error.retry_after().is_some());
    assert!(api_calls(&server).is_empty());
}

#[tokio::test]
async fn management_api_of_the_test_kit_checks_tokens() {
    let clock = ManualClock::default();
    let mut builder = TestIssuer::builder().clock(clock.clone());
    for n in 0..45 {
        builder = builder.app(TestApp::new(format!("app{n}"), "a secret"));
    }
    let admin = TestApp::new("admin", "a secret").grant(TestIssuer::MANAGEMENT_API, ["all"]);
    let issuer = builder.app(admin).start().await.unwrap();
    let client = |id: &str| {
        let secret = ClientSecret::new("a secret");
        TokenClient::builder(&issuer.issuer(), id, secret).clock(clock.clone()).build().unwrap()
    };
    let request = TokenRequest::self_hosted_management_api();
    let api = ManagementApi::new(&issuer.endpoint(), client("admin"), request).unwrap();
    let mut pages = api.pages::<Value>("/api/applications").page_size(20);
    let mut ids = Vec::new();
    while let Some(application) = pages.next().await {
        ids.push(application.unwrap()["id"].as_str().unwrap().to_owned());
    }
    assert_eq!((ids.len(), &*ids[45], pages.total()), (46, "admin", Some(46)));
    let error = api.get::<Value>("/api/applications?page=0").await.unwrap_err();
    assert_eq!(error.code(), Some("guard.invalid_pagination"));

    // If an application lacks the Management API role, Logto still issues a token, but without the
    // scope `all`.
    let request = TokenRequest::resource(TestIssuer::MANAGEMENT_API).optional_scopes(["all"]);
    let api = ManagementApi::new(&issuer.endpoint(), client("app0"), request).unwrap();
    let error = api.get::<Value>("/api/applications").await.unwrap_err();
    assert_eq!((error.status().unwrap().as_u16(), error.code()), (403, Some("auth.forbidden")));
    let required = TokenRequest::self_hosted_management_api();
    let api = ManagementApi::new(&issuer.endpoint(), client("app0"), required).unwrap();
    let error = api.get::<Value>("/api/applications").await.unwrap_err();
    assert!(error.token_error().unwrap().hint().unwrap().contains("Management API access"));

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response =
        client.get(format!("{}/api/applications", issuer.endpoint())).send().await.unwrap();
    assert_eq!(response.status(), 401);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["code"], "auth.authorization_header_missing");
}
