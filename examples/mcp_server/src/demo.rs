//! The option `--demo`: acts as the client, and checks the result of each call.

use std::{error::Error, net::Ipv4Addr};

use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_logto::{
    m2m::{ClientSecret, TokenClient, TokenRequest},
    settings::Settings,
};

use crate::{router, test_issuer, tools};

pub(crate) async fn run() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}/mcp", listener.local_addr()?);
    let issuer = test_issuer(&url).await?;
    let mut settings = Settings::default();
    settings.endpoint = Some(issuer.endpoint());
    settings.resource = vec![url.clone()];
    let app = router(settings)?;
    tokio::spawn(async move { axum::serve(listener, app).await });

    let http = Client::builder().no_proxy().build()?;
    let missing = call(&http, &url, "list_products").send().await?;
    let challenge = header(&missing, "www-authenticate");
    println!("without a token: {}, {challenge}", missing.status());
    check(missing.status() == 401, "expected 401")?;

    // The challenge has the URL of the metadata document. In this document, a client finds the
    // issuer and the resource indicator.
    let document = challenge.split('"').find(|part| part.starts_with("http")).unwrap_or_default();
    let document: Value = http.get(document).send().await?.json().await?;
    println!("the metadata document: {document}");
    check(document.get("resource") == Some(&json!(url)), "expected the resource in the document")?;

    // Each call gets its token from the token client, which caches and refreshes the token.
    let tokens = TokenClient::new(&issuer.issuer(), "agent", ClientSecret::new("agent-secret"))?;
    let request = TokenRequest::resource(&url).scopes([tools::READ]);
    let listed = tokens.send(call(&http, &url, "list_products"), &request).await?;
    let listed: Value = listed.json().await?;
    println!("list_products: {listed}");
    let text = listed.pointer("/result/content/0/text");
    check(text == Some(&json!("bread and butter for agent")), "expected the products")?;

    let refused = tokens.send(call(&http, &url, "delete_products"), &request).await?;
    let status = refused.status();
    let refused: Value = refused.json().await?;
    println!("delete_products: {status}, {refused}");
    let scope = refused.pointer("/error/data/scope");
    check(scope == Some(&json!(tools::DELETE)), "expected the missing scope")?;

    let other = issuer.token().audience("https://another.api").scopes([tools::READ]).build();
    let other = call(&http, &url, "list_products").bearer_auth(other).send().await?;
    println!("with a token for another API: {}", other.status());
    check(other.status() == 401, "expected 401")?;

    let rebound = call(&http, &url, "list_products").header("host", "evil.example");
    let rebound = tokens.send(rebound, &request).await?;
    println!("with another host: {}", rebound.status());
    check(rebound.status() == 403, "expected 403")?;
    let session = http.delete(&url).header("mcp-session-id", "1");
    let session = tokens.send(session, &request).await?;
    println!("deleting a session: {}", session.status());
    check(session.status().is_client_error(), "expected a refusal")?;
    println!("Every call had the expected result.");
    Ok(())
}

fn call(http: &Client, url: &str, tool: &str) -> RequestBuilder {
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": tool, "arguments": {} }
    });
    http.post(url).header("accept", "application/json, text/event-stream").json(&call)
}

fn header(response: &Response, name: &str) -> String {
    let value = response.headers().get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

fn check(holds: bool, expected: &str) -> Result<(), Box<dyn Error>> {
    if holds { Ok(()) } else { Err(expected.into()) }
}
