//! Tests of guards on the routes of a server: kinds of tokens, nested guards, extractors inside a
//! guard, and the responses.

use axum::{Router, routing::get};
use http::StatusCode;
use serde::Deserialize;
use tower_logto::{
    AccessToken, AuthError, AuthLayer, Require, Scoped, scopes, testing::TokenBuilder,
};

use super::by_header;
use crate::support::{Harness, SHOPPING_API, Server, header};

scopes! {
    A = "a";
    AForPermissions = "a" for OrganizationPermissions;
}

fn open() -> axum::routing::MethodRouter {
    get(async || "welcome")
}

fn guarded(path: &str, guard: Require) -> Router {
    Router::new().route(path, open()).route_layer(guard)
}

#[tokio::test]
async fn a_token_is_accepted_only_on_routes_for_its_kind() {
    let harness = Harness::start().await;
    let by_path = || Require::organization_in_path("org").scopes(["a"]);
    let scoped = get(async |_: Scoped<A>| "welcome");
    let scoped_permissions = get(async |_: Scoped<AForPermissions>| "welcome");
    let nested = Router::new()
        .route("/{org}/nested", open())
        .route_layer(Require::any_kind().scopes(["a"]))
        .route_layer(Require::organization_in_path("org"));
    let contradicting = Router::new()
        .route("/{org}/contradicting", open())
        .route_layer(Require::global())
        .route_layer(Require::organization_in_path("org"));
    let router = Router::new()
        .merge(guarded("/global", Require::global().scopes(["a"])))
        .merge(guarded("/any-kind", Require::any_kind().scopes(["a"])))
        .merge(guarded("/{org}/resource", by_path()))
        .merge(guarded("/{org}/permissions", by_path().organization_permissions()))
        .merge(guarded("/{org}/both", by_path().or(by_path().organization_permissions())))
        .merge(
            Router::new()
                .route("/{org}/scoped", scoped)
                .route("/{org}/scoped-permissions", scoped_permissions.clone())
                .route_layer(Require::organization_in_path("org")),
        )
        .merge(
            Router::new()
                .route("/{org}/permissions/scoped", scoped_permissions)
                .route_layer(Require::organization_in_path("org").organization_permissions()),
        )
        .merge(nested)
        .merge(contradicting)
        .route_layer(AuthLayer::new(harness.validator()));
    let server = Server::start(router).await;
    let token = || harness.logto.token().scopes(["a"]);
    let tokens: [(&str, TokenBuilder); 5] = [
        ("global", token().audience(SHOPPING_API)),
        ("acme resource", token().audience(SHOPPING_API).organization_resource("acme")),
        ("acme permissions", token().organization_permissions("acme")),
        ("evil resource", token().audience(SHOPPING_API).organization_resource("evil")),
        ("evil permissions", token().organization_permissions("evil")),
    ];
    for (path, opened_by) in [
        ("/global", &["global"][..]),
        (
            "/any-kind",
            &["global", "acme resource", "acme permissions", "evil resource", "evil permissions"],
        ),
        ("/acme/resource", &["acme resource"]),
        ("/acme/permissions", &["acme permissions"]),
        ("/acme/both", &["acme resource", "acme permissions"]),
        ("/acme/scoped", &["acme resource"]),
        ("/acme/scoped-permissions", &[]),
        ("/acme/permissions/scoped", &["acme permissions"]),
        ("/acme/nested", &["acme resource"]),
        ("/acme/contradicting", &[]),
    ] {
        for (name, token) in &tokens {
            let status = server.get(path, &token.clone().build()).await.status();
            let expected = if opened_by.contains(name) { 200 } else { 403 };
            assert_eq!(status, expected, "{name} at {path}");
        }
    }
}

