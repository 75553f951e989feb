//! The option `--demo`: acts as the client, and checks the result of each call.

use std::error::Error;

use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::Layer as _;
use tower_logto::{
    m2m::{BearerLayer, ClientSecret, TokenClient, TokenRequest},
    testing::TestIssuer,
};

use crate::{
    RESOURCE,
    catalogue::pb::{ListRequest, Product, catalogue_client::CatalogueClient},
    serve,
};

pub(crate) async fn run(issuer: TestIssuer, listener: TcpListener) -> Result<(), Box<dyn Error>> {
    let address = format!("http://{}", listener.local_addr()?);
    tokio::spawn(serve(issuer.validator(RESOURCE)?, listener));
    let channel = Endpoint::from_shared(address)?.connect_lazy();
    let client = |secret: &str| {
        let secret = ClientSecret::new(secret);
        let tokens = TokenClient::new(&issuer.issuer(), "reader", secret)?;
        let request = TokenRequest::resource(RESOURCE).scopes(["read:products"]);
        let channel = BearerLayer::without_retry(tokens, request).layer(channel.clone());
        Ok::<_, Box<dyn Error>>(CatalogueClient::new(channel))
    };

    let mut health = HealthClient::new(channel.clone());
    let response = health.check(HealthCheckRequest::default()).await?;
    println!("health without a token: {:?}", response.into_inner().status());

    let refused = CatalogueClient::new(channel.clone()).list(ListRequest {}).await;
    let challenge = expect(Code::Unauthenticated, "list without a token", refused)?;
    if !challenge.contains("Bearer") {
        return Err(format!("expected a challenge, found {challenge:?}").into());
    }

    let mut reader = client("reader-secret")?;
    let products = reader.list(ListRequest {}).await?.into_inner().products;
    println!("list with a token: {} products", products.len());
    let mut watched = reader.watch(ListRequest {}).await?.into_inner();
    let mut count = 0;
    while let Some(product) = watched.next().await {
        println!("watch with a token: {}", product?.name);
        count += 1;
    }
    if count != products.len() {
        return Err(
            format!("expected {} products in the stream, found {count}", products.len()).into()
        );
    }

    let deleted = reader.delete(Product { name: "jam".into() }).await;
    expect(Code::PermissionDenied, "delete without the scope", deleted)?;

    let wrong = client("wrong-secret")?.list(ListRequest {}).await;
    expect(Code::Unauthenticated, "list with a wrong secret", wrong)?;

    issuer.go_down();
    let down = client("reader-secret")?.list(ListRequest {}).await;
    expect(Code::Unavailable, "list while Logto is down", down)?;
    // This call succeeds, because `reader` has a cached token and the service has the signing keys.
    reader.list(ListRequest {}).await?;
    println!("list while Logto is down, with a cached token: it works");
    println!("Every call had the expected result.");
    Ok(())
}

/// Checks that a call failed with this code, and returns the challenge from the status.
fn expect<T>(
    code: Code,
    call: &str,
    outcome: Result<tonic::Response<T>, Status>,
) -> Result<String, Box<dyn Error>> {
    let Err(status) = outcome else { return Err(format!("{call}: expected {code:?}").into()) };
    println!("{call}: {:?}, {}", status.code(), status.message());
    if status.code() != code || status.message().is_empty() {
        return Err(format!("{call}: expected {code:?}, found {status}").into());
    }
    let challenge = status.metadata().get("www-authenticate");
    Ok(challenge.map(|value| format!("{value:?}")).unwrap_or_default())
}
