//! The entrance: AuthLayer → AuthService → ResponseFuture.

use std::{
    mem,
    task::{Context, Poll},
};

use http::{
    Method, Request, Response,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    access_token::AccessToken,
    bearer::credentials::{self, Credentials},
    error::{AuthErrorKind, InvalidRequest},
    layer::future::{self, ResponseFuture},
    validator::Validator,
};

/// Validates the Bearer token of every request, and leaves the
/// [`AccessToken`](crate::AccessToken) in the request's extensions (RFC 6750).
///
/// A request without a good token is answered here, and does not reach the inner service. Routes
/// added after `.route_layer(…)`, and a fallback, are not covered by it; an extractor in the
/// handler's signature then answers 500 instead of letting the request in.
///
/// Keys are fetched on the tokio runtime of the request that needs them, which wants its I/O and its
/// timer on; everything else asks for no runtime.
///
/// ```
/// use tower::{ServiceBuilder, service_fn};
/// use tower_logto::{AccessToken, AuthLayer, Issuer, Validator};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let validator = Validator::new(&issuer, "https://shopping.api")?;
/// let service = ServiceBuilder::new()
///     .layer(AuthLayer::new(validator))
///     .service(service_fn(|request: http::Request<String>| async move {
///         let token = request.extensions().get::<AccessToken>();
///         let subject = token.map(|token| token.subject().to_owned());
///         Ok::<_, std::convert::Infallible>(http::Response::new(subject.unwrap_or_default()))
///     }));
/// # let _: &dyn tower::Service<_, Response = _, Error = _, Future = _> = &service;
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct AuthLayer {
    validator: Validator,
    optional: bool,
    allow_preflight: bool,
}

impl AuthLayer {
    /// Demands a token.
    #[must_use]
    pub const fn new(validator: Validator) -> Self {
        Self { validator, optional: false, allow_preflight: false }
    }

    /// Lets requests without credentials pass, and those with another scheme's, with
    /// [`Anonymous`](crate::Anonymous) in their extensions; a bad token is still refused.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Lets CORS preflights pass, this layer and the guards inside: `OPTIONS` with `Origin` and
    /// `Access-Control-Request-Method`, which browsers send without credentials.
    ///
    /// Needed only where a CORS layer stands inside this one; outside, it answers them itself. Every
    /// stranger can send such a request, so nothing but that CORS layer may answer it: a handler
    /// that serves OPTIONS (`any(…)`, a proxy) would run without a token. Extractors refuse still, their `Option` forms do not.
    #[must_use]
    pub const fn allow_preflight(mut self) -> Self {
        self.allow_preflight = true;
        self
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService { inner, layer: self.clone() }
    }
}

/// The service of [`AuthLayer`].
#[derive(Debug, Clone)]
pub struct AuthService<S> {
    inner: S,
    layer: AuthLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for AuthService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    ReqBody: Send + 'static,
    ResBody: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let AuthLayer { validator, optional, allow_preflight } = &self.layer;
        let preflight = *allow_preflight && is_preflight(&request);
        let refuse = |kind| Err(validator.refuse(kind));
        let verdict = match credentials::read(request.headers_mut()) {
            Credentials::Bearer(token) => match validator.try_validate(token) {
                Some(verdict) => verdict.map(Some),
                None => {
                    let token = token.to_owned();
                    let validator = validator.clone();
                    // The service that was polled ready answers this request; the clone, which was
                    // not, is polled before the next one.
                    let clone = self.inner.clone();
                    let ready = mem::replace(&mut self.inner, clone);
                    return call_with_keys(ready, request, validator, token);
                }
            },
            Credentials::None if *optional || preflight => Ok(None),
            Credentials::None => refuse(AuthErrorKind::MissingToken),
            Credentials::Malformed => refuse(InvalidRequest::MalformedCredentials.into()),
            Credentials::Several => refuse(InvalidRequest::SeveralAuthorizationHeaders.into()),
        };
        match verdict {
            Ok(Some(token)) => drop(request.extensions_mut().insert(token)),
            Ok(None) => {
                request.extensions_mut().remove::<AccessToken>();
                request.extensions_mut().insert(validator.anonymous(preflight));
            }
            Err(error) => return ResponseFuture::refused(error, &request),
        }
        ResponseFuture::inner(self.inner.call(request))
    }
}

/// The rare path: keys are waited for, in a box.
fn call_with_keys<S, ReqBody, ResBody>(
    mut ready: S,
    mut request: Request<ReqBody>,
    validator: Validator,
    token: String,
) -> ResponseFuture<S::Future, ResBody, S::Error>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Send + 'static,
    S::Future: Send,
    ReqBody: Send + 'static,
    ResBody: Default,
{
    let future = Box::pin(async move {
        match validator.validate(&token).await {
            Ok(token) => {
                request.extensions_mut().insert(token);
                ready.call(request).await
            }
            Err(error) => Ok(future::refusal(error, future::is_grpc(&request))),
        }
    });
    ResponseFuture::deferred(future)
}

fn is_preflight<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}
