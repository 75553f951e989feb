//! A page at `/` on which you can try the API with tokens of the embedded issuer. A real service
//! has no such page.

use axum::{
    Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::Html,
    routing::get,
};
use serde::Deserialize;
use tower_logto::{Validator, testing::TestIssuer};

#[derive(Clone)]
struct Playground {
    issuer: TestIssuer,
    validator: Validator,
    resource: String,
}

pub(crate) fn router(issuer: TestIssuer, validator: Validator, resource: String) -> Router {
    Router::new()
        .route("/", get(async || Html(include_str!("playground.html"))))
        .route("/playground/token/{who}", get(token))
        .route("/playground/explain", get(explain))
        .with_state(Playground { issuer, validator, resource })
}

async fn token(
    State(playground): State<Playground>,
    Path(who): Path<String>,
) -> Result<String, StatusCode> {
    let Playground { issuer, resource, .. } = playground;
    let token = || issuer.token().audience(&resource).subject("alice").client_id("playground");
    let reader = || token().scopes(["read:products"]);
    Ok(match who.as_str() {
        "reader" => reader().build(),
        "writer" => token().scopes(["read:products", "write:products"]).build(),
        "member" => token().organization_resource("acme").scopes(["read:members"]).build(),
        "expired" => reader().expired().build(),
        "wrong-audience" => reader().audience("https://another.api").build(),
        "opaque" => issuer.opaque_token(),
        _ => return Err(StatusCode::NOT_FOUND),
    })
}

#[derive(Deserialize)]
struct Route {
    route: String,
    method: String,
}

/// Explains why the token of the request does or does not give access to a route of the API.
async fn explain(
    State(playground): State<Playground>,
    Query(Route { route, method }): Query<Route>,
    headers: HeaderMap,
) -> String {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(token) = value.and_then(|value| value.strip_prefix("Bearer ")) else {
        return "You sent no token. On this page, only /public works without a token.".to_owned();
    };
    let explanation = playground.validator.explain(token).await;
    let organization =
        route.strip_prefix("/orgs/").and_then(|rest| rest.split('/').next()).map(str::to_owned);
    let explanation = match (method.as_str(), route.as_str(), organization) {
        (_, _, Some(id)) => explanation.require_organization(&id).require_scopes(["read:members"]),
        ("POST", "/products", _) => explanation.require_scopes(["write:products"]),
        (_, "/products", _) => explanation.require_scopes(["read:products"]),
        _ => explanation,
    };
    explanation.to_string()
}
