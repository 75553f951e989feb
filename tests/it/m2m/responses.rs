//! Tests of the token client with responses that were captured from a real Logto server, and with
//! responses that do not come from Logto.

use std::{fmt::Write as _, time::Duration};

use tower_logto::m2m::{TokenRequest, TokenRequestErrorKind::*};

use super::support::{client_at, json, read, response, serve};
use crate::support::{SHOPPING_API, fixtures::captured_response};

#[tokio::test]
async fn captured_token_responses_yield_tokens() {
    let read_write =
        TokenRequest::resource(SHOPPING_API).scopes(["read:products", "write:products"]);
    let optional =
        TokenRequest::resource(SHOPPING_API).optional_scopes(["read:products", "write:products"]);
    for (file, request, scope) in [
        ("ok-c-both-basic", read_write, "read:products write:products"),
        ("ok-e-org-noscope", TokenRequest::organization("psx3zwj0stjw"), ""),
        ("scope-not-granted", optional.clone(), "read:products"),
        ("scope-only-ungranted", optional, ""),
    ] {
        let bytes = captured_response(&format!("token-endpoint/{file}.http"));
        let server = serve(move |_, _| bytes.clone());
        let clock = tower_logto::testing::ManualClock::default();
        let tokens = client_at(&server).clock(clock).build().unwrap();
        let token = tokens.token(&request).await.unwrap();
        assert!(token.secret().starts_with("eyJhbGciOiJFUzM4NCIs"), "{file}");
        assert_eq!(token.scopes().as_str(), scope, "{file}");
        let expires_at = std::time::UNIX_EPOCH + Duration::from_secs(1_795_342_800 + 3_600);
        assert_eq!(token.expires_at(), expires_at, "{file}");
    }
}

#[tokio::test]
async fn captured_refusals_have_a_code_and_a_hint() {
    let organization = TokenRequest::organization("r8p57sfo1tou");
    for (file, request, status, code, description, hint) in [
        ("basic-and-post", read(), 400, "invalid_request", "one mechanism", "sent twice"),
        ("client-id-only", read(), 401, "invalid_client", "authentication failed", "secret"),
        ("custom-claims-deny", read(), 400, "access_denied", "nope", "custom-claims script"),
        ("grant-authcode", read(), 400, "invalid_request", "grant type", "machine-to-machine"),
        ("no-auth", read(), 400, "invalid_request", "no client authentication", ""),
        ("org-not-member", organization, 403, "access_denied", "not associated", "not a member"),
        ("resource-empty", read(), 400, "invalid_target", "not provided", "trailing slash"),
        ("resource-not-uri", read(), 400, "invalid_target", "absolute URI", "an absolute URI"),
        ("secret-expired", read(), 400, "invalid_request", "expired", "create a new secret"),
        ("unknown-client", read(), 400, "invalid_client", "nonexistent", "no app with this id"),
        ("unknown-resource", read(), 400, "invalid_target", "unknown", "mind the trailing slash"),
        ("wrong-secret-basic", read(), 401, "invalid_client", "failed", "secret is wrong"),
        ("wrong-secret-post", read(), 401, "invalid_client", "failed", "secret is wrong"),
    ] {
        let bytes = captured_response(&format!("token-endpoint/{file}.http"));
        let server = serve(move |_, _| bytes.clone());
        let error = client_at(&server).build().unwrap().token(&request).await.unwrap_err();
        assert_eq!(error.kind(), Refused, "{file}");
        assert_eq!(error.status().unwrap(), status, "{file}");
        assert_eq!(error.code(), Some(code), "{file}");
        assert!(error.description().unwrap().contains(description), "{file}: {error}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{file}: {error}");
        assert!(!error.is_retryable(), "{file}");
        println!("{error}");
    }
}

#[tokio::test]
async fn captured_response_without_a_required_scope_is_an_error() {
    for (file, missing) in [
        ("scope-not-granted", &["write:products"][..]),
        ("scope-only-ungranted", &["read:products", "write:products"]),
    ] {
        let bytes = captured_response(&format!("token-endpoint/{file}.http"));
        let server = serve(move |_, _| bytes.clone());
        let request =
            TokenRequest::resource(SHOPPING_API).scopes(["read:products", "write:products"]);
        let error = client_at(&server).build().unwrap().token(&request).await.unwrap_err();
        assert_eq!(error.kind(), MissingScopes);
        assert_eq!(error.missing_scopes().collect::<Vec<_>>(), missing);
    }
}

