//! `--demo`: a test issuer, this server, and a client that plays the proxy's part.

use std::sync::Arc;

use reqwest::Client;
use tokio::{net::TcpListener, sync::watch};
use tower_logto::testing::{TestIssuer, TokenBuilder};

use crate::{config::Config, server};

const RESOURCE: &str = "https://shopping.api";

/// Plays the demonstration.
///
/// # Errors
/// Returns the first answer that is not as expected.
pub(crate) async fn run() -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let issuer = TestIssuer::start().await.map_err(|error| text(&error))?;
    let config = include_str!("../config/rules.toml")
        .replace("https://tenant.logto.app", &issuer.endpoint())
        .replace("127.0.0.1:9000", "127.0.0.1:0");
    let config = Config::parse(&config)?;
    let listener = TcpListener::bind(config.listen).await.map_err(|error| text(&error))?;
    let address = listener.local_addr().map_err(|error| text(&error))?;
    println!("A test issuer listens on {}, and this server on {address}.", issuer.endpoint());
    tokio::spawn(server::serve(
        listener,
        watch::Sender::new(Arc::new(config)),
        std::future::pending(),
    ));
    let token = || issuer.token().audience(RESOURCE).subject("alice");
    let reader = || token().scopes(["read:products"]);
    let member = || token().organization_resource("acme").scopes(["read:members"]);
    let client = Client::builder().no_proxy().build().map_err(|error| text(&error))?;
    for (method, target, token, expected) in demonstrated(&reader, &member) {
        let mut request = client
            .get(format!("http://{address}/auth"))
            .header("x-original-method", method)
            .header("x-original-uri", target);
        if let Some(token) = &token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|error| text(&error))?;
        let status = response.status().as_u16();
        let subject = response.headers().get("x-auth-subject");
        let subject = subject.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let with = if token.is_some() { "a token" } else { "no token" };
        println!("{method} {target} with {with}: {status} {subject}");
        if status != expected {
            return Err(format!("{method} {target}: expected {expected}, found {status}"));
        }
    }
    println!("Every answer is as expected.");
    Ok(())
}

type Step = (&'static str, &'static str, Option<String>, u16);

fn demonstrated(reader: &dyn Fn() -> TokenBuilder, member: &dyn Fn() -> TokenBuilder) -> Vec<Step> {
    vec![
        ("GET", "/public/logo.svg", None, 200),
        ("GET", "/products", None, 401),
        ("GET", "/products", Some(reader().build()), 200),
        ("HEAD", "/products", Some(reader().build()), 200),
        ("GET", "/products", Some(reader().expired().build()), 401),
        ("POST", "/products", Some(reader().build()), 403),
        ("GET", "/orgs/acme/members", Some(member().build()), 200),
        ("GET", "/orgs/evil/members", Some(member().build()), 403),
        ("GET", "/orgs/acme/members", Some(reader().build()), 403),
        ("GET", "/admin", Some(reader().build()), 403),
        ("GET", "/public/../admin", None, 403),
        ("GET", "/public/%2e%2e/admin", None, 403),
    ]
}
