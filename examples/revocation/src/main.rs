//! An API with two instances, and a receiver for Logto's webhooks. The instances and the receiver
//! share revocation rules over Redis.
//!
//! `cargo run -p example-revocation` serves the API on ports 3000 and 3001, and the receiver on
//! port 3002. If `LOGTO_ENDPOINT` is not set, the program starts a test issuer and prints commands
//! to try. With `--demo`, the program itself suspends and reactivates a user, and exits with 0 if
//! every step succeeds.
//!
//! The program connects to the Redis server at `REDIS_URL`. If this variable is not set, the
//! program starts its own `redis-server`.

mod demo;
mod redis_process;

use std::{env, error::Error, net::Ipv4Addr};

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower_logto::{
    AccessToken, AuthLayer, Issuer, Require, TrustedIssuer, Validator,
    revocation::{RedisStore, Revocations, WebhookReceiver},
    settings::Settings,
    testing::TestIssuer,
};
use tracing_subscriber::EnvFilter;

use crate::redis_process::RedisProcess;

const RESOURCE: &str = "https://shopping.api";
const PREFIX: &str = "logto:example";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let redis = RedisProcess::from_env().await?;
    if env::args().any(|argument| argument == "--demo") {
        return demo::run(&redis).await;
    }
    let Logto { trusted, issuer, signing_key, .. } = &Logto::start().await?;
    for port in [3000, 3001] {
        let revocations = shared_rules(issuer, &redis, RedisStore::read_only)?;
        listen(port, api(trusted, &revocations)?).await?;
    }
    let revocations = shared_rules(issuer, &redis, |store| store)?;
    listen(3002, receiver(&revocations, signing_key)?).await?;
    println!("The API listens on ports 3000 and 3001, and the receiver on port 3002.");
    tokio::signal::ctrl_c().await?;
    Ok(())
}

/// The issuer and the signing key of its webhooks. The issuer is Logto or a test issuer.
struct Logto {
    trusted: TrustedIssuer,
    issuer: Issuer,
    signing_key: String,
    _test_issuer: Option<TestIssuer>,
}

impl Logto {
    /// Reads the environment, or starts a test issuer and prints commands to try.
    async fn start() -> Result<Self, Box<dyn Error>> {
        let settings = Settings::from_env()?;
        if settings.endpoint.is_some() || settings.issuer.is_some() {
            let signing_key = env::var("LOGTO_WEBHOOK_SIGNING_KEY")
                .map_err(|_| "set LOGTO_WEBHOOK_SIGNING_KEY: Logto's Console shows the key")?;
            return Ok(Self {
                trusted: settings.trusted_issuer()?,
                issuer: settings.issuer()?,
                signing_key,
                _test_issuer: None,
            });
        }
        let issuer = TestIssuer::start().await?;
        let webhooks = issuer.webhooks("http://localhost:3002/webhooks/logto");
        let token = issuer.token().audience(RESOURCE).subject("alice").scopes(["read:products"]);
        println!("LOGTO_ENDPOINT is not set: started a test issuer at {}", issuer.endpoint());
        println!("curl -i localhost:3000 -H \"Authorization: Bearer {}\"", token.build());
        for (what, webhook) in
            [("Suspend", webhooks.suspend("alice")), ("Reactivate", webhooks.reactivate("alice"))]
        {
            println!(
                "{what} alice:\ncurl -i localhost:3002/webhooks/logto -H 'content-type: application/json' \
             -H 'logto-signature-sha-256: {}' -d '{}'",
                webhook.signature(),
                webhook.body()
            );
        }
        Ok(Self {
            trusted: issuer.trusted(RESOURCE),
            issuer: issuer.issuer(),
            signing_key: webhooks.signing_key().to_owned(),
            _test_issuer: Some(issuer),
        })
    }
}

/// Returns a set of revocation rules for an API instance or for the receiver. Each set includes the
/// rules that the receiver stores in Redis.
fn shared_rules(
    issuer: &Issuer,
    redis: &RedisProcess,
    access: impl FnOnce(RedisStore) -> RedisStore,
) -> Result<Revocations, Box<dyn Error>> {
    let store = access(RedisStore::new(redis.url(), PREFIX)?);
    let revocations = Revocations::builder([issuer]).redis(store).build()?;
    tokio::spawn(revocations.run());
    Ok(revocations)
}

/// Returns the router of an instance of the API.
fn api(trusted: &TrustedIssuer, revocations: &Revocations) -> Result<Router, Box<dyn Error>> {
    let validator = Validator::builder().trust(trusted.clone()).revocations(revocations).build()?;
    Ok(Router::new()
        .route("/", get(async |token: AccessToken| format!("Hello {}\n", token.subject())))
        .route_layer(Require::global().scopes(["read:products"]))
        .route_layer(AuthLayer::new(validator)))
}

/// Returns the router of the webhook receiver. In production, make sure that only Logto can reach
/// the receiver.
fn receiver(revocations: &Revocations, signing_key: &str) -> Result<Router, Box<dyn Error>> {
    let receiver = WebhookReceiver::builder(revocations).signing_key(signing_key).build()?;
    Ok(receiver.router("/webhooks/logto"))
}

/// Starts a server on a port, and returns its URL. The server runs until the program ends.
async fn listen(port: u16, router: Router) -> Result<String, Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}
