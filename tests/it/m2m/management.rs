//! The Management API: errors, paging, one retry, waiting when told to.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use tower_logto::{
    m2m::{ManagementApi, ManagementErrorKind::*, TokenClient, TokenRequest},
    testing::{ManualClock, TestApp, TestIssuer},
};

use super::support::{self, Received, Server, answer, at_once, captured, granted};

#[derive(Debug, Deserialize)]
struct Item {
    id: u64,
}

/// A Logto whose Management API answers its n-th request (from 0) so.
async fn start(
    api: impl Fn(usize, &Received) -> Vec<u8> + Send + Sync + 'static,
) -> (Server, ManagementApi, ManualClock) {
    let (tokens, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let next = |counter: &AtomicUsize| counter.fetch_add(1, Ordering::Relaxed);
    let server = Server::start(move |_, received| {
        if received.head.starts_with("POST /oidc/token") {
            return granted(&format!("t{}", next(&tokens)));
        }
        api(next(&calls), received)
    })
    .await;
    let clock = ManualClock::default();
    let tokens = server.client().clock(clock.clone()).build().unwrap();
    // Without the scope: the answers above grant another one.
    let request = TokenRequest::resource("https://default.logto.app/api");
    let api = ManagementApi::new(&server.endpoint(), &tokens, request).unwrap();
    (server, api, clock)
}

fn api_calls(server: &Server) -> Vec<Received> {
    let received = server.received().into_iter();
    received.filter(|received| !received.head.starts_with("POST /oidc/token")).collect()
}

#[tokio::test]
async fn captured_errors() {
    for (file, status, code, retried, hint) in [
        ("bad-token", 401, "auth.unauthorized", true, "different resource indicators"),
        ("basic-scheme", 401, "auth.authorization_token_type_not_supported", true, ""),
        ("no-token", 401, "auth.authorization_header_missing", true, ""),
        ("noscope", 403, "auth.forbidden", false, "Logto Management API access"),
        ("wrong-aud", 401, "auth.unauthorized", true, "different resource indicators"),
    ] {
        let bytes = captured(&format!("management-api/{file}.http"));
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
async fn captured_page() {
    let bytes = captured("management-api/get-applications.http");
    let (server, api, _) = start(move |_, _| bytes.clone()).await;
    let mut pages = api.pages::<Value>("/api/applications").page_size(2);
    let mut names = Vec::new();
    while let Some(application) = pages.next().await {
        names.push(application.unwrap()["name"].as_str().unwrap().to_owned());
    }
    // The same page comes twice: it was captured once.
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

fn page_of(received: &Received, total: usize) -> Vec<u8> {
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
    answer("200 OK", &headers, &Value::from(items).to_string())
}

#[tokio::test]
async fn paging_counts_and_follows_no_link() {
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
async fn pages_shorter_than_asked_for_lose_nothing() {
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
async fn a_total_that_lies_does_not_keep_a_list_from_its_end() {
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
async fn a_list_that_is_not_paged_ends() {
    let (server, api, _) = start(|_, _| support::json("200 OK", "[{\"id\":1},{\"id\":2}]")).await;
    let mut pages = api.pages::<Item>("/api/roles");
    assert_eq!(pages.next().await.unwrap().unwrap().id, 1);
    assert_eq!(pages.next().await.unwrap().unwrap().id, 2);
    assert!(pages.next().await.is_none());
    assert_eq!(api_calls(&server).len(), 1);
}

#[tokio::test]
async fn pages_are_a_stream_too() {
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
async fn an_error_ends_the_pages_and_they_can_be_resumed() {
    let (_server, api, clock) = start(|n, received| match n {
        1 => answer("429 Too Many Requests", "retry-after: 30\r\n", ""),
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
async fn a_429_is_honoured() {
    let (server, api, clock) = start(|n, _| match n {
        0 => {
            let body = "{\"code\":\"request.rate_limited\",\"message\":\"Slow down.\"}";
            let headers = "retry-after: 60\r\ncontent-type: application/json\r\n";
            answer("429 Too Many Requests", headers, body)
        }
        _ => support::json("200 OK", "1"),
    })
    .await;
    let error = api.get::<u64>("/api/a").await.unwrap_err();
    assert_eq!(error.code(), Some("request.rate_limited"));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    clock.advance(Duration::from_secs(59));
    let error = at_once(api.get::<u64>("/api/b")).unwrap().unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    assert_eq!(api_calls(&server).len(), 1);
    clock.advance(Duration::from_secs(1));
    assert_eq!(api.get::<u64>("/api/b").await.unwrap(), 1);
}

#[tokio::test]
async fn a_retry_after_of_an_age_of_the_world_is_an_hour() {
    for seconds in [u128::from(u64::MAX), u128::MAX] {
        let headers = format!("retry-after: {seconds}\r\n");
        let (_server, api, clock) = start(move |n, _| match n {
            0 => answer("429 Too Many Requests", &headers, ""),
            _ => support::json("200 OK", "1"),
        })
        .await;
        let wait = api.get::<u64>("/api/a").await.unwrap_err().retry_after().unwrap();
        assert_eq!(wait, Duration::from_secs(3_600));
        let error = at_once(api.get::<u64>("/api/a")).unwrap().unwrap_err();
        assert_eq!(error.retry_after(), Some(wait));
        clock.advance(wait);
        assert_eq!(api.get::<u64>("/api/a").await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_401_is_tried_once_more_with_a_new_token() {
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
    // A patch takes the new token at once.
    let patched: Item = api.patch("/api/items/7", &json!({ "id": 8 })).await.unwrap();
    assert_eq!(patched.id, 8);
    assert_eq!(api_calls(&server).len(), 3);
}

#[tokio::test]
async fn answers_without_json() {
    let (server, api, _) = start(|_, received| match received.head.split(' ').next() {
        Some("DELETE") => answer("204 No Content", "", ""),
        Some("PUT") => {
            answer("201 Created", "content-type: text/plain; charset=utf-8\r\n", "Created")
        }
        _ => answer("200 OK", "content-type: text/html\r\n", "<html>"),
    })
    .await;
    api.delete("/api/users/1").await.unwrap();
    api.put::<()>("/api/users/1/roles", &json!({ "roleIds": [] })).await.unwrap();
    api.put::<IgnoredAny>("/api/users/1/roles", &json!({ "roleIds": [] })).await.unwrap();
    let error = api.get::<IgnoredAny>("/api/users").await.unwrap_err();
    assert_eq!(error.kind(), UnexpectedAnswer);
    assert!(error.to_string().contains("text/html"), "{error}");
    let calls = api_calls(&server);
    assert!(calls[1].head.to_lowercase().contains("content-type: application/json"));
    assert_eq!(calls[1].body, "{\"roleIds\":[]}");
}

#[tokio::test]
async fn what_is_no_answer_of_logtos_is_told() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n["
        .to_vec();
    let huge = "x".repeat(17 * 1024 * 1024);
    for (bytes, kind, what) in [
        (
            support::json("200 OK", "{\"id\":\"secret text\"}"),
            UnexpectedAnswer,
            "a value has the wrong type (line 1",
        ),
        (support::json("200 OK", "{}"), UnexpectedAnswer, "the field \"id\" is missing"),
        (support::json("200 OK", "{\"id\":"), UnexpectedAnswer, "breaks off"),
        (support::json("200 OK", &huge), UnexpectedAnswer, "more than"),
        (
            answer("502 Bad Gateway", "content-type: text/html\r\n", "<html>"),
            UnexpectedAnswer,
            "502",
        ),
        (answer("308 x", "location: http://127.0.0.1:1/\r\n", ""), UnexpectedAnswer, "redirects"),
        (
            answer("404 Not Found", "content-type: text/plain\r\n", "Not Found"),
            UnexpectedAnswer,
            "endpoint",
        ),
        (support::json("400 x", "[\"a.code\",null,null]"), UnexpectedAnswer, "400"),
        (cut, Connection, "breaks off: \"end of file"),
        (Vec::new(), Connection, "no answer: \"connection closed"),
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
async fn a_broken_connection_repeats_only_what_may_be_repeated() {
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
async fn whom_a_query_names_stands_in_no_error() {
    let (_server, api, _) = start(|_, _| Vec::new()).await;
    let error = api.get::<Value>("/api/users?search=alice").await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    let text = format!("{error} {error:?} {source} {source:?}");
    assert!(text.contains("/api/users") && !text.contains("alice"), "{text}");
}

#[tokio::test]
async fn connections_are_kept_for_the_next_page() {
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
async fn without_a_token_nothing_is_asked() {
    let server = Server::start(|_, _| captured("token-endpoint/wrong-secret-basic.http")).await;
    let tokens = server.client().build().unwrap();
    let request = TokenRequest::self_hosted_management_api();
    let api = ManagementApi::new(&server.endpoint(), &tokens, request).unwrap();
    let error = api.get::<Value>("/api/applications").await.unwrap_err();
    assert_eq!(error.kind(), Token);
    assert_eq!(error.token_error().unwrap().error(), Some("invalid_client"));
    assert!(error.to_string().contains("the app secret is wrong"), "{error}");
    assert!(error.retry_after().is_some());
    assert!(api_calls(&server).is_empty());
}

#[tokio::test]
async fn the_test_kits_management_api_is_guarded_by_this_crate() {
    let clock = ManualClock::default();
    let mut builder = TestIssuer::builder().clock(clock.clone());
    for n in 0..45 {
        builder = builder.app(TestApp::new(format!("app{n}"), "a secret"));
    }
    let admin = TestApp::new("admin", "a secret").grant(TestIssuer::MANAGEMENT_API, ["all"]);
    let issuer = builder.app(admin).start().await.unwrap();
    let client = |id: &str| {
        TokenClient::builder(&issuer.issuer(), id, "a secret").clock(clock.clone()).build().unwrap()
    };
    let request = TokenRequest::self_hosted_management_api();
    let api = ManagementApi::new(&issuer.endpoint(), &client("admin"), request).unwrap();
    let mut pages = api.pages::<Value>("/api/applications").page_size(20);
    let mut ids = Vec::new();
    while let Some(application) = pages.next().await {
        ids.push(application.unwrap()["id"].as_str().unwrap().to_owned());
    }
    assert_eq!((ids.len(), &*ids[45], pages.total()), (46, "admin", Some(46)));
    let error = api.get::<Value>("/api/applications?page=0").await.unwrap_err();
    assert_eq!(error.code(), Some("guard.invalid_pagination"));

    // An app without the role: Logto gives a token all the same, without the scope.
    let request = TokenRequest::resource(TestIssuer::MANAGEMENT_API).optional_scopes(["all"]);
    let api = ManagementApi::new(&issuer.endpoint(), &client("app0"), request).unwrap();
    let error = api.get::<Value>("/api/applications").await.unwrap_err();
    assert_eq!((error.status().unwrap().as_u16(), error.code()), (403, Some("auth.forbidden")));
    let required = TokenRequest::self_hosted_management_api();
    let api = ManagementApi::new(&issuer.endpoint(), &client("app0"), required).unwrap();
    let error = api.get::<Value>("/api/applications").await.unwrap_err();
    assert!(error.token_error().unwrap().hint().unwrap().contains("Management API access"));

    let naked = reqwest::Client::builder().no_proxy().build().unwrap();
    let naked = naked.get(format!("{}/api/applications", issuer.endpoint())).send().await.unwrap();
    assert_eq!(naked.status(), 401);
    let body: Value = naked.json().await.unwrap();
    assert_eq!(body["code"], "auth.authorization_header_missing");
}
