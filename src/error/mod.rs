//! Why a request is refused, and THE one mapping to a status and a challenge.

mod config;
mod invalid_request;
mod invalid_token;
mod keys;

pub use config::ConfigError;
pub use invalid_request::InvalidRequest;
pub use invalid_token::InvalidToken;
pub use keys::{KeysError, KeysUnavailable};

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};

use crate::{
    bearer::challenge::{ChallengeError, ChallengeSettings},
    scope::{RequiredScopes, TokenKind},
};

/// Why a request is refused.
///
/// [`kind`](Self::kind) says it for your code and [`Display`](fmt::Display) for your operator, with
/// what to do about it. The caller gets [`status`](Self::status) and
/// [`challenge`](Self::challenge), which name the standard's code and no more. Every refusal of
/// this crate carries its `AuthError` in the response's extensions, so that a `map_response`
/// outside the layer can write a body:
///
/// ```
/// use http::Response;
/// use tower_logto::AuthError;
///
/// fn problem(response: Response<String>) -> Response<String> {
///     let Some(error) = response.extensions().get::<AuthError>() else { return response };
///     let body = format!("{{\"status\":{}}}", error.status().as_u16());
///     response.map(|_| body)
/// }
/// ```
#[derive(Clone)]
pub struct AuthError {
    kind: AuthErrorKind,
    challenge: Option<Arc<ChallengeSettings>>,
}

/// The kinds of [`AuthError`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AuthErrorKind {
    /// No credentials, or those of another scheme: 401 and a bare challenge.
    MissingToken,
    /// The request itself is malformed: 400 `invalid_request`.
    InvalidRequest(InvalidRequest),
    /// The token is not one to trust here: 401 `invalid_token`.
    InvalidToken(InvalidToken),
    /// A good token without the scopes: 403 `insufficient_scope`, with what is demanded.
    InsufficientScope(RequiredScopes),
    /// A good token for another organization, or for none: 403 `insufficient_scope`.
    WrongOrganization,
    /// A good token of a kind that this route does not let in: 403 `insufficient_scope`.
    WrongKind(TokenKind),
    /// The issuer's keys cannot be had at the moment: 503 with `Retry-After`.
    KeysUnavailable(KeysUnavailable),
    /// A guard or an extractor without an [`AuthLayer`](crate::AuthLayer) around it: 500.
    MissingLayer,
    /// `RequireOrganization::path` names a parameter that the route does not have: 500.
    UnknownPathParameter(Cow<'static, str>),
}

impl From<InvalidToken> for AuthErrorKind {
    fn from(reason: InvalidToken) -> Self {
        Self::InvalidToken(reason)
    }
}

impl From<KeysUnavailable> for AuthErrorKind {
    fn from(unavailable: KeysUnavailable) -> Self {
        Self::KeysUnavailable(unavailable)
    }
}

impl From<InvalidRequest> for AuthErrorKind {
    fn from(reason: InvalidRequest) -> Self {
        Self::InvalidRequest(reason)
    }
}

impl AuthError {
    pub(crate) const fn new(
        kind: AuthErrorKind,
        challenge: Option<Arc<ChallengeSettings>>,
    ) -> Self {
        Self { kind, challenge }
    }

    /// Why, for your code.
    #[must_use]
    pub const fn kind(&self) -> &AuthErrorKind {
        &self.kind
    }

    /// The status of the answer (RFC 6750 §3.1; 503 and 500 where the caller is not at fault).
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self.kind {
            AuthErrorKind::InvalidRequest(_) => StatusCode::BAD_REQUEST,
            AuthErrorKind::MissingToken | AuthErrorKind::InvalidToken(_) => {
                StatusCode::UNAUTHORIZED
            }
            AuthErrorKind::InsufficientScope(_)
            | AuthErrorKind::WrongOrganization
            | AuthErrorKind::WrongKind(_) => StatusCode::FORBIDDEN,
            AuthErrorKind::KeysUnavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            AuthErrorKind::MissingLayer | AuthErrorKind::UnknownPathParameter(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// The gRPC status code of the answer, for a handler that makes a `tonic::Status` of it:
    /// INVALID_ARGUMENT, UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE or INTERNAL.
    #[must_use]
    pub const fn grpc_status(&self) -> u16 {
        match self.status() {
            StatusCode::BAD_REQUEST => 3,
            StatusCode::UNAUTHORIZED => 16,
            StatusCode::FORBIDDEN => 7,
            StatusCode::SERVICE_UNAVAILABLE => 14,
            _ => 13,
        }
    }

    /// The `error` code of RFC 6750 §3.1; none where no token was sent, or it is not the caller's
    /// fault.
    #[must_use]
    pub const fn code(&self) -> Option<&'static str> {
        match self.kind {
            AuthErrorKind::InvalidRequest(_) => Some("invalid_request"),
            AuthErrorKind::InvalidToken(_) => Some("invalid_token"),
            AuthErrorKind::InsufficientScope(_)
            | AuthErrorKind::WrongOrganization
            | AuthErrorKind::WrongKind(_) => Some("insufficient_scope"),
            _ => None,
        }
    }

    /// A short description for the caller; never anything of the token.
    #[must_use]
    pub const fn description(&self) -> Option<&'static str> {
        match &self.kind {
            AuthErrorKind::InvalidRequest(reason) => Some(reason.for_caller()),
            AuthErrorKind::InvalidToken(reason) => Some(reason.for_caller()),
            AuthErrorKind::InsufficientScope(_) => Some("the access token lacks a required scope"),
            AuthErrorKind::WrongOrganization => {
                Some("the access token is not for this organization")
            }
            AuthErrorKind::WrongKind(_) => Some("the access token is of another kind"),
            _ => None,
        }
    }

