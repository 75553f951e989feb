//! A gRPC service that is protected by Logto, and its client.
//!
//! `cargo run -p example-grpc` serves on port 50051. If neither `LOGTO_ENDPOINT` nor `LOGTO_ISSUER`
//! is set, the program starts a test issuer in its own process. With `--demo`, the program also
//! acts as the client, and exits with 0 if every call has the expected result.

mod catalogue;
mod demo;

use std::{env, error::Error, net::Ipv4Addr};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{service::LayerExt as _, transport::Server};
use tower::ServiceBuilder;
use tower_logto::{
    AuthLayer, Require, Validator,
    settings::Settings,
    testing::{TestApp, TestIssuer},
};
use tracing_subscriber::EnvFilter;

use crate::catalogue::{Catalogue, pb::catalogue_server::CatalogueServer};

const RESOURCE: &str = "https://shopping.api";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    if env::args().any(|argument| argument == "--demo") {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        return demo::run(test_issuer().await?, listener).await;
    }
    let mut settings = Settings::from_env()?;
    let mut embedded = None;
    if settings.endpoint.is_none() && settings.issuer.is_none() {
        let issuer = test_issuer().await?;
        settings.endpoint = Some(issuer.endpoint());
        settings.resource = vec![RESOURCE.into()];
        println!("LOGTO_ENDPOINT is not set: started a test issuer at {}", issuer.endpoint());
        embedded = Some(issuer);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 50_051)).await?;
    println!("The catalogue listens on {}.", listener.local_addr()?);
    serve(settings.validator()?, listener).await?;
    drop(embedded);
    Ok(())
}

/// Serves the catalogue, which requires a token, and the health service, which does not.
async fn serve(validator: Validator, listener: TcpListener) -> Result<(), tonic::transport::Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<CatalogueServer<Catalogue>>().await;
    // In a ServiceBuilder, the layer that is added first runs first. `named_layer` keeps the name
    // of the service, which tonic needs for routing.
    let catalogue = ServiceBuilder::new()
        .layer(AuthLayer::new(validator))
        .layer(Require::global().scopes(["read:products"]))
        .named_layer(CatalogueServer::new(Catalogue));
    Server::builder()
        .add_service(health_service)
        .add_service(catalogue)
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
}

/// Starts a test issuer with one application.
async fn test_issuer() -> std::io::Result<TestIssuer> {
    let app = TestApp::new("reader", "reader-secret").grant(RESOURCE, ["read:products"]);
    TestIssuer::builder().app(app).start().await
}
