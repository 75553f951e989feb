//! Tests that errors, `Debug` output and log lines contain neither the client secret nor a token.

use std::error::Error;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tower_logto::{
    m2m::{BearerLayer, ClientAuthentication, ManagementApi, TokenRequest},
    testing::ManualClock,
};

use super::support::{SECRET, client_at, granted, json, read, response, serve};
use crate::support::{
    LogCapture, SECOND, SHOPPING_API, background_tasks_done, eventually,
    fixtures::captured_response, poll_once,
};

const TOKEN: &str = "eyJhbGciOiJFUzM4NCJ9.dG9wIHNlY3JldA.c2lnbmF0dXJl";

fn assert_no_leak(text: &str) {
    let basic = BASE64_STANDARD.encode(format!("app:{SECRET}"));
    for secret in [SECRET, &basic, TOKEN, "dG9wIHNlY3JldA", "c2lnbmF0dXJl"] {
        assert!(!text.contains(secret), "{secret:?} in: {text}");
    }
}

fn everything_about(error: &(dyn Error + 'static)) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(" {cause} {cause:?}");
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn failures_leak_no_secret() {
    let log = LogCapture::start_for_every_crate();

    let token = format!("{{\"access_token\":\"{TOKEN}\",\"token_type\":\"Bearer\"}}");
    let jsons = "content-type: application/json\r\n";
    let echo = |text: String| {
        let body = format!("{{\"error\":\"invalid_client\",\"error_description\":\"{text}\"}}");
        json("401 Unauthorized", &body)
    };
    let basic = BASE64_STANDARD.encode(format!("app:{SECRET}"));
    let mut responses = vec![
        Vec::new(),
        b"gibberish\r\n\r\n".to_vec(),
        // Responses that quote the request, or contain a token in an unexpected place.
        echo(format!("bad secret {SECRET}")),
        echo(format!("bad header Basic {basic}")),
        json("400 x", &format!("{{\"error\":\"{SECRET}\"}}")),
        json("400 x", &token),
        json("201 Created", &token),
        json("200 OK", &format!("\"{TOKEN}\"")),
        json("200 OK", &format!("{{\"access_token\":{{\"{TOKEN}\":1}},\"token_type\":1}}")),
        json("200 OK", &format!("{{\"access_token\":\"{TOKEN}\",\"token_type\":\"{TOKEN}\"}}")),
        json("200 OK", &token[..token.len() - 1]),
        response("200 OK", "content-type: text/html\r\n", &format!("<html>{SECRET}{TOKEN}")),
        format!("HTTP/1.1 200 OK\r\n{jsons}content-length: 9999\r\n\r\n{token}").into_bytes(),
        response("307 x", &format!("location: http://127.0.0.1:1/{SECRET}\r\n"), ""),
        // A valid response whose token lacks the required scope.
        json("200 OK", &token),
    ];
    for entry in std::fs::read_dir("tests/fixtures/logto-captures/token-endpoint").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        responses.push(captured_response(&format!("token-endpoint/{name}")));
    }
    for bytes in responses {
        let server = serve(move |_, _| bytes.clone());
        for authentication in [ClientAuthentication::Basic, ClientAuthentication::Post] {
            let verbose = || reqwest::Client::builder().connection_verbose(true);
            let builder =
                client_at(&server).authentication(authentication).http_client_builder(verbose);
            let builder = builder.clock(ManualClock::default());
            assert_no_leak(&format!("{builder:?}"));
            let tokens = builder.build().unwrap();
            let request = TokenRequest::resource(SHOPPING_API).scopes(["not:granted"]);
            let error = tokens.token(&request).await.unwrap_err();
            assert_no_leak(&everything_about(&error));
            let again = poll_once(tokens.token(&request)).expect("backed off").unwrap_err();
            assert_no_leak(&everything_about(&again));
            assert_no_leak(&format!("{tokens:?}"));
        }
    }
    background_tasks_done().await;
    let text = log.text();
    assert!(text.contains("token request failed"), "the log was captured");
    assert!(text.contains("DEBUG starting new connection"), "the log of reqwest was captured");
    assert_no_leak(&text);
}

#[tokio::test]
async fn successes_leak_no_secret() {
    let log = LogCapture::start_for_every_crate();

    let server = serve(|_, received| {
        if received.head.starts_with("POST /oidc/token") {
            return granted(TOKEN);
        }
        // The Management API of this server quotes the token in its error.
        let quoted =
            format!("{{\"code\":\"auth.unauthorized\",\"data\":{{\"token\":\"{TOKEN}\"}}}}");
        json("401 Unauthorized", &quoted)
    });
    let verbose = || reqwest::Client::builder().connection_verbose(true);
    let clock = ManualClock::default();
    let builder = client_at(&server).http_client_builder(verbose).clock(clock.clone());
    let tokens = builder.build().unwrap();
    let token = tokens.token(&read()).await.unwrap();
    assert_eq!(token.secret(), TOKEN);
    assert!(token.authorization().is_sensitive());
    assert_no_leak(&format!("{token:?} {token:#?} {:?}", token.authorization()));
    assert_no_leak(&format!("{:?}", BearerLayer::<String>::new(tokens.clone(), read())));

    let api = ManagementApi::new(&server.url(), tokens.clone(), read()).unwrap();
    let error = api.get::<u64>("/api/users/count").await.unwrap_err();
    assert_no_leak(&format!("{api:?} {}", everything_about(&error)));
    let issued = || log.text().matches("access token issued").count();
    let issued_before = issued();
    // The 401 above invalidated the first token, so the client requested a second token. For the
    // next 10 s, `invalidate` has no effect on the second token.
    clock.advance(10 * SECOND);
    tokens.invalidate(&tokens.token(&read()).await.unwrap());
    // The test cannot wait until all background tasks are done, because the connections to the
    // Management API stay open.
    eventually(|| issued() > issued_before).await;
    assert_no_leak(&log.text());
}
