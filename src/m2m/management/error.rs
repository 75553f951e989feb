//! The error that says why a call to the Management API failed, and what to do about it.

use std::{error::Error, fmt, fmt::Write as _, sync::Arc, time::Duration};

use http::StatusCode;
use reqwest::Url;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    escape::{Escaped, escaped},
    http_client::describe_failure,
    json,
    m2m::{
        error::{ASSIGN_MANAGEMENT_ROLE, TokenRequestError},
        error_inner::{ErrorInner, ServerError},
        headers::is_temporary,
    },
};

/// The reason why a call to the Management API failed. The error is cheap to clone.
///
/// Match on [`code`](Self::code), not on Logto's `message`, which is in the tenant's language.
///
/// ```
/// use tower_logto::m2m::ManagementError;
///
/// fn user_exists(error: &ManagementError) -> bool {
///     error.code() == Some("user.username_already_in_use")
/// }
/// ```
#[derive(Clone)]
pub struct ManagementError {
    inner: Arc<Inner>,
    retry_after: Option<Duration>,
}

/// The kinds of [`ManagementError`].
///
/// ```
/// use tower_logto::m2m::{ManagementError, ManagementErrorKind};
///
/// fn log(error: &ManagementError) {
///     if error.kind() == ManagementErrorKind::Token {
///         eprintln!("no access token: {}", error.token_error().unwrap());
///     }
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManagementErrorKind {
    /// The call is invalid and was not sent, for example because its path is outside of `/api/`.
    NotSent,
    /// No access token is available. [`ManagementError::token_error`] says why.
    Token,
    /// Connecting to Logto failed, the connection broke, or Logto did not respond in time. An error
    /// also has this kind if the HTTP client could not be built.
    Connection,
    /// Logto refused the call, and its response says why.
    Refused,
    /// The response neither matches your type nor contains an error in Logto's format. For example,
    /// the response is a proxy's error page, a server error or a redirect, or its body is too
    /// large.
    UnexpectedResponse,
}

type Inner = ErrorInner<ManagementErrorKind, Details>;

/// Contains either the error of the token request, or the message and the data of Logto's error.
/// The message and the data are untrusted input.
#[derive(Default)]
struct Details {
    token_error: Option<TokenRequestError>,
    message: Option<Box<str>>,
    data: Option<Box<RawValue>>,
}

/// The body of Logto's errors.
#[derive(Deserialize)]
struct LogtoError {
    code: Box<str>,
    message: Option<Box<str>>,
    data: Option<Box<RawValue>>,
}

impl ManagementError {
    pub(crate) fn new(kind: ManagementErrorKind, message: String) -> Self {
        Inner::new(kind, message).into()
    }

    /// Creates an error of the kind `Connection`, and appends the cause to the message.
    pub(crate) fn connection(url: &Url, message: &str, cause: &reqwest::Error) -> Self {
        let message = format!("{message}: {}", describe_failure(url, cause));
        let mut inner = Inner::new(ManagementErrorKind::Connection, message);
        inner.is_timeout = cause.is_timeout();
        inner.is_retryable = true;
        inner.into()
    }

    pub(crate) fn unexpected(status: StatusCode, message: String) -> Self {
        let mut inner = Inner::new(ManagementErrorKind::UnexpectedResponse, message);
        inner.status = Some(status);
        inner.is_retryable = is_temporary(status);
        inner.hint = hint(status, None).map(Into::into);
        inner.into()
    }

    pub(crate) fn refused(
        status: StatusCode,
        message: String,
        body: &[u8],
        retry_after: Option<Duration>,
    ) -> Self {
        let Ok(error) = json::object::<LogtoError>(body) else {
            return Self { retry_after, ..Self::unexpected(status, message) };
        };
        let message = message + &invalid_fields(error.data.as_deref());
        let mut inner = Inner::new(ManagementErrorKind::Refused, message);
        inner.status = Some(status);
        inner.is_retryable = is_temporary(status);
        inner.hint = hint(status, Some(&error.code)).map(Into::into);
        inner.server_error = Some(ServerError::new(&error.code, error.message.as_deref()));
        inner.details = Details { token_error: None, message: error.message, data: error.data };
        Self { retry_after, ..inner.into() }
    }

    pub(crate) fn with_retry_after(&self, retry_after: Duration) -> Self {
        Self { inner: Arc::clone(&self.inner), retry_after: Some(retry_after) }
    }

    /// Returns the kind of the error, for your code to match.
    pub fn kind(&self) -> ManagementErrorKind {
        self.inner.kind
    }

