//! The error that says why a token request failed, and what to do about it.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use http::StatusCode;
use reqwest::Url;

use crate::{
    escape::all_quotable,
    http_client::describe_failure,
    m2m::{
        error_inner::{ErrorInner, ServerError},
        headers::is_temporary,
        token_request::TokenRequest,
    },
};

/// The reason why a token request failed. The error is cheap to clone.
///
/// [`Display`](fmt::Display) tells the operator what happened and what to do about it. The text
/// contains neither the secret nor a token.
///
/// ```no_run
/// # async fn example(tokens: tower_logto::m2m::TokenClient) {
/// # let request = tower_logto::m2m::TokenRequest::resource("https://shopping.api");
/// if let Err(error) = tokens.token(&request).await {
///     match error.code() {
///         Some("access_denied") => println!("not a member of the organization"),
///         _ if error.is_retryable() => println!("retry after {:?}", error.retry_after()),
///         _ => println!("{error}"),
///     }
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct TokenRequestError {
    inner: Arc<Inner>,
    retry_after: Option<Duration>,
}

/// The kinds of [`TokenRequestError`].
///
/// ```
/// use tower_logto::m2m::{TokenRequestError, TokenRequestErrorKind};
///
/// fn needs_an_operator(error: &TokenRequestError) -> bool {
///     error.kind() == TokenRequestErrorKind::Refused && !error.is_retryable()
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenRequestErrorKind {
    /// The token request was not sent, because it is invalid or because the call was made outside a
    /// tokio runtime.
    NotSent,
    /// The token endpoint did not respond in time.
    Timeout,
    /// Connecting to the token endpoint failed, or the connection broke. An error also has this
    /// kind if the HTTP client could not be built. The same applies if a panic, or the shutdown of
    /// the tokio runtime, interrupted the token request.
    Connection,
    /// The token endpoint refused the request with an error of RFC 6749 §5.2.
    Refused,
    /// The response is not a token response. It may be a proxy's error page, a server error, a
    /// redirect, or a body that is truncated or too large.
    UnexpectedResponse,
    /// Logto issued a token that lacks some of the required scopes.
    MissingScopes,
    /// Too many calls are already waiting for tokens from this client, or Logto recently refused
    /// too many token requests. The limit on refusals does not apply to a [`TokenRequest`] that is
    /// already in the client's cache.
    Overloaded,
}

impl TokenRequestErrorKind {
    /// Returns the label of this kind in metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Refused => "refused",
            Self::UnexpectedResponse => "unexpected_response",
            Self::MissingScopes => "missing_scopes",
            Self::Overloaded => "overloaded",
        }
    }
}

/// The contents of a [`TokenRequestError`]. The field `details` contains the required scopes that
/// were not granted.
type Inner = ErrorInner<TokenRequestErrorKind, Box<[Box<str>]>>;

impl TokenRequestError {
    pub(crate) fn new(
        kind: TokenRequestErrorKind,
        request: &TokenRequest,
        message: impl fmt::Display,
    ) -> Self {
        new_inner(kind, request, message).into()
    }

    /// Creates an error of the kind `Connection`, and appends the cause to the message.
    pub(crate) fn connection(
        request: &TokenRequest,
        url: &Url,
        message: &str,
        cause: &reqwest::Error,
    ) -> Self {
        let message = format!("{message}: {}", describe_failure(url, cause));
        new_inner(TokenRequestErrorKind::Connection, request, message).into()
    }

    pub(crate) fn refused(
        request: &TokenRequest,
        url: &Url,
        status: StatusCode,
        error: ServerError,
    ) -> Self {
        let message = format!("{url} responded with {status}");
        let mut inner = new_inner(TokenRequestErrorKind::Refused, request, message);
        inner.status = Some(status);
        inner.hint = refusal_hint(request, url, status, &error);
        inner.is_retryable = is_temporary(status)
            || matches!(&*error.code, "temporarily_unavailable" | "server_error" | "slow_down");
        inner.server_error = Some(error);
        inner.into()
    }

