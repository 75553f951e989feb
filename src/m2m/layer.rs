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
/// If the service refuses the token, the layer [invalidates](TokenClient::invalidate) the token. A
/// refusal is a response with `401`, or a gRPC response with the status `UNAUTHENTICATED` and no
/// messages. A `401` that has challenges, but no Bearer challenge, does not count as a refusal.
///
/// If the layer can copy the request's body, the layer repeats a refused request once, with the
/// token's [successor](TokenClient::successor). The constructor decides how the layer copies the
/// body:
///
/// | constructor | how the layer copies the body |
/// |---|---|
/// | [`new`](Self::new) | with `Clone` |
/// | [`retry_with`](Self::retry_with) | with your function |
/// | [`without_retry`](Self::without_retry) | not at all (for tonic and for streams) |
///
/// The layer sends the token with every request, regardless of the request's host. Use the layer
/// only for a client that calls one API. If another layer follows redirects, put that layer inside
/// the `BearerLayer`. Otherwise, the token would be sent to the target of a redirect too.
///
/// The layer is always ready. A call first waits for its token. Only then does the call wait until
/// the inner service is ready. A call that waits for a token therefore holds no permit of a
/// concurrency limit.
///
/// The errors of the [`BearerService`] are boxed. If no token is available, the box contains a
/// [`TokenRequestError`](crate::m2m::TokenRequestError). If the feature `tonic` is enabled and the
/// request is a gRPC request, the layer converts this `TokenRequestError` to a `tonic::Status`.
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

/// The token client, the [`TokenRequest`] whose token the layer attaches, and the function that
/// copies a request's body.
struct BearerConfig<B> {
    tokens: TokenClient,
    request: TokenRequest,
    copy: fn(&B) -> Option<B>,
}

impl<B> BearerLayer<B> {
    /// Creates a layer that repeats a refused request once, with a clone of the body.
    pub fn new(tokens: TokenClient, request: TokenRequest) -> Self
    where
        B: Clone,
    {
        Self::retry_with(tokens, request, |body| Some(body.clone()))
    }

    /// Creates a layer that copies the body of each request with `copy`. If `copy` returns a copy
    /// and the service refuses the request, the layer repeats the request once. The layer calls
    /// `copy` before it sends a request, because sending consumes the body.
    pub fn retry_with(
        tokens: TokenClient,
        request: TokenRequest,
        copy: fn(&B) -> Option<B>,
    ) -> Self {
        Self(Arc::new(BearerConfig { tokens, request, copy }))
    }

    /// Creates a layer that does not retry. The body can therefore have any type. If a token is
    /// refused, the layer starts to fetch a new token in the background, and uses the new token for
    /// later requests.
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
        // `send` first gets a token, and then waits until the inner service is ready. If `send`
        // waited for the inner service first, the inner service could hold a permit of a
        // concurrency limit while the call waits for its token.
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
    // If no other token is available, the caller gets the response with the refusal.
    let Ok(fresh) = config.tokens.successor(&token).await else { return Ok(response) };
    if fresh.is_same(&token) {
        return Ok(response);
    }
    // Drops the response first, because it may hold the connection that the retry needs.
    drop(response);
    retry.headers_mut().insert(AUTHORIZATION, fresh.authorization());
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
    service.call(retry).await.map_err(Into::into)
}

/// Boxes the error. For a gRPC request, first converts the error to a `tonic::Status`, because
/// tonic preserves the gRPC code of an error only if the error is a `Status`.
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
