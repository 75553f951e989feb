//! Preflights pass when the user asks for it, and nothing else does; HEAD and the metadata document.

use axum::{Router, routing::get};
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
async fn a_cors_layer_outside_answers_preflights() {
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