#[tokio::test]
async fn a_handler_can_check_the_organization_and_the_scopes_itself() {
    async fn invite(token: AccessToken) -> Result<StatusCode, AuthError> {
        let checked = token.require_organization("acme")?;
        checked.require_any_scope(["b", "a"])?;
        Ok(StatusCode::ACCEPTED)
    }
    let harness = Harness::start().await;
    let router = Router::new().route("/", get(invite));
    let server = Server::start(router.route_layer(AuthLayer::new(harness.validator()))).await;
    let token = || harness.logto.token().audience(SHOPPING_API);
    for (token, status) in [
        (token().organization_resource("acme").scopes(["a"]), 202),
        (token().organization_resource("acme").scopes(["c"]), 403),
        (token().organization_resource("evil").scopes(["a"]), 403),
        (token().scopes(["a"]), 403),
        (harness.logto.token().organization_permissions("acme").scopes(["a"]), 403),
    ] {
        assert_eq!(server.get("/", &token.build()).await.status(), status);
    }
}

/// With an empty list, `Require::scopes` panics, but the methods of `AccessToken` return an error.
#[tokio::test]
async fn an_empty_list_of_required_scopes_is_refused() {
    let harness = Harness::start().await;
    let token = harness.validator().validate(&harness.logto.token().build()).await.unwrap();
    token.require_scopes([""; 0]).unwrap_err();
    token.require_any_scope([""; 0]).unwrap_err();
}

#[derive(Deserialize)]
struct Plan {
    paid: bool,
}

fn paid(token: &AccessToken) -> Result<(), AuthError> {
    match token.claims::<Plan>()?.paid {
        true => Ok(()),
        false => Err(AuthError::forbidden("no exports in this plan")),
    }
}

#[tokio::test]
async fn a_refusal_by_a_custom_check_has_the_challenge_of_the_validator() {
    let harness = Harness::start().await;
    let metadata = "https://shop.example/.well-known/oauth-protected-resource";
    let validator = harness.builder().realm("shop").resource_metadata(metadata).build().unwrap();
    let closed = get(async || Err::<(), _>(AuthError::forbidden("closed today")));
    let router = Router::new()
        .merge(guarded("/exports", Require::any_kind().check(paid)))
        .merge(guarded("/login", Require::any_kind().check(|_| Err(AuthError::missing_token()))))
        .route("/closed", closed)
        .merge(guarded("/any", Require::any_kind()))
        .merge(guarded("/organization", by_header()))
        .route_layer(AuthLayer::new(validator).optional())
        .merge(guarded("/no-layer", Require::any_kind()));
    let server = Server::start(router).await;
    let token =
        |paid: bool| harness.logto.token().audience(SHOPPING_API).claim("paid", paid).build();
    let challenge =
        |middle: &str| format!(r#"Bearer realm="shop", {middle}resource_metadata="{metadata}""#);
    let description = r#"error_description="the access token does not permit this request""#;
    let forbidden = format!(r#"error="insufficient_scope", {description}"#);
    for (path, token, status, expected) in [
        ("/exports", Some(token(true)), 200, String::new()),
        ("/exports", Some(token(false)), 403, challenge(&format!("{forbidden}, "))),
        ("/exports", None, 401, challenge("")),
        ("/login", Some(token(true)), 401, challenge("")),
        // A handler has no access to the validator. A challenge from a handler therefore has
        // neither a realm nor a metadata URL.
        ("/closed", None, 403, format!("Bearer {forbidden}")),
        ("/any", None, 401, challenge("")),
        ("/organization", None, 401, challenge("")),
        ("/no-layer", Some(token(true)), 500, String::new()),
        ("/no-layer", None, 500, String::new()),
    ] {
        let request = server.request("GET", path);
        let request = token.iter().fold(request, |request, token| request.bearer_auth(token));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{path} {}", token.is_some());
        assert_eq!(header(response.headers(), "www-authenticate"), expected, "{path}");
    }
    let grpc = server
        .request("POST", "/exports")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .bearer_auth(token(false));
    // The route has no handler for POST, so axum would respond with 405. However, the guard runs
    // first and refuses the request.
    assert_eq!(header(grpc.send().await.unwrap().headers(), "grpc-status"), "7");
}
