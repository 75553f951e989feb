//! An HTTP server that serves an axum router on a loopback port, and a client for this server.

use axum::Router;
use http::HeaderMap;
use reqwest::{Client, RequestBuilder, Response};
use tokio::{net::TcpListener, task::JoinHandle};

/// Serves a router over HTTP. The server stops when this value is dropped.
pub(crate) struct Server {
    url: String,
    client: Client,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, client: Client::builder().no_proxy().tls_certs_only([]).build().unwrap(), task }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(method.parse().unwrap(), format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Response {
        self.request("GET", path).bearer_auth(token).send().await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns the value of a header, or an empty string if the header is missing.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}
