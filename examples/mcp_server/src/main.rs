//! An MCP server whose tools require access tokens from Logto.
//!
//! `cargo run -p example-mcp-server` serves on port 3000. If neither `LOGTO_ENDPOINT` nor
//! `LOGTO_ISSUER` is set, the program starts a test issuer in its own process. With `--demo`, the
//! program also acts as the client, and exits with 0 if every call has the expected result.

mod demo;
mod tools;

use std::{env, error::Error, net::Ipv4Addr, sync::Arc};

use axum::Router;
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};
use tokio::net::TcpListener;
use tower_logto::{
    AuthLayer,
    settings::Settings,
    testing::{TestApp, TestIssuer},
};
use tracing_subscriber::EnvFilter;

use crate::tools::Shop;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    if env::args().any(|argument| argument == "--demo") {
        return demo::run().await;
    }
    let mut settings = Settings::from_env()?;
    // In its token request, an MCP client uses the URL of the MCP server as the resource indicator.
    let resource = "http://127.0.0.1:3000/mcp";
    let mut embedded = None;
    if settings.endpoint.is_none() && settings.issuer.is_none() {
        let issuer = test_issuer(resource).await?;
        settings.endpoint = Some(issuer.endpoint());
        println!("LOGTO_ENDPOINT is not set: started a test issuer at {}", issuer.endpoint());
        embedded = Some(issuer);
    }
    if settings.resource.is_empty() {
        settings.resource.push(resource.into());
    }
    let router = router(settings)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 3000)).await?;
    println!("The URL of the MCP server is {resource}.");
    axum::serve(listener, router).await?;
    drop(embedded);
    Ok(())
}

/// Returns a router with the MCP server at `/mcp` and the metadata document at
/// `/.well-known/oauth-protected-resource/mcp` (RFC 9728 §3.1).
fn router(mut settings: Settings) -> Result<Router, Box<dyn Error>> {
    let metadata = settings.metadata()?.scopes([tools::READ, tools::DELETE]).name("Shop");
    let resource = settings.resource.first().map_or("", String::as_str);
    let Some((scheme, host)) =
        resource.strip_suffix("/mcp").and_then(|origin| origin.split_once("://"))
    else {
        return Err(format!(
            "LOGTO_RESOURCE is {resource:?}: expected the public URL of the MCP server, such as \
             https://shop.example/mcp"
        )
        .into());
    };
    let host = host.to_owned();
    settings.resource_metadata = Some(format!("{scheme}://{host}{}", metadata.path()));
    let config = StreamableHttpServerConfig::default()
        // Sessions are disabled. With sessions, any user who has a valid token and knows the id of
        // another user's session could use or delete that session.
        .with_legacy_session_mode(false)
        .with_json_response(true)
        // To prevent DNS rebinding, the server accepts only this host in the Host header.
        .with_allowed_hosts([host]);
    let mcp = StreamableHttpService::new(
        || Ok(Shop::new()),
        Arc::new(NeverSessionManager::default()),
        config,
    );
    Ok(Router::new()
        .route_service("/mcp", mcp)
        .route_layer(AuthLayer::new(settings.validator()?))
        .merge(metadata.router()))
}

/// Starts a test issuer with an application for agents.
async fn test_issuer(resource: &str) -> std::io::Result<TestIssuer> {
    let app = TestApp::new("agent", "agent-secret").grant(resource, [tools::READ]);
    TestIssuer::builder().app(app).start().await
}