    /// The value of `WWW-Authenticate` (RFC 6750 §3, RFC 9728 §5.1); none with a 503 or a 500.
    #[must_use]
    pub fn challenge(&self) -> Option<HeaderValue> {
        if self.status().is_server_error() {
            return None;
        }
        let scope = match &self.kind {
            AuthErrorKind::InsufficientScope(required) => Some(required as &dyn fmt::Display),
            _ => None,
        };
        let error = ChallengeError { error: self.code(), description: self.description(), scope };
        Some(match &self.challenge {
            Some(settings) => settings.header(error),
            None => ChallengeSettings::default().header(error),
        })
    }

    /// How long the caller should wait, in whole seconds and at least one; only with a 503.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.kind {
            AuthErrorKind::KeysUnavailable(unavailable) => {
                let seconds = unavailable.retry_after.as_secs_f64().ceil().clamp(1.0, 86_400.0);
                Some(Duration::from_secs_f64(seconds))
            }
            _ => None,
        }
    }

    /// The refusal as a response with an empty body, and logs it: at debug, at error for a wiring
    /// mistake.
    #[must_use]
    pub fn response<B: Default>(self) -> Response<B> {
        self.log();
        let mut response = Response::new(B::default());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        if let Some(challenge) = self.challenge() {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(retry_after) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs()));
        }
        response.extensions_mut().insert(self);
        response
    }

    /// The same for a gRPC caller: a trailers-only answer with `grpc-status`, so that clients see
    /// UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE and so on.
    pub(crate) fn grpc_response<B: Default>(self) -> Response<B> {
        let status = self.grpc_status();
        let message = self.description();
        let mut response = self.response();
        *response.status_mut() = StatusCode::OK;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(status));
        if let Some(message) = message {
            headers.insert("grpc-message", HeaderValue::from_static(message));
        }
        response
    }

    fn log(&self) {
        if self.status() == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(reason = %self, "request refused: the service is wired wrongly");
        } else {
            tracing::debug!(status = self.status().as_u16(), reason = %self, "request refused");
        }
    }
}

/// For the operator: the reason, and what to do about it.
impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            AuthErrorKind::MissingToken => f.write_str(
                "no access token: send `Authorization: Bearer <token>`; query and body are not read",
            ),
            AuthErrorKind::InvalidRequest(reason) => reason.fmt(f),
            AuthErrorKind::InvalidToken(reason) => reason.fmt(f),
            AuthErrorKind::InsufficientScope(required) => write!(
                f,
                "the token lacks scope: {} {required} demanded; assign the permission to a role \
                 of the user or app, and ask for it in the token request",
                required.demand()
            ),
            AuthErrorKind::WrongOrganization => f.write_str(
                "the token is for no organization or for another one than the request's: ask Logto \
                 for a token with `organization_id`",
            ),
            AuthErrorKind::WrongKind(kind @ TokenKind::Global) => {
                write!(f, "{kind} does not open this route: it names another kind with `.kind()`")
            }
            AuthErrorKind::WrongKind(kind @ TokenKind::OrganizationResource) => write!(
                f,
                "{kind} does not open this route: unless the guard names another kind with \
                 `.kind()`, a RequireOrganization guard outside this one (or \
                 `token.in_organization(id)?`) would let it in; `.any_kind()` would skip the check"
            ),
            AuthErrorKind::WrongKind(kind @ TokenKind::OrganizationPermissions) => write!(
                f,
                "{kind} does not open this route: a guard with \
                 `.kind(TokenKind::OrganizationPermissions)`, inside a RequireOrganization guard, \
                 would let it in"
            ),
            AuthErrorKind::KeysUnavailable(unavailable) => {
                write!(f, "the issuer's keys cannot be had: {}", unavailable.cause)
            }
            AuthErrorKind::MissingLayer => f.write_str(
                "no AuthLayer around this route: add `.route_layer(AuthLayer::new(validator))` \
                 after (outside) guards and handlers that need a token",
            ),
            AuthErrorKind::UnknownPathParameter(name) => {
                write!(f, "RequireOrganization::path({name:?}): the route has no such parameter")
            }
        }
    }
}

impl fmt::Debug for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AuthError").field(&self.kind).finish()
    }
}

impl Error for AuthError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            AuthErrorKind::KeysUnavailable(unavailable) => Some(&unavailable.cause),
            AuthErrorKind::InvalidToken(reason) => Some(reason),
            AuthErrorKind::InvalidRequest(reason) => Some(reason),
            _ => None,
        }
    }
}
