//! A service with hyper and tower, without axum.
//!
//! `cargo run -p example-hyper` serves on port 3000. If `LOGTO_ENDPOINT` is not set, the program
//! starts a test issuer in its own process. With `--demo`, the program also acts as the client, and
//! exits with 0 if every request has the expected result.

mod demo;

use std::{convert::Infallible, env, error::Error, net::Ipv4Addr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tower::{ServiceBuilder, service_fn};
use tower_logto::{
    AccessToken, AuthLayer, Require, Validator, settings::Settings, testing::TestIssuer,
};
use tracing_subscriber::EnvFilter;

const RESOURCE: &str = "https://shopping.api";
/// The time limit for the headers of an HTTP/1 request. `axum::serve` limits neither this time nor
/// the number of connections.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_CONNECTIONS: usize = 1_000;

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
        settings.endpoint = Some(issuer.endpoint());
        settings.resource = vec![RESOURCE.into()];
        let token = issuer.token().audience(RESOURCE).scopes(["read:products"]).build();
        println!("LOGTO_ENDPOINT is not set: started a test issuer at {}", issuer.endpoint());
        println!("curl -i localhost:3000 -H \"Authorization: Bearer {token}\"");
        embedded = Some(issuer);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 3000)).await?;
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    serve(settings.validator()?, listener, stop).await;
    drop(embedded);
    Ok(())
}

/// Serves HTTP/1 and HTTP/2 until the future `stop` completes.
async fn serve(validator: Validator, listener: TcpListener, stop: impl Future<Output = ()>) {
    let service = ServiceBuilder::new()
        .layer(AuthLayer::new(validator)) // the first layer runs first
        .layer(Require::global().scopes(["read:products"]))
        .service(service_fn(products));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // hyper panics if the timeout is set without a timer.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20));
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accept = async {
            let permit = Arc::clone(&connections).acquire_owned().await.ok()?;
            Some((permit, listener.accept().await.ok()?.0))
        };
        let accepted = tokio::select! {
            accepted = accept => accepted,
            () = &mut stop => break,
        };
        let Some((permit, stream)) = accepted else { continue };
        let service = TowerToHyperService::new(service.clone());
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _ = connection.await;
            drop(permit);
        });
    }
    graceful.shutdown().await;
}

async fn products(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // `Require` accepts only requests with a token, so the extensions contain the token.
    let token = request.extensions().get::<AccessToken>();
    let subject = token.map(AccessToken::subject).unwrap_or_default();
    Ok(Response::new(format!("bread and butter for {subject}\n").into()))
}
