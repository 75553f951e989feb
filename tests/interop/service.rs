//! The protected service, which responds over real HTTP.

use axum::{
    Json, Router,
    routing::{get, post},
};
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::Response;
use serde_json::{Value, json};
use tower_logto::{AccessToken, AuthLayer, Require, TrustedIssuer, Validator, ValidatorBuilder};

use crate::{
    provider::Provider,
    support::{SHOPPING_API, Server},
};

/// The audience of tokens that expire after two seconds. Tokens for other audiences expire after an
/// hour.
pub(crate) const SHORT_LIVED_API: &str = "https://brief.api";

pub(crate) struct Service(Server);

impl Service {
    pub(crate) async fn start(provider: &Provider) -> Self {
        Self::start_with(provider, |builder| builder).await
    }

    pub(crate) async fn start_with(
        provider: &Provider,
        settings: impl FnOnce(ValidatorBuilder) -> ValidatorBuilder,
    ) -> Self {
        let trusted = TrustedIssuer::new(&provider.issuer())
            .audience(SHOPPING_API)
            .audience(SHORT_LIVED_API)
            .organizations();
        let validator =
            settings(Validator::builder().trust(trusted).trust_all_alike()).build().unwrap();
        Self(Server::start(router().route_layer(AuthLayer::new(validator))).await)
    }

    pub(crate) async fn request(&self, method: Method, path: &str, token: HeaderValue) -> Response {
        let request = self.0.request(method.as_str(), path);
        request.header(header::AUTHORIZATION, token).send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str, token: HeaderValue) -> StatusCode {
        self.request(Method::GET, path, token).await.status()
    }
}

fn router() -> Router {
    let orders = Require::organization_in_path("org_id").scopes(["read:orders"]);
    let members = Require::organization_in_path("org_id")
        .organization_permissions()
        .scopes(["invite:member"]);
    let products = || get(|| async {}).route_layer(Require::global().scopes(["read:products"]));
    Router::new()
        .route("/whoami", get(whoami))
        .route("/products", products())
        .route(
            "/products",
            post(|| async {}).route_layer(Require::global().scopes(["write:products"])),
        )
        .merge(Router::new().route("/orgs/{org_id}/orders", get(|| async {})).route_layer(orders))
        .merge(Router::new().route("/orgs/{org_id}/members", get(|| async {})).route_layer(members))
}

async fn whoami(token: AccessToken) -> Json<Value> {
    Json(json!({
        "sub": token.subject(),
        "client_id": token.client_id(),
        "is_machine": token.is_machine(),
        "aud": token.audiences().collect::<Vec<_>>(),
        "organization_id": token.organization_id(),
        "kind": format!("{:?}", token.kind()),
        "scopes": token.scopes().iter().collect::<Vec<_>>(),
    }))
}
