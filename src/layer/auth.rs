//! The layer that validates tokens: `AuthLayer`, `AuthService`.

use std::{
    mem,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    access_token::AccessToken,
    bearer::credentials::{self, Credentials},
    error::{AuthErrorKind, InvalidRequest, response},
    layer::future::ResponseFuture,
    validator::{PendingToken, Stop, Validator},
};

/// Validates the Bearer token of every request (RFC 6750), and inserts the
/// [`AccessToken`](crate::AccessToken) into the request's extensions.
///
/// If a request has no valid token, the layer refuses the request and does not call the inner
/// service. `.route_layer(…)` covers neither a fallback nor routes that are added later. If a
/// handler outside the layer uses an extractor of this crate, the extractor responds with 500.
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
///
/// # Tracing
/// If the current span declares the fields `enduser.id` (the OpenTelemetry name for the subject),
/// `logto.client_id` or `logto.organization_id`, the layer records the validated values in them.
/// [The guide](crate::guide::operations#traces) shows how to declare them.
///
/// # CORS
/// Browsers send preflight requests without credentials, so this layer refuses such requests. Add
/// the CORS layer after this layer. The CORS layer then runs first, and answers preflight requests
/// itself:
///
/// ```
/// use axum::{Router, routing::get};
/// use tower_http::cors::CorsLayer;
/// use tower_logto::{AuthLayer, Issuer, Validator};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let validator = Validator::new(&issuer, "https://shopping.api")?;
/// let app: Router = Router::new()
///     .route("/products", get(|| async { "bread" }))
///     .route_layer(AuthLayer::new(validator))
///     .layer(CorsLayer::permissive()); // the last layer runs first
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct AuthLayer {
    validator: Validator,
    optional: bool,
}

impl AuthLayer {
    /// Requires a token in every request.
    pub const fn new(validator: Validator) -> Self {
        Self { validator, optional: false }
    }

    /// Also accepts requests without credentials, or with credentials of a scheme other than
    /// `Bearer`. The extensions of such a request contain an [`Anonymous`](crate::Anonymous)
    /// instead of a token. The layer still refuses invalid tokens.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.optional = true;
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
///
/// # Runtime
/// Fetching keys requires a tokio runtime with I/O and time enabled. Waiting for revocation rules
/// from Redis requires a tokio runtime with time enabled. Nothing else requires a runtime.
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
        let AuthLayer { validator, optional } = &self.layer;
        let checked = match credentials::read(request.headers_mut()) {
            Credentials::Bearer(token) => validator.check(token).map(Some),
            Credentials::None if *optional => Ok(None),
            Credentials::None => Err(AuthErrorKind::MissingToken.into()),
            Credentials::Malformed => Err(InvalidRequest::MalformedCredentials.into()),
            Credentials::Several => Err(InvalidRequest::SeveralAuthorizationHeaders.into()),
        };
        match checked {
            Ok(Some(token)) => {
                token.record_identity();
                request.extensions_mut().insert(token);
            }
            Ok(None) => {
                request.extensions_mut().remove::<AccessToken>();
                request.extensions_mut().insert(validator.anonymous());
            }
            Err(Stop::Refused(kind)) => {
                return ResponseFuture::refused(validator.error(kind), &request);
            }
            Err(Stop::Revoked(error)) => return ResponseFuture::refused(*error, &request),
            Err(Stop::Pending(pending)) => {
                let validator = validator.clone();
                // Only the service that returned `Ready` may handle this request. Therefore, this
                // code takes that service out of `self` and puts a clone in its place. Before the
                // next request, the caller polls the clone.
                let clone = self.inner.clone();
                let ready = mem::replace(&mut self.inner, clone);
                return call_when_finished(ready, request, validator, pending);
            }
        }
        ResponseFuture::inner(self.inner.call(request))
    }
}

/// Waits for keys, for a queued signature check or for the first revocation rules, then calls the
/// inner service. Few requests need this future. It is boxed, so it does not enlarge the response
/// future of the other requests.
fn call_when_finished<S, ReqBody, ResBody>(
    mut ready: S,
    mut request: Request<ReqBody>,
    validator: Validator,
    pending: Box<PendingToken>,
) -> ResponseFuture<S::Future, ResBody, S::Error>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Send + 'static,
    S::Future: Send,
    ReqBody: Send + 'static,
    ResBody: Default,
{
    ResponseFuture::deferred(Box::pin(async move {
        match validator.finish(*pending).await {
            Ok(token) => {
                token.record_identity();
                request.extensions_mut().insert(token);
                ready.call(request).await
            }
            Err(error) => Ok(response::refuse(error, &request)),
        }
    }))
}