#[tokio::test]
async fn error_of_a_captured_outage_is_retryable() {
    let bytes = captured_response("token-endpoint/db-down-1.http");
    let server = serve(move |_, _| bytes.clone());
    let error = client_at(&server).build().unwrap().token(&read()).await.unwrap_err();
    assert_eq!((error.kind(), error.status().unwrap().as_u16()), (UnexpectedResponse, 500));
    assert!(error.is_retryable());
    assert!(
        error
            .to_string()
            .contains("500 Internal Server Error (text/plain): the body is not an OAuth error"),
        "{error}"
    );
}

#[tokio::test]
async fn error_describes_a_response_that_is_not_a_token_response() {
    let html = "content-type: text/html\r\n";
    let jsons = "content-type: application/json\r\n";
    let mut huge = String::from("{\"access_token\":\"");
    (0..10 * 1024).for_each(|_| huge.write_str(&"x".repeat(1024)).unwrap());
    let token = "{\"access_token\":\"eyJhbGciOi\",\"token_type\":\"Bearer\",\"expires_in\":60}";
    let cut = |length: usize, body: &str| {
        format!("HTTP/1.1 200 OK\r\n{jsons}content-length: {length}\r\n\r\n{body}").into_bytes()
    };
    for (bytes, kind, retryable, what) in [
        (
            response("200 OK", html, "<html>"),
            UnexpectedResponse,
            true,
            "(text/html): the body is not JSON; is there a proxy",
        ),
        (response("200 OK", jsons, ""), UnexpectedResponse, true, "the JSON is truncated"),
        (
            response("200 OK", jsons, &token[..40]),
            UnexpectedResponse,
            true,
            "the JSON is truncated",
        ),
        (response("200 OK", jsons, "[1]"), UnexpectedResponse, true, "not a token response"),
        (response("201 Created", jsons, token), UnexpectedResponse, true, "201 Created"),
        (
            response("200 OK", jsons, &token.replace("Bearer", "DPoP")),
            UnexpectedResponse,
            true,
            "Bearer",
        ),
        (response("200 OK", jsons, &huge), UnexpectedResponse, true, "exceeds 262144 bytes"),
        (response("500 Oops", jsons, &huge), UnexpectedResponse, true, "exceeds 262144 bytes"),
        (cut(5_000, token), Connection, true, "incomplete body: "),
        (
            response("502 Bad Gateway", html, "<html>"),
            UnexpectedResponse,
            true,
            "502 Bad Gateway (text/html)",
        ),
        (
            response("404 Not Found", html, "<html>"),
            UnexpectedResponse,
            false,
            "is this the address of Logto",
        ),
        (
            response("407 Proxy", "", ""),
            UnexpectedResponse,
            false,
            "a proxy requires its own credentials",
        ),
        (response("429 Slow", "", ""), UnexpectedResponse, true, "quota"),
        (json("429 Slow", "{\"error\":\"rate_limited\"}"), Refused, true, "quota"),
        (json("503 x", "{\"error\":\"temporarily_unavailable\"}"), Refused, true, "temporarily"),
        (
            json("400 x", "{\"error\":\"a\\r\\nb\"}"),
            UnexpectedResponse,
            false,
            "not an OAuth error",
        ),
        (
            json("400 x", "[\"invalid_client\",null]"),
            UnexpectedResponse,
            false,
            "not an OAuth error",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec(), Connection, true, "could not be reached"),
    ] {
        let server = serve(move |_, _| bytes.clone());
        let error = client_at(&server).build().unwrap().token(&read()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.is_retryable(), retryable, "{error}");
        assert!(error.to_string().contains(what), "{what}: {error}");
        assert!(!format!("{error:?}").contains("eyJhbGciOi"), "{error:?}");
    }
}

#[tokio::test]
async fn error_description_is_escaped_and_shortened() {
    let body = format!(
        "{{\"error\":\"invalid_target\",\"error_description\":\"a\\r\\n\\u001b[31m{}\"}}",
        "x".repeat(10_000)
    );
    let server = serve(move |_, _| json("400 Bad Request", &body));
    let error = client_at(&server).build().unwrap().token(&read()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.chars().all(|c| !c.is_control()) && text.len() < 700, "{text}");
}