    /// Returns the status of the response, if there was a response.
    pub fn status(&self) -> Option<StatusCode> {
        self.inner.status
    }

    /// Returns the code of Logto's error, such as `entity.not_found` or `auth.forbidden`.
    pub fn code(&self) -> Option<&str> {
        self.inner.server_error.as_ref().map(|error| &*error.code)
    }

    /// Returns the message of Logto's error, in the tenant's language. The message is not escaped,
    /// so treat it as untrusted input.
    pub fn message(&self) -> Option<&str> {
        self.inner.details.message.as_deref()
    }

    /// Returns the `data` that Logto adds to the code and the message. Returns `None` if there is
    /// no `data`, or if the `data` does not match `T`.
    pub fn data<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.inner.details.data.as_ref()?.get()).ok()
    }

    /// Returns the error of the token request, if no access token is available.
    pub fn token_error(&self) -> Option<&TokenRequestError> {
        self.inner.details.token_error.as_ref()
    }

    /// Returns a hint about the cause of the error or its fix. Returns `None` if there is no hint.
    /// The error that [`token_error`](Self::token_error) returns has its own hint.
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// Returns whether the Management API or the token endpoint did not respond in time.
    pub fn is_timeout(&self) -> bool {
        self.inner.is_timeout
    }

    /// Returns whether the same call may succeed later without a change of configuration. After an
    /// error of the kind [`Connection`](ManagementErrorKind::Connection), Logto may already have
    /// carried out the call.
    pub fn is_retryable(&self) -> bool {
        self.inner.is_retryable
    }

    /// Returns how long to wait before the next call, or `None` if Logto did not ask for a delay.
    /// The delay is at most two minutes. After a `429`, calls before the end of the delay fail
    /// immediately with the same error.
    ///
    /// If no access token is available, returns the [`retry_after`](TokenRequestError::retry_after)
    /// of the token error instead. This delay can be longer than two minutes.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after.or_else(|| self.token_error()?.retry_after())
    }
}

/// Tells the operator what happened, and what to do about it.
impl fmt::Display for ManagementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for ManagementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.debug("ManagementError", self.retry_after, f)
    }
}

/// There is no source, because the message contains the cause.
impl Error for ManagementError {}

impl From<TokenRequestError> for ManagementError {
    fn from(error: TokenRequestError) -> Self {
        let message = format!("the Management API was not called: {error}");
        let mut inner = Inner::new(ManagementErrorKind::Token, message);
        inner.is_timeout = error.is_timeout();
        inner.is_retryable = error.is_retryable();
        inner.details.token_error = Some(error);
        inner.into()
    }
}

impl From<Inner> for ManagementError {
    fn from(inner: Inner) -> Self {
        Self { inner: Arc::new(inner), retry_after: None }
    }
}

fn hint(status: StatusCode, code: Option<&str>) -> Option<&'static str> {
    Some(match (status.as_u16(), code) {
        (403, Some("auth.forbidden")) => ASSIGN_MANAGEMENT_ROLE,
        (401, Some("auth.unauthorized")) => {
            "is the token for the Management API of this Logto instance? The API has \
             different resource indicators in Logto Cloud and in self-hosted Logto"
        }
        (300..=399, _) => "redirects are not followed: set the final endpoint",
        (404, None) => "the Management API has no such path, or the endpoint is not Logto's",
        _ => return None,
    })
}

/// Lists the fields that Logto refuses. The caller appends the list, such as ` (name: "Required")`,
/// to an error message. If the body of the call is invalid, `data` contains the issues that Logto's
/// schema library `zod` found. If `data` contains no such issues, the list is empty.
fn invalid_fields(data: Option<&RawValue>) -> String {
    #[derive(Deserialize)]
    struct ZodError {
        issues: Vec<Issue>,
    }
    #[derive(Deserialize)]
    struct Issue {
        path: Vec<serde_json::Value>,
        message: String,
    }

    let Some(Ok(error)) = data.map(|data| serde_json::from_str::<ZodError>(data.get())) else {
        return String::new();
    };
    let mut fields = String::new();
    for Issue { path, message } in error.issues.iter().take(MAX_FIELDS) {
        let name = |segment: &serde_json::Value| {
            segment.as_str().map_or_else(|| segment.to_string(), str::to_owned)
        };
        let path = path.iter().map(name).collect::<Vec<_>>().join(".");
        let separator = if fields.is_empty() { " (" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(fields, "{separator}{}: {}", escaped(&path), Escaped::new(message));
    }
    if !fields.is_empty() {
        fields.push(')');
    }
    fields
}

/// The largest number of refused fields that an error message lists.
const MAX_FIELDS: usize = 5;
