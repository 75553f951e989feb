//! The outgoing layer: attaches a token to every request of an HTTP client.

use std::{
    error::Error,
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode, header::AUTHORIZATION};
use tower_layer::Layer;
use tower_service::Service;

use crate::m2m::{client::TokenClient, request::TokenRequest};

/// Attaches an access token to every request of a tower HTTP client, and asks once more with a new
/// token when the service answers 401 (a gRPC service: `UNAUTHENTICATED` before any message).
///
/// The second attempt needs a second body. [`new`](Self::new) is for bodies that implement
/// `Clone`, [`retry_with`](Self::retry_with) knows another way to copy one, and
/// [`without_retry`](Self::without_retry), for tonic and for streams, only drops the refused
/// token, so that the next call has a new one.
///
/// Every request through the layer carries the token, whatever its host: use it for one API's
/// client, and put what follows redirects inside of it. The service's error type becomes a box,
/// since there may be no token; it then downcasts to [`TokenRequestError`](crate::m2m::TokenRequestError).
///
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, Service, service_fn};
/// use tower_logto::{m2m::{BearerLayer, TokenClient, TokenRequest}, Issuer};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let tokens = TokenClient::new(&issuer, "app id", "app secret")?;
/// let request = TokenRequest::resource("https://shopping.api").scopes(["read:products"]);
///
/// # let http = service_fn(async |_: Request<String>| {
/// #     Ok::<_, std::io::Error>(Response::new(String::new()))
/// # });
/// let mut client = BearerLayer::new(&tokens, request).layer(http);
/// let response = client.call(Request::new(String::new())).await?;
/// # Ok(())
/// # }
/// ```
pub struct BearerLayer<B>(Arc<Attach<B>>);

/// The [`Service`] of a [`BearerLayer`].
pub struct BearerService<S, B> {
    inner: S,
    attach: Arc<Attach<B>>,
}

/// Which token is attached, and how a body is copied for a second attempt.
struct Attach<B> {
    tokens: TokenClient,
    request: TokenRequest,
    copy: fn(&B) -> Option<B>,
}

impl<B> BearerLayer<B> {
    /// With a second attempt after a 401.
    #[must_use]
    pub fn new(tokens: &TokenClient, request: TokenRequest) -> Self
    where
        B: Clone,
    {
        Self::retry_with(tokens, request, |body| Some(body.clone()))
    }

    /// With a second attempt after a 401 if this function copies the body.
    #[must_use]
    pub fn retry_with(
        tokens: &TokenClient,
        request: TokenRequest,
        copy: fn(&B) -> Option<B>,
    ) -> Self {
        Self(Arc::new(Attach { tokens: tokens.clone(), request, copy }))
    }

    /// Without a second attempt, for a body of any type.
    #[must_use]
    pub fn without_retry(tokens: &TokenClient, request: TokenRequest) -> Self {
        Self::retry_with(tokens, request, |_| None)
    }
}

impl<S, B> Layer<S> for BearerLayer<B> {
    type Service = BearerService<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        BearerService { inner, attach: Arc::clone(&self.0) }
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

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The service that was polled ready goes with the request; its clone has yet to be.
        let clone = self.inner.clone();
        let ready = mem::replace(&mut self.inner, clone);
        Box::pin(send(Arc::clone(&self.attach), ready, request))
    }
}

async fn send<S, B, R>(
    attach: Arc<Attach<B>>,
    mut service: S,
    request: Request<B>,
) -> Result<Response<R>, BoxError>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
{
    let token = attach.tokens.token(&attach.request).await?;
    let (mut parts, body) = request.into_parts();
    parts.headers.insert(AUTHORIZATION, token.authorization());
    let spare = (attach.copy)(&body).map(|body| Request::from_parts(parts.clone(), body));
    let request = Request::from_parts(parts, body);
    let response = service.call(request).await.map_err(Into::into)?;
    if !refuses(&response) {
        return Ok(response);
    }
    attach.tokens.invalidate(&token);
    let Some(mut again) = spare else { return Ok(response) };
    // Without another token, the refusal is the answer.
    let Ok(fresh) = attach.tokens.token(&attach.request).await else { return Ok(response) };
    if fresh.is(&token) {
        return Ok(response);
    }
    // Not held across the second attempt: it may hold the connection.
    drop(response);
    again.headers_mut().insert(AUTHORIZATION, fresh.authorization());
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
    service.call(again).await.map_err(Into::into)
}

fn refuses<R>(response: &Response<R>) -> bool {
    let grpc_unauthenticated =
        || response.headers().get("grpc-status").is_some_and(|status| status == "16");
    response.status() == StatusCode::UNAUTHORIZED || grpc_unauthenticated()
}

impl<B> Clone for BearerLayer<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Clone, B> Clone for BearerService<S, B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), attach: Arc::clone(&self.attach) }
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
            .field("attach", &self.attach)
            .finish()
    }
}

impl<B> fmt::Debug for Attach<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attach")
            .field("tokens", &self.tokens)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

type BoxError = Box<dyn Error + Send + Sync>;
