//! Tests that convert the crate's errors to `tonic::Status`.

use tonic::{Code, Status};
use tower_logto::{
    AuthError,
    m2m::{ClientSecret, TokenClient, TokenRequest},
    testing::{TestApp, TestIssuer},
};

use crate::support::{Harness, SHOPPING_API};

#[tokio::test]
async fn status_of_a_refusal_has_its_code_message_and_challenge() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    let token = validator.validate(&harness.token().scopes(["a"]).build()).await.unwrap();
    harness.logto.rotate();
    let expired = harness.token().expired().build();
    let expired = validator.validate(&expired).await.unwrap_err();
    harness.logto.go_down();
    harness.clock.advance(crate::support::HOUR * 25);
    let unavailable = validator.validate(&harness.token().build()).await.unwrap_err();
    for (error, code, message, challenge, retry_after) in [
        (
            AuthError::missing_token(),
            Code::Unauthenticated,
            "the call has no access token",
            Some("Bearer"),
            false,
        ),
        (
            expired,
            Code::Unauthenticated,
            "the access token expired",
            Some("Bearer error=\"invalid_token\", error_description=\"the access token expired\""),
            false,
        ),
        (
            token.require_scopes(["b"]).unwrap_err(),
            Code::PermissionDenied,
            "the access token lacks a required scope",
            Some(
                "Bearer error=\"insufficient_scope\", \
                 error_description=\"the access token lacks a required scope\", scope=\"b\"",
            ),
            false,
        ),
        (unavailable, Code::Unavailable, "the access token cannot be checked now", None, true),
    ] {
        let status = Status::from(error);
        assert_eq!((status.code(), status.message()), (code, message));
        let metadata = status.metadata();
        let found = metadata.get("www-authenticate").map(|value| value.to_str().unwrap());
        assert_eq!(found, challenge);
        assert_eq!(metadata.contains_key("retry-after"), retry_after);
    }
}

#[tokio::test]
async fn status_of_a_failed_token_request_has_a_code_for_the_cause_and_no_details() {
    let app = TestApp::new("reader", "reader-secret").grant(SHOPPING_API, ["read:products"]);
    let logto = TestIssuer::builder().app(app).start().await.unwrap();
    let client = |secret: &str| {
        TokenClient::new(&logto.issuer(), "reader", ClientSecret::new(secret)).unwrap()
    };
    let products = TokenRequest::resource(SHOPPING_API);
    let unknown_scope = products.clone().scopes(["delete:products"]);
    let organization = TokenRequest::organization("acme");
    let wrong_secret = client("wrong-secret").token(&products).await.unwrap_err();
    let no_scope = client("reader-secret").token(&unknown_scope).await.unwrap_err();
    let no_member = client("reader-secret").token(&organization).await.unwrap_err();
    logto.go_down();
    let down = client("reader-secret").token(&products).await.unwrap_err();
    for (error, code) in [
        (wrong_secret, Code::Unauthenticated),
        (no_scope, Code::PermissionDenied),
        (no_member, Code::PermissionDenied),
        (down, Code::Unavailable),
    ] {
        let details = error.to_string();
        let status = Status::from(error);
        assert_eq!(status.code(), code, "{details}");
        assert!(!status.message().is_empty() && !status.message().contains("127.0.0.1"));
        let source = std::error::Error::source(&status).unwrap();
        assert_eq!(source.to_string(), details, "the source has the details");
    }
}
