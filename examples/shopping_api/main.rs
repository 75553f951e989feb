//! A shop API that is protected by Logto. To start it, run `cargo run --example shopping_api`. The
//! example prints commands. To try the API, paste these commands into another terminal.
//!
//! If `LOGTO_ENDPOINT` is not set, the example starts a test issuer in its own process, and serves
//! a playground at `/`. Otherwise, the example accepts tokens of the tenant at `LOGTO_ENDPOINT`.
//! The documentation of `tower_logto::settings::Settings` lists the other environment variables.

mod api;
mod playground;

use std::{env, net::Ipv4Addr, process::ExitCode};

use tokio::{net::TcpListener, signal};
use tower_logto::{
    settings::Settings,
    testing::{TestApp, TestIssuer},
};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| "info,tower_logto=debug".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("shopping_api: {message}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<(), String> {
    let mut settings = Settings::from_env().map_err(|error| error.to_string())?;
    let (port, issuer_port) = (port("PORT", 3000)?, port("ISSUER_PORT", 3001)?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|error| format!("PORT: 127.0.0.1:{port} is unavailable: {error}"))?;
    let url = format!("http://{}", listener.local_addr().map_err(|error| error.to_string())?);
    if settings.resource.is_empty() {
        settings.resource.push("https://shopping.api".into());
    }
    let resource = settings.resource.first().cloned().unwrap_or_default();
    let mut embedded = None;
    if settings.endpoint.is_none() && settings.issuer.is_none() {
        let issuer = embedded_issuer(issuer_port, &resource).await?;
        settings.endpoint = Some(issuer.endpoint());
        embedded = Some(issuer);
    }
    settings.organizations = true;
    settings.realm.get_or_insert_with(|| "shopping".into());
    let metadata = settings.metadata().map_err(|error| error.to_string())?;
    let metadata_url = format!("{url}{}", metadata.path());
    settings.resource_metadata.get_or_insert(metadata_url);
    let validator = settings.validator().map_err(|error| error.to_string())?;
    let issuer = settings.issuer().map_err(|error| error.to_string())?;

    let mut app = api::router(validator.clone()).merge(api::describe(metadata).router());
    if let Some(issuer) = &embedded {
        app = app.merge(playground::router(issuer.clone(), validator, resource.clone()));
    }
    print_commands(&url, issuer.as_str(), &resource, embedded.is_some());
    axum::serve(listener, app)
        .with_graceful_shutdown(stop_signal())
        .await
        .map_err(|error| format!("the server stopped: {error}"))
}

/// Reads a port from an environment variable.
fn port(variable: &str, default: u16) -> Result<u16, String> {
    let Ok(value) = env::var(variable) else { return Ok(default) };
    value.parse().map_err(|error| format!("{variable}: {value:?} is not a port ({error})"))
}

async fn embedded_issuer(port: u16, resource: &str) -> Result<TestIssuer, String> {
    let reader = TestApp::new("reader", "reader-secret").grant(resource, ["read:products"]);
    let writer = TestApp::new("writer", "writer-secret")
        .grant(resource, ["read:products", "write:products"])
        .organization("acme", ["read:members", "invite:member"])
        .organization_grant("acme", resource, ["read:members", "invite:member"]);
    TestIssuer::builder()
        .port(port)
        .app(reader)
        .app(writer)
        .start()
        .await
        .map_err(|error| format!("ISSUER_PORT: 127.0.0.1:{port} is unavailable: {error}"))
}

fn print_commands(api: &str, issuer: &str, resource: &str, embedded: bool) {
    println!("The shop listens on {api} and accepts tokens of {issuer} for {resource}.");
    if !embedded {
        println!("To get a token, follow Logto's machine-to-machine quick start. Then try:");
        println!("  curl -i {api}/products -H \"Authorization: Bearer $TOKEN\"");
        return;
    }
    let token = |app: &str, parameters: &str| {
        format!(
            "$(curl -s -u {app}:{app}-secret {issuer}/token -d grant_type=client_credentials {parameters} \
             | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')"
        )
    };
    let products = format!("-d resource={resource} -d 'scope=read:products write:products'");
    let members = format!("-d resource={resource} -d organization_id=acme -d scope=read:members");
    let permissions = "-d organization_id=acme -d scope=invite:member";
    println!(
        "LOGTO_ENDPOINT is not set: started the test issuer {issuer} in this process.\n\
         Open {api}/ in a browser, or paste these commands into another terminal:\n\n\
         # tokens, as in Logto's machine-to-machine quick start\n\
         READER={}\n\
         WRITER={}\n\
         MEMBER={}\n\
         INVITER={}\n\n\
         # the responses are 200, 401 and 403\n\
         curl -i {api}/products -H \"Authorization: Bearer $READER\"\n\
         curl -i {api}/products\n\
         curl -i -X POST {api}/products -H \"Authorization: Bearer $READER\"\n\n\
         # the first response is 201, and the others are 200\n\
         curl -i -X POST {api}/products -H \"Authorization: Bearer $WRITER\"\n\
         curl -i {api}/orgs/acme/members -H \"Authorization: Bearer $MEMBER\"\n\
         curl -i {api}/org-permissions/acme -H \"Authorization: Bearer $INVITER\"\n\
         curl -i {api}/me -H \"Authorization: Bearer $WRITER\"\n",
        token("reader", &products),
        token("writer", &products),
        token("writer", &members),
        token("writer", permissions),
    );
}

/// Waits for Ctrl-C, or for the SIGTERM of an orchestrator.
async fn stop_signal() {
    #[cfg(unix)]
    let terminated = async {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut terminated) => drop(terminated.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        _ = signal::ctrl_c() => {}
        () = terminated => {}
    }
}
