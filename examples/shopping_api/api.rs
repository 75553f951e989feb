//! The API itself: what a service of yours would look like.

use axum::{Json, Router, extract::Path, http::StatusCode, routing::get};
use serde_json::{Value, json};
use tower_logto::{
    AccessToken, AuthError, AuthLayer, Claims, Issuer, ProtectedResourceMetadata,
    RequireOrganization, RequireScopes, Scoped, TokenKind, Validator, scopes,
};

scopes! {
    /// Read the catalogue.
    pub ReadProducts = "read:products";
}

pub(crate) fn router(validator: Validator) -> Router {
    // The guard can stand in the handler's signature (`list`), in its body (`create`),
    // or on its routes, where the last layer runs first.
    let members = Router::new()
        .route("/orgs/{org_id}/members", get(members))
        .route_layer(RequireScopes::all(["read:members"]))
        .route_layer(RequireOrganization::path("org_id"));
    let permissions = Router::new()
        .route("/org-permissions/{org_id}", get(permissions))
        .route_layer(RequireScopes::all(["invite:member"]).kind(TokenKind::OrganizationPermissions))
        .route_layer(RequireOrganization::path("org_id"));
    Router::new()
        .route("/products", get(list).post(create))
        .route("/me", get(me))
        .merge(members)
        .merge(permissions)
        .route_layer(AuthLayer::new(validator))
        .route("/public", get(async || "Hello, whoever you are.\n"))
}

/// The document that tells clients where to get tokens (RFC 9728).
pub(crate) fn metadata(resource: &str, issuer: &Issuer) -> ProtectedResourceMetadata {
    ProtectedResourceMetadata::new(resource, [issuer])
        .scopes(["read:products", "write:products", "read:members"])
        .name("Shopping")
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
