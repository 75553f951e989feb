//! Tests of the error messages for the operator. A message contains each cause once, the address of
//! the server in use, and a hint that says what to change.

use serde_json::Value;
use tower_logto::{
    Issuer,
    error::AuthErrorKind,
    m2m::{ManagementApi, ManagementError, TokenClient, TokenRequest},
    testing::ManualClock,
};

use super::support::{client_at, json, logto, read, response, secret, serve};
use crate::support::{RawServer, SHOPPING_API};

/// Returns the messages of an error and of its sources.
fn chain(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect()
}

/// Starts a server that issues tokens, and that answers calls to the Management API with these
/// bytes.
fn management_server(bytes: Vec<u8>) -> RawServer {
    serve(move |_, received| match received.head.starts_with("POST /oidc/token") {
        true => super::support::granted("token"),
        false => bytes.clone(),
    })
}

async fn management_error(bytes: Vec<u8>) -> ManagementError {
    let server = management_server(bytes);
    let tokens = client_at(&server).build().unwrap();
    let request = TokenRequest::resource(SHOPPING_API);
    let api = ManagementApi::new(&server.url(), tokens, request).unwrap();
    api.get::<Vec<String>>("/api/users").await.unwrap_err()
}

#[tokio::test]
async fn error_source_chain_contains_each_cause_once() {
    let closed = RawServer::responding_with(|_| Vec::new());
    let url = closed.url();
    drop(closed);
    let tokens = TokenClient::new(&Issuer::logto(&url).unwrap(), "app", secret()).unwrap();
    let connection = tokens.token(&read()).await.unwrap_err();
    let api = ManagementApi::self_hosted(&url, "app", secret()).unwrap();
    let no_token = api.get::<Value>("/api/users").await.unwrap_err();
    let broken = management_error(Vec::new()).await;
    let issuer = logto(&ManualClock::default()).await;
    let validator = issuer.validator(SHOPPING_API).unwrap();
    let token = issuer.token().audience(SHOPPING_API).build();
    issuer.stop();
    let keys = validator.validate(&token).await.unwrap_err();
    let AuthErrorKind::KeysUnavailable(unavailable) = keys.kind() else { panic!("{keys}") };
    let errors: [(&dyn std::error::Error, &str); 5] = [
        (&connection, "Connection refused"),
        (&no_token, "Connection refused"),
        (&broken, "received no response"),
        (&keys, "Connection refused"),
        (&unavailable.cause, "Connection refused"),
    ];
    for (error, cause) in errors {
        let text = chain(error).join(": ");
        assert_eq!(text.matches(cause).count(), 1, "{text}");
        println!("{text}");
    }
    assert!(no_token.token_error().is_some());
}

#[tokio::test]
async fn hint_for_a_wrong_token_endpoint_path_contains_the_right_address() {
    let server = serve(|_, _| response("404 Not Found", "content-type: text/html\r\n", "<html>"));
    let url = server.url();
    let wrong = client_at(&server).token_endpoint(format!("{url}/token")).build().unwrap();
    let error = wrong.token(&read()).await.unwrap_err();
    let expected = format!("Logto's token endpoint is {url}/oidc/token");
    assert_eq!(error.hint(), Some(&*expected));
}

#[tokio::test]
async fn hint_for_a_logto_cloud_resource_on_a_self_hosted_server_names_the_right_constructor() {
    let refused = "{\"error\":\"invalid_target\",\"error_description\":\"unknown resource\"}";
    let server = serve(move |_, _| json("400 Bad Request", refused));
    let tokens = client_at(&server).build().unwrap();
    let error = tokens.token(&TokenRequest::management_api("tenant")).await.unwrap_err();
    assert!(error.hint().unwrap().contains("self_hosted_management_api"), "{error}");
    let error = tokens.token(&read()).await.unwrap_err();
    assert!(error.hint().unwrap().contains("is not registered"), "{error}");
}

#[tokio::test]
async fn error_of_a_refused_management_api_call_says_what_to_change() {
    let zod = r#"{"code":"guard.invalid_input","message":"Invalid.","data":{"name":"ZodError","issues":[
        {"code":"invalid_type","path":["customData","a\r\nb"],"message":"Required"},
        {"code":"too_small","path":["tags",0],"message":"Too short"}]}}"#;
    let no_zod = r#"{"code":"entity.not_found","message":"Not found.","data":{"id":"x"}}"#;
    let plain = "content-type: text/plain\r\n";
    for (bytes, expected) in [
        (json("400 Bad Request", zod), r#"(customData.a\r\nb: "Required", tags.0: "Too short")"#),
        (json("400 Bad Request", no_zod), "entity.not_found"),
        (response("404 Not Found", plain, "Not Found"), "the Management API has no such path"),
        (json("200 OK", "{\"id\":1}"), "the call took effect"),
        (json("200 OK", "{\"id\":1}"), "serde::de::IgnoredAny"),
    ] {
        let text = management_error(bytes).await.to_string();
        assert!(text.contains(expected), "{expected}: {text}");
        assert!(!text.contains('\r'), "{text:?}");
    }
}
