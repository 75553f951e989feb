//! Tests of CORS. A CORS layer outside of the auth layer answers preflight requests. The auth layer
//! refuses every preflight request that reaches it.

use axum::{Router, routing::get};
use tower_http::cors::CorsLayer;
use tower_logto::{AuthLayer, ProtectedResourceMetadata, Require};

use crate::support::{Harness, SHOPPING_API, Server, header};

fn router(layer: AuthLayer) -> Router {
    Router::new()
        .route("/{org}", get(async || "secret").options(async || "options"))
        .route_layer(Require::organization_in_path("org").scopes(["a"]))
        .route_layer(layer)
}

#[tokio::test]
async fn a_preflight_without_a_token_is_refused_by_the_layer_or_the_guard() {
    let harness = Harness::start().await;
    let strict = AuthLayer::new(harness.validator());
    let optional = AuthLayer::new(harness.validator()).optional();
    let origin = ("origin", "https://app.example");
    let asks = ("access-control-request-method", "GET");
    for layer in [strict, optional] {
        for headers in [&[origin, asks][..], &[origin], &[asks], &[]] {
            let server = Server::start(router(layer.clone())).await;
            let mut request = server.request("OPTIONS", "/acme");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 401, "{layer:?} {headers:?}");
        }
    }
}

#[tokio::test]
async fn an_outer_cors_layer_answers_preflights_and_an_inner_cors_layer_does_not() {
    let harness = Harness::start().await;
    let preflight = async |router: Router| {
        let server = Server::start(router).await;
        let request = server
            .request("OPTIONS", "/")
            .header("origin", "https://app.example")
            .header("access-control-request-method", "GET");
        let response = request.send().await.unwrap();
        let allowed = header(response.headers(), "access-control-allow-origin").to_owned();
        (response.status().as_u16(), allowed)
    };
    let route = || Router::new().route("/", get(async || "secret"));
    let auth = || AuthLayer::new(harness.validator());
    let guarded = || route().route_layer(Require::global().scopes(["a"])).route_layer(auth());
    assert_eq!(preflight(guarded().layer(CorsLayer::permissive())).await, (200, "*".into()));
    let inside = route().layer(CorsLayer::permissive()).layer(auth());
    assert_eq!(preflight(inside).await, (401, String::new()));
}

/// Without CORS headers, a script could read neither the status nor the challenge of a refusal.
#[tokio::test]
async fn an_outer_cors_layer_adds_its_headers_to_refusals() {
    let harness = Harness::start().await;
    let router = router(AuthLayer::new(harness.validator())).layer(CorsLayer::permissive());
    let server = Server::start(router).await;
    let refused = server.request("GET", "/acme").header("origin", "https://app.example");
    let refused = refused.send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(header(refused.headers(), "access-control-allow-origin"), "*");
}

#[tokio::test]
async fn the_metadata_document_allows_scripts_of_every_origin() {
    let harness = Harness::start().await;
    let metadata =
        ProtectedResourceMetadata::new(SHOPPING_API, [&harness.logto.issuer()]).scopes(["a"]);
    let layer = AuthLayer::new(harness.validator());
    let server = Server::start(router(layer).merge(metadata.router())).await;
    for method in ["GET", "HEAD"] {
        let path = "/.well-known/oauth-protected-resource";
        let response = server.request(method, path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(header(response.headers(), "content-type"), "application/json");
        assert_eq!(header(response.headers(), "access-control-allow-origin"), "*");
        let body = response.text().await.unwrap();
        assert_eq!(body, if method == "GET" { metadata.to_json() } else { String::new() });
    }
}
