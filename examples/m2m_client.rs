//! A service that calls others: `cargo run --example m2m_client`.
//!
//! Without `LOGTO_ENDPOINT` it brings its own Logto and its own shop, in-process. With it,
//! `LOGTO_APP_ID` and `LOGTO_APP_SECRET` it gets tokens from that tenant, for `LOGTO_RESOURCE` or
//! `https://shopping.api`, and calls the shop at `SHOPPING_API_URL` (such as the example `shopping_api`, run with the same
//! `LOGTO_ENDPOINT`). `LOGTO_ORGANIZATION_ID` names an organization that the app is a member of.

#[path = "shopping_api/api.rs"]
#[allow(dead_code, unreachable_pub, reason = "the other example's own file")]
mod api;

use std::{env, error::Error, process::ExitCode, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tower_logto::{
    Issuer,
    m2m::{ManagementApi, TokenClient, TokenRequest},
    testing::{TestApp, TestIssuer},
};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("m2m_client: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let world = World::find().await?;
    let issuer = Issuer::logto(&world.endpoint)?;
    let tokens = TokenClient::new(&issuer, &world.app_id, &world.app_secret)?;

    // A token for the shop; asked for once, however often it is used.
    let shopping =
        TokenRequest::resource(&world.resource).scopes(["read:products", "write:products"]);
    let token = tokens.token(&shopping).await?;
    println!("a token for {}: {:?}", world.resource, token.scopes());

    if let Some(api) = &world.api {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let get = http.get(format!("{api}/products"));
        let answer = tokens.authorize(get, &shopping).await?.send().await?;
        println!("GET /products: {} {}", answer.status(), answer.text().await?);

        let post = http.post(format!("{api}/products")).json(&json!({ "name": "jam" }));
        let answer = tokens.authorize(post, &shopping).await?.send().await?;
        println!("POST /products: {} {}", answer.status(), answer.text().await?);
    } else {
        println!("GET and POST /products: skipped, SHOPPING_API_URL is not set");
    }

    if let Some(organization) = &world.organization {
        // Logto grants only what is asked for; what its roles do not give, this request can do
        // without.
        let request = TokenRequest::organization(organization).optional_scopes(["invite:member"]);
        let token = tokens.token(&request).await?;
        println!("a token for organization {organization}: {:?}", token.scopes());
    } else {
        println!("a token for an organization: skipped, LOGTO_ORGANIZATION_ID is not set");
    }

    let management = ManagementApi::new(&world.endpoint, &tokens, world.management_api())?;
    let mut applications = management.pages::<Application>("/api/applications");
    while let Some(application) = applications.next().await {
        let Application { id, name, kind } = application?;
        println!("application {id}: {name:?}, {kind}");
    }
    Ok(())
}

/// What the Management API says of an application, as far as it is of interest here.
#[derive(Deserialize)]
struct Application {
    id: String,
    name: String,
    #[serde(rename = "type")]
    kind: Value,
}

/// The Logto and the shop to talk to.
struct World {
    endpoint: String,
    app_id: String,
    app_secret: String,
    resource: String,
    api: Option<String>,
    organization: Option<String>,
    /// Gone when it is dropped.
    _embedded: Option<TestIssuer>,
}

impl World {
    async fn find() -> Result<Self, Box<dyn Error>> {
        let Some(endpoint) = variable("LOGTO_ENDPOINT") else { return Self::embedded().await };
        let required = |name| variable(name).ok_or_else(|| format!("{name} is not set"));
        Ok(Self {
            endpoint,
            app_id: required("LOGTO_APP_ID")?,
            app_secret: required("LOGTO_APP_SECRET")?,
            resource: variable("LOGTO_RESOURCE").unwrap_or_else(|| SHOPPING.into()),
            api: variable("SHOPPING_API_URL").map(|url| url.trim_end_matches('/').to_owned()),
            organization: variable("LOGTO_ORGANIZATION_ID"),
            _embedded: None,
        })
    }

    async fn embedded() -> Result<Self, Box<dyn Error>> {
        let app = TestApp::new("reporting", "reporting-secret")
            .grant(SHOPPING, ["read:products", "write:products"])
            .grant(TestIssuer::MANAGEMENT_API, ["all"])
            .organization("acme", ["invite:member"]);
        let logto = TestIssuer::builder().app(app).start().await?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let api = format!("http://{}", listener.local_addr()?);
        let router = api::router(logto.validator(SHOPPING)?);
        tokio::spawn(async move { axum::serve(listener, router).await });
        println!("no LOGTO_ENDPOINT is set: {} is a test issuer, {api} a shop", logto.endpoint());
        Ok(Self {
            endpoint: logto.endpoint(),
            app_id: "reporting".into(),
            app_secret: "reporting-secret".into(),
            resource: SHOPPING.into(),
            api: Some(api),
            organization: Some("acme".into()),
            _embedded: Some(logto),
        })
    }

    /// A tenant of Logto Cloud has a Management API of its own name, a self-hosted Logto has not; at
    /// a domain of its own it would be `TokenRequest::management_api` with the tenant's id.
    fn management_api(&self) -> TokenRequest {
        let host = self.endpoint.strip_prefix("https://").unwrap_or_default();
        match host.trim_end_matches('/').strip_suffix(".logto.app") {
            Some(tenant) => TokenRequest::management_api(tenant),
            None => TokenRequest::self_hosted_management_api(),
        }
    }
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

const SHOPPING: &str = "https://shopping.api";
