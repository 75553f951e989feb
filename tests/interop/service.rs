//! The service that is protected, over real HTTP.

use axum::{
    Json, Router,
    routing::{get, post},
};
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tower_logto::{
    AccessToken, AuthLayer, RequireOrganization, RequireScopes, TokenKind, TrustedIssuer,
    Validator, ValidatorBuilder,
};

use crate::logto::Logto;

/// Its tokens live for an hour.
pub(crate) const SHOP: &str = "https://shopping.api";
/// Its tokens live for two seconds.
pub(crate) const BRIEF: &str = "https://brief.api";

pub(crate) struct Shop {
    url: String,
    client: Client,
    task: JoinHandle<()>,
}

impl Shop {
    pub(crate) async fn open(logto: &Logto) -> Self {
        Self::open_with(logto, |settings| settings).await
    }

    pub(crate) async fn open_with(
        logto: &Logto,
        settings: impl FnOnce(ValidatorBuilder) -> ValidatorBuilder,
    ) -> Self {
        let trusted =
            TrustedIssuer::new(&logto.issuer()).audience(SHOP).audience(BRIEF).organizations();
        let validator = settings(Validator::builder().trust(trusted)).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = router().route_layer(AuthLayer::new(validator));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, client: Client::builder().no_proxy().build().unwrap(), task }
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, token: HeaderValue) -> Response {
        let request = self.client.request(method, format!("{}{path}", self.url));
        request.header(header::AUTHORIZATION, token).send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str, token: HeaderValue) -> StatusCode {
        self.ask(Method::GET, path, token).await.status()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn router() -> Router {
    let members = RequireScopes::all(["invite:member"]).kind(TokenKind::OrganizationPermissions);
    let products = || get(|| async {}).route_layer(RequireScopes::all(["read:products"]));
    Router::new()
        .route("/whoami", get(whoami))
        .route("/products", products())
        .route("/products", post(|| async {}).route_layer(RequireScopes::all(["write:products"])))
        .merge(
            Router::new()
                .route("/orgs/{org_id}/orders", get(|| async {}))
                .route_layer(RequireScopes::all(["read:orders"]))
                .route_layer(RequireOrganization::path("org_id")),
        )
        .merge(
            Router::new()
                .route("/orgs/{org_id}/members", get(|| async {}))
                .route_layer(members)
                .route_layer(RequireOrganization::path("org_id")),
        )
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
