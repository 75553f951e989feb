//! The scopes, the routes and the handlers of the example's API. Your own service needs these parts
//! too.

use axum::{Json, Router, extract::Path, http::StatusCode, routing::get};
use serde_json::{Value, json};
use tower_logto::{
    AccessToken, AuthError, AuthLayer, Claims, ProtectedResourceMetadata, Require, Scoped,
    Validator, scopes,
};

scopes! {
    /// Read the catalogue.
    pub ReadProducts = "read:products";
}

pub(crate) fn router(validator: Validator) -> Router {
    // There are three places to require a scope: the signature of the handler (`list`), the body of
    // the handler (`create`), and a guard on the route (`members`).
    let read_members = Require::organization_in_path("org_id").scopes(["read:members"]);
    let invite_member = Require::organization_in_path("org_id")
        .organization_permissions()
        .scopes(["invite:member"]);
    let members =
        Router::new().route("/orgs/{org_id}/members", get(members)).route_layer(read_members);
    let permissions = Router::new()
        .route("/org-permissions/{org_id}", get(permissions))
        .route_layer(invite_member);
    Router::new()
        .route("/products", get(list).post(create))
        .route("/me", get(me))
        .merge(members)
        .merge(permissions)
        .route_layer(AuthLayer::new(validator.clone())) // the last layer runs first
        .route("/public", get(async || "Hello, anonymous caller.\n"))
        .route("/ready", get(async move || ready(validator).await))
}

/// Adds the API's scopes and name to the protected resource metadata (RFC 9728).
pub(crate) fn describe(document: ProtectedResourceMetadata) -> ProtectedResourceMetadata {
    document.scopes(["read:products", "write:products", "read:members"]).name("Shopping")
}

/// The readiness probe. If the validator has usable keys, the probe neither waits nor sends a
/// request.
async fn ready(validator: Validator) -> StatusCode {
    match validator.warm_up().await {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn list(token: Scoped<ReadProducts>) -> Json<Value> {
    Json(json!({ "products": ["bread", "butter"], "for": token.subject() }))
}

async fn create(token: AccessToken) -> Result<(StatusCode, Json<Value>), AuthError> {
    token.require_scopes(["write:products"])?;
    Ok((StatusCode::CREATED, Json(json!({ "created_by": token.subject() }))))
}

async fn me(token: AccessToken, Claims(claims): Claims<Value>) -> Json<Value> {
    Json(json!({
        "sub": token.subject(),
        "client_id": token.client_id(),
        "scopes": token.scopes().iter().collect::<Vec<_>>(),
        "aud": claims.get("aud"),
        "organization_id": token.organization_id(),
    }))
}

async fn members(Path(org_id): Path<String>, token: AccessToken) -> Json<Value> {
    Json(json!({ "organization": org_id, "members": ["alice", "bob"], "for": token.subject() }))
}

async fn permissions(Path(org_id): Path<String>, token: AccessToken) -> Json<Value> {
    let scopes = token.scopes();
    Json(json!({ "organization": org_id, "scopes": scopes.iter().collect::<Vec<_>>() }))
}
