//! Guards per route: scopes, and the organization of the request.

use std::{
    borrow::Cow,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderName, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    access_token::AccessToken,
    error::{AuthError, InvalidRequest},
    layer::future::ResponseFuture,
    scope::{RequiredScopes, TokenKind},
};

/// Demands scopes on a route, inside an [`AuthLayer`](crate::AuthLayer): 403 without them.
///
/// Which kinds of token may bring them is said in [`RequiredScopes`].
///
/// ```
/// use axum::{Router, routing::get};
/// use tower_logto::{AuthLayer, Issuer, RequireScopes, Validator};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let validator = Validator::new(&issuer, "https://shopping.api")?;
/// let app: Router = Router::new()
///     .route("/audit", get(|| async { "all is well" }))
///     .route_layer(RequireScopes::all(["audit:read"]))
///     .route_layer(AuthLayer::new(validator)); // the last layer runs first
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RequireScopes(Arc<RequiredScopes>);

impl RequireScopes {
    /// Every one of these scopes.
    ///
    /// # Panics
    /// When there is none, or one that RFC 6749 §3.3 does not allow: no token could pass.
    #[must_use]
    pub fn all<S: Into<Cow<'static, str>>>(scopes: impl IntoIterator<Item = S>) -> Self {
        Self::new(RequiredScopes::all(scopes))
    }

    /// At least one of these scopes.
    ///
    /// # Panics
    /// As [`all`](Self::all).
    #[must_use]
    pub fn any<S: Into<Cow<'static, str>>>(scopes: impl IntoIterator<Item = S>) -> Self {
        Self::new(RequiredScopes::any(scopes))
    }

    /// Scopes from tokens of this kind only: [`RequiredScopes::kind`].
    #[must_use]
    pub fn kind(self, kind: TokenKind) -> Self {
        Self(Arc::new(Arc::unwrap_or_clone(self.0).kind(kind)))
    }

    /// Scopes from tokens of every kind: [`RequiredScopes::any_kind`].
    #[must_use]
    pub fn any_kind(self) -> Self {
        Self(Arc::new(Arc::unwrap_or_clone(self.0).any_kind()))
    }

    /// These scopes.
    ///
    /// # Panics
    /// As [`all`](Self::all).
    #[must_use]
    #[allow(
        clippy::panic,
        reason = "found when the router is built, as axum's own wrong paths are"
    )]
    pub fn new(required: RequiredScopes) -> Self {
        if let Some(scope) = required.first_invalid() {
            panic!("RequireScopes: {scope:?} is not a scope (RFC 6749 §3.3)");
        }
        Self(Arc::new(required))
    }
}

impl Guard for RequireScopes {
    fn admit<B>(&self, request: &mut Request<B>) -> Result<(), AuthError> {
        AccessToken::from_extensions(request.extensions())?.require(&self.0)
    }
}

impl<S> Layer<S> for RequireScopes {
    type Service = Guarded<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded { inner, guard: self.clone() }
    }
}

/// Demands a token of the organization that the request is about, inside an
/// [`AuthLayer`](crate::AuthLayer): 403 for a global token and for another organization's.
///
/// It ties the token to that organization, so that [`RequireScopes`] and
/// [`Scoped`](crate::Scoped) inside it accept the organization's scopes.
///
/// ```
/// use axum::{Router, routing::get};
/// use tower_logto::{AuthLayer, Issuer, RequireOrganization, RequireScopes, Validator};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let validator = Validator::new(&issuer, "https://shopping.api")?;
/// let app: Router = Router::new()
///     .route("/orgs/{org_id}/members", get(|| async { "alice" }))
///     .route_layer(RequireScopes::all(["read:members"]))
///     .route_layer(RequireOrganization::path("org_id"))
///     .route_layer(AuthLayer::new(validator));
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RequireOrganization(Source);

