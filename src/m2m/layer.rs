//! A layer for tower HTTP clients that attaches a token to every request.

use std::{
    error::Error,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{
    HeaderMap, Request, Response,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use tower_layer::Layer;
use tower_service::Service;

use crate::m2m::{
    client::TokenClient, error::TokenRequestError, headers::is_token_refusal,
    token_request::TokenRequest,
};

/// Attaches an access token to every request of a tower HTTP client.
///
/// If the service responds with `401`, or a gRPC service with `UNAUTHENTICATED` before any message,
/// the layer [invalidates](TokenClient::invalidate) the token. It then sends the request once more
/// with the [successor](TokenClient::successor), if it can copy the body. A `401` with challenges
/// but none for Bearer does not count:
///
/// | constructor | copies the body |
/// |---|---|
/// | [`new`](Self::new) | with `Clone` |
/// | [`retry_with`](Self::retry_with) | with your function |
/// | [`without_retry`](Self::without_retry) | never: for tonic and for streams |
///
/// The layer sends the token with every request, regardless of its host. Use it for the client
/// of one API. Put a layer that follows redirects inside of it.
///
/// The layer is always ready. A call first waits for its token, and only then for the service to be
/// ready: a call that waits for a token holds no permit of a concurrency limit.
///
/// The error type of the service becomes a boxed error. If no token is available, that box contains
/// a [`TokenRequestError`](crate::m2m::TokenRequestError). With the feature `tonic`, it contains a
/// `tonic::Status` for gRPC requests.
///
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, Service, service_fn};
/// use tower_logto::{m2m::{BearerLayer, ClientSecret, TokenClient, TokenRequest}, Issuer};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let tokens = TokenClient::new(&issuer, "app id", ClientSecret::new("app secret"))?;
/// let request = TokenRequest::resource("https://shopping.api").scopes(["read:products"]);
///
/// # let http = service_fn(async |_: Request<String>| {
/// #     Ok::<_, std::io::Error>(Response::new(String::new()))
/// # });
/// let mut client = BearerLayer::new(tokens, request).layer(http);
/// let response = client.call(Request::new(String::new())).await?;
/// # Ok(())
/// # }
/// ```
pub struct BearerLayer<B>(Arc<BearerConfig<B>>);

/// The [`Service`] of a [`BearerLayer`].
pub struct BearerService<S, B> {
    inner: S,
    config: Arc<BearerConfig<B>>,
}

/// Which token to attach, and how to copy a body.
struct BearerConfig<B> {
    tokens: TokenClient,
    request: TokenRequest,
    copy: fn(&B) -> Option<B>,
}

impl<B> BearerLayer<B> {
    /// Retries once after a `401`, with a clone of the body.
    pub fn new(tokens: TokenClient, request: TokenRequest) -> Self
    where
        B: Clone,
    {
        Self::retry_with(tokens, request, |body| Some(body.clone()))
    }

    /// Retries once after a `401`, if `copy` returns a copy of the body.
    pub fn retry_with(
        tokens: TokenClient,
        request: TokenRequest,
        copy: fn(&B) -> Option<B>,
    ) -> Self {
        Self(Arc::new(BearerConfig { tokens, request, copy }))
    }

    /// Does not retry, so the body can have any type. It starts the request for a new token, which
    /// later requests get.
    pub fn without_retry(tokens: TokenClient, request: TokenRequest) -> Self {
        Self::retry_with(tokens, request, |_| None)
    }
}

impl<S, B> Layer<S> for BearerLayer<B> {
    type Service = BearerService<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        BearerService { inner, config: Arc::clone(&self.0) }
    }
}

impl<S, B, R> Service<Request<B>> for BearerService<S, B>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // A ready service may hold a permit, which must not wait for a token.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Box::pin(send(Arc::clone(&self.config), self.inner.clone(), request))
    }
}

async fn send<S, B, R>(
    config: Arc<BearerConfig<B>>,
    mut service: S,
    request: Request<B>,
) -> Result<Response<R>, BoxError>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
{
    let token = config.tokens.token(&config.request).await;
    let token = token.map_err(|error| boxed(error, request.headers()))?;
    let (mut parts, body) = request.into_parts();
    parts.headers.insert(AUTHORIZATION, token.authorization());
    let copy = (config.copy)(&body).map(|body| Request::from_parts(parts.clone(), body));
    let request = Request::from_parts(parts, body);
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
    let response = service.call(request).await.map_err(Into::into)?;
    if !is_refusal(&response) {
        return Ok(response);
    }
    let Some(mut retry) = copy else {
        config.tokens.invalidate(&token);
        return Ok(response);
    };
    // Without another token, the refusal is the response.
    let Ok(fresh) = config.tokens.successor(&token).await else { return Ok(response) };
    if fresh.is_same(&token) {
        return Ok(response);
    }
    // The response may hold the connection that the retry needs.
    drop(response);
    retry.headers_mut().insert(AUTHORIZATION, fresh.authorization());
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
    service.call(retry).await.map_err(Into::into)
}

/// tonic converts an error to a status only if it is one.
fn boxed(error: TokenRequestError, headers: &HeaderMap) -> BoxError {
    #[cfg(feature = "tonic")]
    if is_grpc(headers) {
        return Box::new(tonic::Status::from(error));
    }
    let _ = headers;
    Box::new(error)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE);
    media_type.is_some_and(|media_type| media_type.as_bytes().starts_with(b"application/grpc"))
}

fn is_refusal<R>(response: &Response<R>) -> bool {
    let headers = response.headers();
    let is_grpc = is_grpc(headers);
    let is_unauthenticated = headers.get("grpc-status").is_some_and(|status| status == "16");
    is_token_refusal(response.status(), headers) || is_grpc && is_unauthenticated
}

impl<B> Clone for BearerLayer<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Clone, B> Clone for BearerService<S, B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), config: Arc::clone(&self.config) }
    }
}

impl<B> fmt::Debug for BearerLayer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BearerLayer").field(&self.0).finish()
    }
}

impl<S: fmt::Debug, B> fmt::Debug for BearerService<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerService")
            .field("inner", &self.inner)
            .field("config", &self.config)
            .finish()
    }
}

impl<B> fmt::Debug for BearerConfig<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerConfig")
            .field("tokens", &self.tokens)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

type BoxError = Box<dyn Error + Send + Sync>;
