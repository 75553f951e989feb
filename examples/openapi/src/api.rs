//! The operations of the API, and the router that serves them.

use std::error::Error;

use axum::{Json, Router, extract::Path, http::StatusCode, routing::get};
use serde::Serialize;
use tower_logto::{AccessToken, Require, scopes, settings::Settings};
use utoipa::{
    ToSchema,
    openapi::{InfoBuilder, OpenApi, OpenApiBuilder},
};
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::SwaggerUi;

use crate::document::Protected;

scopes! {
    /// Read the catalogue.
    ReadProducts = "read:products";
    /// Maintain the catalogue.
    ManageProducts = all["read:products", "write:products"];
    /// Read the list of members of the organization whose id is in the path.
    ReadMembers = "read:members";
}

#[derive(Serialize, ToSchema)]
struct Product {
    id: u32,
    name: String,
}

pub(crate) fn router(settings: &Settings) -> Result<Router, Box<dyn Error>> {
    let protected = Protected::new()
        .routes::<ReadProducts>(Require::global(), routes!(list_products))
        .routes::<ManageProducts>(Require::global(), routes!(add_product))
        .routes::<ManageProducts>(Require::global(), routes!(delete_product))
        .routes::<ReadMembers>(Require::organization_in_path("org_id"), routes!(list_members))
        .authenticated(settings.validator()?, &settings.issuer()?);
    let info = InfoBuilder::new().title("Shop").version(env!("CARGO_PKG_VERSION")).build();
    let document: OpenApi = OpenApiBuilder::new().info(info).build();
    let (router, document) = OpenApiRouter::with_openapi(document)
        .merge(protected)
        .routes(routes!(health)) // needs no token
        .split_for_parts();
    Ok(router
        .route("/", get(async || axum::response::Redirect::to("/docs")))
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document)))
}

/// List all products
#[utoipa::path(get, path = "/products", responses((status = 200, body = [Product])))]
async fn list_products() -> Json<Vec<Product>> {
    Json(vec![Product { id: 1, name: "bread".into() }])
}

/// Add a product
#[utoipa::path(post, path = "/products", responses((status = 201, body = Product)))]
async fn add_product() -> (StatusCode, Json<Product>) {
    (StatusCode::CREATED, Json(Product { id: 2, name: "butter".into() }))
}

/// Delete a product
#[utoipa::path(
    delete,
    path = "/products/{id}",
    params(("id" = u32, Path, description = "The product")),
    responses((status = 204))
)]
async fn delete_product(Path(_): Path<u32>) -> StatusCode {
    StatusCode::NO_CONTENT
}

/// List the members of an organization
#[utoipa::path(
    get,
    path = "/organizations/{org_id}/members",
    params(("org_id" = String, Path, description = "The organization")),
    responses((status = 200, body = [String]))
)]
async fn list_members(token: AccessToken) -> Json<Vec<String>> {
    Json(vec![token.subject().to_owned()])
}

/// Check whether the service is running
#[utoipa::path(get, path = "/health", responses((status = 200)))]
async fn health() {}
