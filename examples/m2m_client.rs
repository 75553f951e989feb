//! A service that calls other services: `cargo run --example m2m_client`.
//!
//! If `LOGTO_ENDPOINT` is not set, the example starts a test issuer and a shop in its own process.
//! If `LOGTO_ENDPOINT` is set, the example reads these environment variables:
//!
//! | variable | meaning |
//! |---|---|
//! | `LOGTO_ENDPOINT` | the endpoint of the tenant that issues the tokens |
//! | `LOGTO_APP_ID`, `LOGTO_APP_SECRET` | the id and the secret of a machine-to-machine application of the tenant |
//! | `LOGTO_RESOURCE` | the API's resource indicator (default: `https://shopping.api`) |
//! | `SHOPPING_API_URL` | the URL of the shop to call, such as the URL of the example `shopping_api` (optional) |
//! | `LOGTO_ORGANIZATION_ID` | the id of an organization that the application is a member of (optional) |

#[path = "shopping_api/api.rs"]
#[allow(dead_code, unreachable_pub, reason = "this file belongs to the example `shopping_api`")]
mod api;

use std::{env, error::Error, process::ExitCode, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tower_logto::{
    Issuer,
    m2m::{ClientSecret, ManagementApi, TokenClient, TokenRequest},
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
                eprintln!("  caused by: {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let environment = Environment::load().await?;
    let issuer = Issuer::logto(&environment.endpoint)?;
    let secret = ClientSecret::new(&environment.app_secret);
    let tokens = TokenClient::new(&issuer, &environment.app_id, secret)?;

    // The following calls to the shop share this token.
    let shopping =
        TokenRequest::resource(&environment.resource).scopes(["read:products", "write:products"]);
    let token = tokens.token(&shopping).await?;
    println!("token for {}: {:?}", environment.resource, token.scopes());

    if let Some(api) = &environment.api {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let get = http.get(format!("{api}/products"));
        let response = tokens.authorize(get, &shopping).await?.send().await?;
        println!("GET /products: {} {}", response.status(), response.text().await?);

        let post = http.post(format!("{api}/products")).json(&json!({ "name": "jam" }));
        let response = tokens.authorize(post, &shopping).await?.send().await?;
        println!("POST /products: {} {}", response.status(), response.text().await?);
    } else {
        println!("GET and POST /products: skipped, SHOPPING_API_URL is not set");
    }

    if let Some(organization) = &environment.organization {
        // Logto grants only scopes that the token request contains. The scope `invite:member` is
        // optional here, so the token request succeeds even if Logto does not grant this scope.
        let request = TokenRequest::organization(organization).optional_scopes(["invite:member"]);
        let token = tokens.token(&request).await?;
        println!("token for organization {organization}: {:?}", token.scopes());
    } else {
        println!("token for an organization: skipped, LOGTO_ORGANIZATION_ID is not set");
    }

    let management =
        ManagementApi::new(&environment.endpoint, tokens, environment.management_api())?;
    let mut applications = management.pages::<Application>("/api/applications");
    while let Some(application) = applications.next().await {
        let Application { id, name, kind } = application?;
        println!("application {id}: {name:?}, {kind}");
    }
    Ok(())
}

/// A Logto application, with only the fields that this example prints.
#[derive(Deserialize)]
struct Application {
    id: String,
    name: String,
    #[serde(rename = "type")]
    kind: Value,
}

/// The addresses and credentials that the example uses to call Logto and the shop.
struct Environment {
    endpoint: String,
    app_id: String,
    app_secret: String,
    resource: String,
    api: Option<String>,
    organization: Option<String>,
    /// The test issuer, which stops when this field is dropped.
    _embedded: Option<TestIssuer>,
}

impl Environment {
    async fn load() -> Result<Self, Box<dyn Error>> {
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
        println!("LOGTO_ENDPOINT is not set: started a test issuer at {}", logto.endpoint());
        println!("started a shop at {api}");
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

    /// Returns the token request for the Management API. Each tenant of Logto Cloud has its own
    /// resource indicator for this API. All self-hosted instances have the same resource indicator.
    /// If your tenant has a custom domain, call `TokenRequest::management_api` with the tenant's
    /// id.
    fn management_api(&self) -> TokenRequest {
        let host = self.endpoint.strip_prefix("https://").unwrap_or_default();
        match host.trim_end_matches('/').strip_suffix(".logto.app") {
            Some(tenant) => TokenRequest::management_api(tenant),
            None => TokenRequest::self_hosted_management_api(),
        }
    }
}

/// Returns the value of an environment variable, or `None` if the variable is empty or not set.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

const SHOPPING: &str = "https://shopping.api";