/// Where a request names its organization.
#[derive(Debug, Clone)]
enum Source {
    #[cfg(feature = "axum")]
    Path(Cow<'static, str>),
    Header(HeaderName),
}

impl RequireOrganization {
    /// The organization is this axum path parameter, decoded; every value of a repeated name must
    /// match. A route without it answers 500.
    #[cfg(feature = "axum")]
    #[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
    #[must_use]
    pub fn path(parameter: impl Into<Cow<'static, str>>) -> Self {
        Self(Source::Path(parameter.into()))
    }

    /// The organization is the value of this header, which must come exactly once: 400 otherwise.
    #[must_use]
    pub const fn header(name: HeaderName) -> Self {
        Self(Source::Header(name))
    }
}

impl Guard for RequireOrganization {
    fn admit<B>(&self, request: &mut Request<B>) -> Result<(), AuthError> {
        let token = AccessToken::from_extensions(request.extensions())?.clone();
        let tied = match &self.0 {
            #[cfg(feature = "axum")]
            Source::Path(parameter) => path::tie(&token, parameter, request.extensions_mut())?,
            Source::Header(name) => {
                let mut values = request.headers().get_all(name).iter();
                let (Some(Ok(id)), None) = (values.next().map(|id| id.to_str()), values.next())
                else {
                    return Err(token.refuse(InvalidRequest::OrganizationHeader.into()));
                };
                token.in_organization(id)?
            }
        };
        request.extensions_mut().insert(tied);
        Ok(())
    }
}

impl<S> Layer<S> for RequireOrganization {
    type Service = Guarded<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded { inner, guard: self.clone() }
    }
}

#[cfg(feature = "axum")]
mod path {
    use std::{
        mem,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use axum::extract::{
        FromRequestParts, RawPathParams,
        rejection::RawPathParamsRejection::{self, InvalidUtf8InPathParam},
    };
    use http::Extensions;

    use super::{AccessToken, AuthError, Request};
    use crate::error::AuthErrorKind;

    /// Ties the token to the organization that every value of this parameter names.
    pub(super) fn tie(
        token: &AccessToken,
        parameter: &str,
        extensions: &mut Extensions,
    ) -> Result<AccessToken, AuthError> {
        let unknown =
            || token.refuse(AuthErrorKind::UnknownPathParameter(parameter.to_owned().into()));
        let params = match raw_path_params(extensions) {
            Some(Ok(params)) => params,
            Some(Err(InvalidUtf8InPathParam(_))) => {
                return Err(token.refuse(AuthErrorKind::WrongOrganization));
            }
            _ => return Err(unknown()),
        };
        let named = params.iter().filter(|(name, _)| *name == parameter);
        let mut tied = None;
        for (_, id) in named {
            tied = Some(token.in_organization(id)?);
        }
        tied.ok_or_else(unknown)
    }

    /// axum's own parameters, which it decodes from the extensions without waiting for anything.
    fn raw_path_params(
        extensions: &mut Extensions,
    ) -> Option<Result<RawPathParams, RawPathParamsRejection>> {
        let (mut parts, ()) = Request::new(()).into_parts();
        mem::swap(&mut parts.extensions, extensions);
        let params = {
            let extraction = pin!(RawPathParams::from_request_parts(&mut parts, &()));
            match extraction.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(params) => Some(params),
                Poll::Pending => None,
            }
        };
        mem::swap(&mut parts.extensions, extensions);
        params
    }
}

/// The service of a guard.
#[derive(Debug, Clone)]
pub struct Guarded<S, G> {
    inner: S,
    guard: G,
}

impl<S, G, ReqBody, ResBody> Service<Request<ReqBody>> for Guarded<S, G>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    G: Guard,
    ResBody: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let admitted = self.guard.admit(&mut request);
        match admitted {
            Ok(()) => ResponseFuture::inner(self.inner.call(request)),
            Err(error) => ResponseFuture::refused(error, &request),
        }
    }
}

/// What a guard looks at before the request goes on; sealed by this module's privacy.
pub trait Guard {
    /// Lets the request go on, or says why not.
    ///
    /// # Errors
    /// Why not.
    fn admit<B>(&self, request: &mut Request<B>) -> Result<(), AuthError>;
}