    pub(crate) fn unexpected(
        request: &TokenRequest,
        url: &Url,
        status: StatusCode,
        message: &str,
    ) -> Self {
        let mut inner = new_inner(TokenRequestErrorKind::UnexpectedResponse, request, message);
        inner.status = Some(status);
        inner.hint = status_hint(url, status);
        // A 200 with an unexpected body may be a proxy's maintenance page, so a retry may succeed.
        inner.is_retryable = status.is_success() || is_temporary(status);
        inner.into()
    }

    pub(crate) fn missing_scopes_error(request: &TokenRequest, missing: Box<[Box<str>]>) -> Self {
        let message = format!("Logto did not grant the scopes {:?}", missing.join(" "));
        let mut inner = new_inner(TokenRequestErrorKind::MissingScopes, request, message);
        inner.status = Some(StatusCode::OK);
        inner.details = missing;
        let hint = if request.has_organization() {
            "assign the app a role in the organization that has these permissions (Console → \
             Organizations → Machine-to-machine apps), or request them with optional_scopes"
        } else if request.is_for_management_api() {
            ASSIGN_MANAGEMENT_ROLE
        } else {
            "assign the app an M2M role that has these permissions (Console → Roles), or request \
             them with optional_scopes"
        };
        inner.hint = Some(hint.into());
        inner.into()
    }

    /// Returns the server's error, or `None` if the error code does not follow RFC 6749 §5.2.
    pub(crate) fn server_error(code: &str, description: Option<&str>) -> Option<ServerError> {
        let is_valid = !code.is_empty() && code.len() <= MAX_CODE && all_quotable(code);
        is_valid.then(|| ServerError::new(code, description))
    }

    pub(crate) fn with_retry_after(&self, retry_after: Option<Duration>) -> Self {
        Self { inner: Arc::clone(&self.inner), retry_after }
    }

    /// Returns the kind of the error, for your code to match.
    pub fn kind(&self) -> TokenRequestErrorKind {
        self.inner.kind
    }

    /// Returns the `error` code of the response (RFC 6749 §5.2, RFC 8707 §2), such as
    /// `invalid_client`, `invalid_target` or `access_denied`.
    pub fn code(&self) -> Option<&str> {
        self.inner.server_error.as_ref().map(|error| &*error.code)
    }

    /// Returns the `error_description` of the response, escaped and shortened.
    pub fn description(&self) -> Option<&str> {
        self.inner.server_error.as_ref()?.description.as_deref()
    }

    /// Returns the status of the response, if there was a response.
    pub fn status(&self) -> Option<StatusCode> {
        self.inner.status
    }

    /// Returns the required scopes that were not granted.
    pub fn missing_scopes(&self) -> impl Iterator<Item = &str> {
        self.inner.details.iter().map(AsRef::as_ref)
    }

    /// Returns a hint about the cause of the error or its fix. Returns `None` if there is no hint.
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// Returns `true` if the token endpoint did not respond in time.
    pub fn is_timeout(&self) -> bool {
        self.inner.is_timeout
    }

    /// Returns whether the same request may succeed later without a change of configuration.
    pub fn is_retryable(&self) -> bool {
        self.inner.is_retryable
    }

    /// Returns how long the client waits before it sends the same token request again. During this
    /// time, calls fail immediately with the same error.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

fn new_inner(
    kind: TokenRequestErrorKind,
    request: &TokenRequest,
    message: impl fmt::Display,
) -> Inner {
    use TokenRequestErrorKind::{MissingScopes, NotSent, Refused, Timeout};
    let mut inner = Inner::new(kind, format!("no access token for {request}: {message}"));
    inner.is_timeout = kind == Timeout;
    inner.is_retryable = !matches!(kind, NotSent | Refused | MissingScopes);
    inner
}

impl From<Inner> for TokenRequestError {
    fn from(inner: Inner) -> Self {
        Self { inner: Arc::new(inner), retry_after: None }
    }
}

/// Tells the operator what happened, and what to do about it.
impl fmt::Display for TokenRequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for TokenRequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.debug("TokenRequestError", self.retry_after, f)
    }
}

