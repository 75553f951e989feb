//! Tests of `BearerLayer` around the clients of hyper-util and tonic.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::IntoResponse as _,
    routing::{any, post},
};
use bytes::{Buf as _, BufMut as _, Bytes};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tower::{Layer as _, Service as _, ServiceExt as _};
use tower_logto::{
    AuthLayer,
    m2m::{BearerLayer, TokenRequestError},
    testing::ManualClock,
};

use super::support::{client_of, logto, read};
use crate::support::{SHOPPING_API, Server};

/// Returns a service that echoes the body of each request. The service refuses the first `how_many`
/// different tokens that it receives. It responds with 401 to every request with such a token.
fn refusing_tokens(how_many: usize, requests: &Arc<AtomicUsize>) -> Router {
    let seen = std::sync::Mutex::new(Vec::<HeaderValue>::new());
    let (seen, requests) = (Arc::new(seen), Arc::clone(requests));
    Router::new().route(
        "/products",
        any(async move |request: Request| {
            requests.fetch_add(1, Ordering::Relaxed);
            let token = request.headers()["authorization"].clone();
            let position = {
                let mut seen = seen.lock().unwrap();
                if !seen.contains(&token) {
                    seen.push(token.clone());
                }
                seen.iter().position(|one| *one == token).unwrap()
            };
            let status =
                if position < how_many { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
            (status, request.into_body())
        }),
    )
}

fn request(uri: &str) -> http::Request<Full<Bytes>> {
    let uri = format!("{uri}/products");
    http::Request::post(uri).header("x-trace", "1").body(Full::from("apples")).unwrap()
}

async fn text<B: BodyExt<Error: std::fmt::Debug>>(response: Response<B>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn hyper_util_client_is_accepted_by_auth_layer() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let router = Router::new()
        .route("/products", post(async |body: String| body))
        .route_layer(AuthLayer::new(issuer.validator(SHOPPING_API).unwrap()));
    let service = Server::start(router).await;
    let uri = service.url().to_owned();
    let http = Client::builder(TokioExecutor::new()).build_http();
    let mut client = BearerLayer::new(client_of(&issuer, &clock), read()).layer(http);
    for _ in 0..3 {
        let response = client.ready().await.unwrap().call(request(&uri)).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(text(response).await, "apples");
    }
    assert_eq!(issuer.token_requests(), 1);
}

#[tokio::test]
async fn whole_request_is_retried_once_with_a_new_token_after_a_401() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let requests = Arc::new(AtomicUsize::new(0));
    let service = Server::start(refusing_tokens(1, &requests)).await;
    let uri = service.url().to_owned();
    let http = Client::builder(TokioExecutor::new()).build_http();
    let client = BearerLayer::new(client_of(&issuer, &clock), read()).layer(http);
    let response = client.oneshot(request(&uri)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(text(response).await, "apples");
    assert_eq!(requests.load(Ordering::Relaxed), 2);
    assert_eq!(issuer.token_requests(), 2);
}

#[tokio::test]
async fn repeated_401_responses_cause_only_two_token_requests() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let requests = Arc::new(AtomicUsize::new(0));
    let service = Server::start(refusing_tokens(usize::MAX, &requests)).await;
    let uri = service.url().to_owned();
    let http = Client::builder(TokioExecutor::new()).build_http();
    let client = BearerLayer::new(client_of(&issuer, &clock), read()).layer(http);
    for _ in 0..200 {
        let response = client.clone().oneshot(request(&uri)).await.unwrap();
        assert_eq!(response.status(), 401);
    }
    assert_eq!(issuer.token_requests(), 2);
    assert_eq!(requests.load(Ordering::Relaxed), 201);
}

