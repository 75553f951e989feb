//! With the option `--demo`, the example acts as the client and checks the response to each
//! request.

use std::{error::Error, net::Ipv4Addr};

use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, net::TcpListener, net::TcpStream};
use tower_logto::testing::TestIssuer;

use crate::{RESOURCE, serve};

pub(crate) async fn run() -> Result<(), Box<dyn Error>> {
    let issuer = TestIssuer::start().await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(issuer.validator(RESOURCE)?, listener, async {
        drop(stopped.await);
    }));
    let client = reqwest::Client::builder().no_proxy().build()?;
    let token = || issuer.token().audience(RESOURCE).subject("alice");
    for (token, expected) in [
        (None, "401 Bearer"),
        (Some(token().scopes(["read:products"]).build()), "200 bread and butter for alice"),
        (Some(token().scopes(["read:orders"]).build()), "403 Bearer error=\"insufficient_scope\""),
        (Some(token().expired().build()), "401 Bearer error=\"invalid_token\""),
    ] {
        let mut request = client.get(format!("http://{address}/"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let challenge = response.headers().get("www-authenticate").cloned();
        let text = match challenge {
            Some(challenge) => challenge.to_str()?.to_owned(),
            None => response.text().await?,
        };
        let found = format!("{status} {}", text.trim());
        println!("{found}");
        if !found.starts_with(expected) {
            return Err(format!("expected {expected}, found {found}").into());
        }
    }

    // If a client sends only half a request, the server closes the connection after the timeout.
    let mut slow = TcpStream::connect(address).await?;
    slow.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n").await?;
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await?;
    println!("half a request: the connection is closed");

    let _ = stop.send(());
    drop(client);
    server.await?;
    println!("Every request had the expected result.");
    Ok(())
}
