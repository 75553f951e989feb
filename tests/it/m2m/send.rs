//! Tests of `TokenClient::send`, which adds a token to a request, and repeats the request once
//! after a 401.

use tower_logto::m2m::SendError;

use super::support::{client_at, granted, json, read, response, serve};
use crate::support::{RawServer, eventually, poll_once};

/// Starts a server that issues the tokens `t0`, `t1` and so on. On all paths except the token
/// endpoint, the server responds with 401 to a request whose token is in `refused`.
fn server_that_refuses(refused: &'static [&str], challenge: &'static str) -> RawServer {
    let issued = std::sync::atomic::AtomicUsize::new(0);
    serve(move |_, received| {
        if received.head.starts_with("POST /oidc/token") {
            let number = issued.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            return granted(&format!("t{number}"));
        }
        let is_refused =
            refused.iter().any(|token| received.head.contains(&format!("Bearer {token}\r\n")));
        match is_refused {
            true => response("401 Unauthorized", &format!("www-authenticate: {challenge}\r\n"), ""),
            false => json("200 OK", "{}"),
        }
    })
}

#[tokio::test]
async fn refused_request_is_sent_once_more_with_a_new_token() {
    for (refused, challenge, status, calls) in [
        (&[][..], "Bearer", 200, 1),
        (&["t0"], "Bearer", 200, 2),
        (&["t0", "t1"], "Bearer", 401, 2),
        (&["t0"], "Basic", 401, 1),
    ] {
        let server = server_that_refuses(refused, challenge);
        let tokens = client_at(&server).build().unwrap();
        let http = reqwest::Client::builder().build().unwrap();
        let request = http.post(format!("{}/orders", server.url())).body("order");
        let response = tokens.send(request, &read()).await.unwrap();
        assert_eq!(response.status(), status, "{refused:?} {challenge}");
        let sent = server.requests();
        let orders = sent.iter().filter(|received| received.head.starts_with("POST /orders"));
        assert_eq!(orders.clone().count(), calls, "{refused:?} {challenge}");
        assert!(orders.clone().all(|received| received.body == "order"));
    }
}

#[tokio::test]
async fn streamed_body_is_not_repeated() {
    let server = server_that_refuses(&["t0"], "Bearer");
    let tokens = client_at(&server).build().unwrap();
    let http = reqwest::Client::builder().build().unwrap();
    let stream = || reqwest::Body::wrap(http_body_util::Full::new(bytes::Bytes::from("order")));
    let url = format!("{}/orders", server.url());
    let response = tokens.send(http.post(&url).body(stream()), &read()).await.unwrap();
    assert_eq!(response.status(), 401);
    // Waits until the client has the new token. The next request then uses this token.
    eventually(|| {
        let token = poll_once(tokens.token(&read())).expect("no call waits").unwrap();
        token.secret() == "t1"
    })
    .await;
    let response = tokens.send(http.post(&url).body(stream()), &read()).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn error_says_whether_the_token_request_or_the_request_itself_failed() {
    let server = server_that_refuses(&[], "Bearer");
    let tokens = client_at(&server).build().unwrap();
    let http = reqwest::Client::builder().build().unwrap();
    let closed = RawServer::responding_with(|_| Vec::new());
    let url = format!("{}/orders?user=alice", closed.url());
    drop(closed);
    let error = tokens.send(http.get(&url), &read()).await.unwrap_err();
    assert!(matches!(error, SendError::Http(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("/orders failed: \"Connection refused"), "{text}");
    assert!(!text.contains("alice"), "{text}");

    let down = serve(|_, _| response("500 Oops", "", ""));
    let tokens = client_at(&down).build().unwrap();
    let error = tokens.send(http.get(&url), &read()).await.unwrap_err();
    assert!(matches!(error, SendError::Token(_)), "{error}");
}
