//! An API with an OpenAPI document that lists the scopes that each operation requires.
//!
//! `cargo run -p example-openapi` serves on port 3000, and shows the document at
//! <http://localhost:3000/docs>. If `LOGTO_ENDPOINT` is not set, the program starts a test issuer
//! in its own process. With `--demo`, the program also acts as the client. It calls every operation
//! of the document, and exits with 0 if each operation needs exactly the scopes that the document
//! names.

mod api;
mod demo;
mod document;

use std::{env, error::Error, net::Ipv4Addr};

use axum::Router;
use tokio::net::TcpListener;
use tower_logto::{settings::Settings, testing::TestIssuer};
use tracing_subscriber::EnvFilter;

const RESOURCE: &str = "https://shopping.api";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    if env::args().any(|argument| argument == "--demo") {
        return demo::run().await;
    }
    let mut settings = Settings::from_env()?;
    let mut embedded = None;
    if settings.endpoint.is_none() && settings.issuer.is_none() {
        let issuer = TestIssuer::start().await?;
        settings = test_settings(&issuer);
        let token = issuer.token().audience(RESOURCE).scopes(["read:products"]).build();
        println!("LOGTO_ENDPOINT is not set: started a test issuer at {}", issuer.endpoint());
        println!("curl -i localhost:3000/products -H \"Authorization: Bearer {token}\"");
        embedded = Some(issuer);
    }
    let app: Router = api::router(&settings)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 3000)).await?;
    println!("http://localhost:3000/docs");
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    drop(embedded);
    Ok(())
}

fn test_settings(issuer: &TestIssuer) -> Settings {
    let mut settings = Settings::default();
    settings.endpoint = Some(issuer.endpoint());
    settings.resource = vec![RESOURCE.into()];
    settings
}