#[tokio::test]
async fn request_whose_body_cannot_be_cloned_is_not_retried_but_a_new_token_is_requested() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let requests = Arc::new(AtomicUsize::new(0));
    let router = refusing_tokens(1, &requests);
    let service = Server::start(router).await;
    let uri = service.url().to_owned();
    let http = Client::builder(TokioExecutor::new()).build_http();
    let client = BearerLayer::without_retry(tokens.clone(), read()).layer(http);
    let first = tokens.token(&read()).await.unwrap().authorization();
    for status in [401, 200] {
        let request = request(&uri).map(Body::new);
        assert_eq!(client.clone().oneshot(request).await.unwrap().status(), status);
        // The layer requests the token's successor in the background, and does not wait for it.
        issuer.token_requested(2).await;
        while status == 401 && tokens.token(&read()).await.unwrap().authorization() == first {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(requests.load(Ordering::Relaxed), 2);

    let fresh = Arc::new(AtomicUsize::new(0));
    let service = Server::start(refusing_tokens(1, &fresh)).await;
    let uri = service.url().to_owned();
    let http = Client::builder(TokioExecutor::new()).build_http();
    let some: fn(&Body) -> Option<Body> = |_| Some(Body::from("copied"));
    let client = BearerLayer::retry_with(client_of(&issuer, &clock), read(), some).layer(http);
    let response = client.oneshot(request(&uri).map(Body::new)).await.unwrap();
    assert_eq!(text(response).await, "copied");
}

#[tokio::test]
async fn request_is_not_sent_if_no_token_can_be_obtained() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    issuer.go_down();
    let requests = Arc::new(AtomicUsize::new(0));
    let service = Server::start(refusing_tokens(0, &requests)).await;
    let uri = service.url().to_owned();
    let http = Client::builder(TokioExecutor::new()).build_http();
    let client = BearerLayer::new(client_of(&issuer, &clock), read()).layer(http);
    let error = client.oneshot(request(&uri)).await.unwrap_err();
    assert_eq!(error.downcast::<TokenRequestError>().unwrap().status().unwrap(), 500);
    assert_eq!(requests.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn inner_service_is_called_only_when_ready() {
    /// A service whose `call` panics unless `poll_ready` was called first. Each clone needs its own
    /// call of `poll_ready`.
    struct Strict {
        ready: bool,
        calls: Arc<AtomicUsize>,
    }

    impl Clone for Strict {
        fn clone(&self) -> Self {
            Self { ready: false, calls: Arc::clone(&self.calls) }
        }
    }

    impl tower::Service<http::Request<String>> for Strict {
        type Response = Response<()>;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<Response<()>, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            self.ready = true;
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<String>) -> Self::Future {
            assert!(std::mem::take(&mut self.ready), "called without being ready");
            let mut response = Response::new(());
            if self.calls.fetch_add(1, Ordering::Relaxed) == 0 {
                *response.status_mut() = StatusCode::UNAUTHORIZED;
            }
            std::future::ready(Ok(response))
        }
    }

    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let strict = Strict { ready: false, calls: Arc::clone(&calls) };
    let mut client = BearerLayer::new(client_of(&issuer, &clock), read()).layer(strict);
    for _ in 0..2 {
        let request = http::Request::new(String::new());
        assert_eq!(client.ready().await.unwrap().call(request).await.unwrap().status(), 200);
    }
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

/// A codec that leaves messages unchanged.
#[derive(Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, tonic::Status> {
        let mut item = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}

/// A gRPC service that echoes the message.
async fn echo(request: Request) -> Response<Body> {
    let message = request.into_body().collect().await.unwrap().to_bytes();
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let body = Full::new(message).with_trailers(std::future::ready(Some(Ok(trailers))));
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(Body::new(body)).unwrap()
}

async fn call<S>(service: &S) -> Result<Vec<u8>, tonic::Status>
where
    S: tonic::client::GrpcService<tonic::body::Body> + Clone,
    S::Error: std::fmt::Debug,
    S::ResponseBody: BodyExt<Data = Bytes> + Send + 'static,
    <S::ResponseBody as tonic::transport::Body>::Error:
        Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let mut grpc = tonic::client::Grpc::new(service.clone());
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/shop.Shop/Echo");
    let response = grpc.unary(tonic::Request::new(b"apples".to_vec()), path, Plain).await;
    response.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn tonic_client_is_accepted_by_auth_layer() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let router = Router::new()
        .route("/shop.Shop/Echo", post(echo))
        .route_layer(AuthLayer::new(issuer.validator(SHOPPING_API).unwrap()));
    let service = Server::start(router).await;
    let uri = service.url().to_owned();
    let channel = tonic::transport::Endpoint::new(uri).unwrap().connect_lazy();
    let without_token = call(&channel).await.unwrap_err();
    assert_eq!(without_token.code(), tonic::Code::Unauthenticated);
    assert_eq!(without_token.message(), "the call has no access token");
    assert_eq!(without_token.metadata().get("www-authenticate").unwrap(), "Bearer");
    let client = BearerLayer::without_retry(client_of(&issuer, &clock), read()).layer(channel);
    assert_eq!(call(&client).await.unwrap(), b"apples");

    issuer.go_down();
    clock.advance(std::time::Duration::from_secs(7_200));
    let error = call(&client).await.unwrap_err();
    if cfg!(feature = "tonic") {
        assert_eq!(error.code(), tonic::Code::Unavailable);
        assert_eq!(error.message(), "the access token for this call is unavailable");
        let source = std::error::Error::source(&error).unwrap();
        assert!(source.downcast_ref::<TokenRequestError>().unwrap().is_retryable(), "{source}");
    } else {
        assert!(error.message().contains("no access token"), "{error}");
    }
}

#[tokio::test]
async fn grpc_status_unauthenticated_invalidates_the_token() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let refused = tokens.token(&read()).await.unwrap().authorization();
    let first = refused.clone();
    let router = Router::new().route(
        "/shop.Shop/Echo",
        post(async move |request: Request| {
            if request.headers()["authorization"] != refused {
                return echo(request).await;
            }
            let headers = [("content-type", "application/grpc"), ("grpc-status", "16")];
            (headers, "").into_response()
        }),
    );
    let service = Server::start(router).await;
    let endpoint = tonic::transport::Endpoint::new(service.url().to_owned()).unwrap();
    let channel = endpoint.connect_lazy();
    let client = BearerLayer::without_retry(tokens.clone(), read()).layer(channel);
    assert_eq!(call(&client).await.unwrap_err().code(), tonic::Code::Unauthenticated);
    issuer.token_requested(2).await;
    while tokens.token(&read()).await.unwrap().authorization() == first {
        tokio::task::yield_now().await;
    }
    assert_eq!(call(&client).await.unwrap(), b"apples");
}