/// There is no source, because the message contains the cause.
impl Error for TokenRequestError {}

/// Returns a hint for an error of the token endpoint. Matches the error code first, because codes
/// are stable. Matches the English description only if the code alone does not show the cause.
fn refusal_hint(
    request: &TokenRequest,
    url: &Url,
    status: StatusCode,
    error: &ServerError,
) -> Option<Cow<'static, str>> {
    let says = |text: &str| error.description.as_ref().is_some_and(|said| said.contains(text));
    let hint = match &*error.code {
        "invalid_client" if status == StatusCode::UNAUTHORIZED => {
            "the app secret is wrong or was deleted (Console → Applications → the app → secrets)"
        }
        "invalid_client" => "this tenant has no app with this id",
        "invalid_request" if says("expired") => {
            "create a new secret (Console → Applications → the app → secrets)"
        }
        "invalid_request" if says("one mechanism") => {
            "the secret was sent twice: does http_client_builder set an Authorization header?"
        }
        "invalid_request" if says("grant type") => NOT_MACHINE_TO_MACHINE,
        "unauthorized_client" | "unsupported_grant_type" => NOT_MACHINE_TO_MACHINE,
        "invalid_target" if says("absolute") => {
            "a resource indicator is an absolute URI, such as https://shopping.api"
        }
        "invalid_target" if request.is_for_management_api() && !is_logto_cloud(url) => {
            "self-hosted Logto uses a different resource indicator for the Management API: use \
             TokenRequest::self_hosted_management_api or ManagementApi::self_hosted"
        }
        "invalid_target" => {
            "this resource indicator is not registered (Console → API resources); Logto compares \
             it byte for byte: mind the trailing slash"
        }
        "access_denied" if status == StatusCode::FORBIDDEN && request.has_organization() => {
            "the app is not a member of the organization (Console → Organizations → \
             Machine-to-machine apps)"
        }
        "access_denied" => "the tenant's custom-claims script denied this token (api.denyAccess)",
        _ => return status_hint(url, status),
    };
    Some(hint.into())
}

fn status_hint(url: &Url, status: StatusCode) -> Option<Cow<'static, str>> {
    let hint = match status.as_u16() {
        200..=299 => "is there a proxy instead of Logto at this address?",
        300..=399 => {
            "redirects are not followed, because they would carry the secret: set token_endpoint \
             to the final address"
        }
        404 | 405 if url.path().ends_with(TOKEN_PATH) => {
            "is this the address of Logto, or the address of its Console or of a proxy?"
        }
        404 | 405 => {
            let origin = url.origin().ascii_serialization();
            let advice = format!("Logto's token endpoint is {origin}{TOKEN_PATH}");
            return Some(advice.into());
        }
        407 => "a proxy requires its own credentials",
        429 => "too many token requests, or the quota of the tenant's plan is used up",
        _ => return None,
    };
    Some(hint.into())
}

fn is_logto_cloud(url: &Url) -> bool {
    url.host_str().is_some_and(|host| host.ends_with(".logto.app"))
}

pub(crate) const ASSIGN_MANAGEMENT_ROLE: &str =
    "assign the app the M2M role \"Logto Management API access\" (Console → Roles)";
const NOT_MACHINE_TO_MACHINE: &str = "only a machine-to-machine app may request this token: does \
                                      the app id belong to another type of app?";
const TOKEN_PATH: &str = "/oidc/token";
/// The maximum length of an error code in bytes. A response with a longer code is treated as an
/// unexpected response.
const MAX_CODE: usize = 64;
