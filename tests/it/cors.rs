//! Preflights pass when the user asks for it, and nothing else does; HEAD and the metadata document.

use axum::{
    Router,
    routing::{any, get},
};
use tower_http::cors::CorsLayer;
use tower_logto::{AuthLayer, ProtectedResourceMetadata, RequireOrganization, RequireScopes};

use crate::support::{SHOP, Server, Stage, header};

fn router(layer: AuthLayer) -> Router {
    Router::new()
        .route("/{org}", get(async || "secret").options(async || "options"))
        .route_layer(RequireScopes::all(["a"]))
        .route_layer(RequireOrganization::path("org"))
        .route_layer(layer)
}

#[tokio::test]
async fn a_true_preflight_passes_layer_and_guards_where_it_is_allowed() {
    let stage = Stage::set().await;
    let allowed = AuthLayer::new(stage.validator()).allow_preflight();
    let strict = AuthLayer::new(stage.validator());
    let optional = AuthLayer::new(stage.validator()).optional();
    let origin = ("origin", "https://app.example");
    let asks = ("access-control-request-method", "GET");
    for (layer, method, headers, status) in [
        (&allowed, "OPTIONS", &[origin, asks][..], 200),
        (&allowed, "OPTIONS", &[origin], 401),
        (&allowed, "OPTIONS", &[asks], 401),
        (&allowed, "OPTIONS", &[], 401),
        (&allowed, "GET", &[origin, asks], 401),
        (&allowed, "OPTIONS", &[origin, asks, ("authorization", "Bearer bad")], 401),
        (&strict, "OPTIONS", &[origin, asks], 401),
        (&optional, "OPTIONS", &[origin, asks], 401),
    ] {
        let server = Server::start(router(layer.clone())).await;
        let mut request = server.request(method, "/acme");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{layer:?} {method} {headers:?}");
    }
}

#[tokio::test]
async fn a_cors_layer_works_outside_and_inside() {
    let stage = Stage::set().await;
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
    let auth = || AuthLayer::new(stage.validator());
    let outside = route().route_layer(auth()).layer(CorsLayer::permissive());
    assert_eq!(preflight(outside).await, (200, "*".into()));
    let inside = route().layer(CorsLayer::permissive()).layer(auth().allow_preflight());
    assert_eq!(preflight(inside).await, (200, "*".into()));
    let shut = route().layer(CorsLayer::permissive()).layer(auth());
    assert_eq!(preflight(shut).await.0, 401);
}

#[tokio::test]
async fn the_metadata_document_is_open_to_scripts_of_any_origin() {
    let stage = Stage::set().await;
    let metadata = ProtectedResourceMetadata::new(SHOP, [&stage.logto.issuer()]).scopes(["a"]);
    let layer = AuthLayer::new(stage.validator());
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

/// An OPTIONS that asks like a preflight, with a token that an outer layer did not see.
#[tokio::test]
async fn a_token_ends_what_a_preflight_may_do() {
    let stage = Stage::set().await;
    let token = stage.logto.token().build();
    let from_cookie = axum::middleware::map_request(move |mut request: axum::extract::Request| {
        let value = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", value);
        std::future::ready(request)
    });
    let router = Router::new()
        .route("/", any(async || "secret"))
        .route_layer(RequireScopes::all(["a"]))
        .route_layer(AuthLayer::new(stage.validator()))
        .route_layer(from_cookie)
        .route_layer(AuthLayer::new(stage.validator()).allow_preflight().optional());
    let server = Server::start(router).await;
    let asked = server
        .request("OPTIONS", "/")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "GET");
    assert_eq!(asked.send().await.unwrap().status(), 403);
}
