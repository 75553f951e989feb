//! Tests of routers that accidentally leave a route without its guard. The docs of `Require` warn
//! of such routers. Each test expects that such a route accepts requests that the guard should
//! refuse. If, with a new version of axum, the guard refuses these requests, the test fails. The
//! warning in the docs is then no longer necessary.

use std::collections::HashMap;

use axum::{
    Router,
    extract::Path,
    routing::{get, post},
};
use tower_logto::{AuthLayer, Require};

use crate::support::{Harness, Server};

#[tokio::test]
async fn a_method_added_after_route_layer_has_no_guard() {
    let harness = Harness::start().await;
    let guard = || Require::global().scopes(["write:products"]);
    let open = async || "done";
    let router = Router::new()
        .route("/trap", get(open).route_layer(guard()).post(open))
        .route("/right", get(open).post(open).route_layer(guard()))
        .route("/also-right", get(open).merge(post(open).route_layer(guard())))
        .route_layer(AuthLayer::new(harness.validator()));
    let server = Server::start(router).await;
    let token = harness.token().build();
    for (path, of_get, of_post) in
        [("/trap", 403, 200), ("/right", 403, 403), ("/also-right", 200, 403)]
    {
        assert_eq!(server.get(path, &token).await.status(), of_get, "{path}");
        let response = server.request("POST", path).bearer_auth(&token).send().await.unwrap();
        assert_eq!(response.status(), of_post, "{path}");
    }
}

#[tokio::test]
async fn a_guard_outside_nest_service_does_not_check_a_repeated_path_parameter() {
    let harness = Harness::start().await;
    let guard = || Require::organization_in_path("org");
    // The handler returns the path parameter `org` of the inner router.
    let members = async |Path(path): Path<HashMap<String, String>>| path["org"].clone();
    let inner = || Router::new().route("/members/{org}", get(members));
    let router = Router::new()
        .nest_service("/trap/{org}", inner())
        .nest("/nest/{org}", inner())
        .route_layer(guard())
        .nest_service("/inside/{org}", inner().route_layer(guard()))
        .route_layer(AuthLayer::new(harness.validator()));
    let server = Server::start(router).await;
    let token = harness.token().organization_resource("acme").build();
    for (path, status) in [
        ("/trap/acme/members/evil", 200),
        ("/trap/evil/members/acme", 403),
        ("/nest/acme/members/evil", 403),
        ("/nest/acme/members/acme", 200),
        ("/inside/acme/members/evil", 403),
        ("/inside/acme/members/acme", 200),
    ] {
        let response = server.get(path, &token).await;
        assert_eq!(response.status(), status, "{path}");
        if path == "/trap/acme/members/evil" {
            assert_eq!(response.text().await.unwrap(), "evil", "the token is for acme");
        }
    }
}
