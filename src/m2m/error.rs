//! Why no access token could be had, and what to do about it.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use http::StatusCode;
use reqwest::Url;

use crate::{
    escape::{Escaped, all_quotable},
    m2m::{headers::is_temporary, request::TokenRequest},
};

/// Why no access token could be had. A clone is one reference count.
///
/// [`Display`](fmt::Display) tells the developer what was met and what to do; it holds neither
/// secret nor token.
///
/// ```no_run
/// # async fn example(tokens: tower_logto::m2m::TokenClient) {
/// # let request = tower_logto::m2m::TokenRequest::resource("https://shopping.api");
/// if let Err(error) = tokens.token(&request).await {
///     match error.error() {
///         Some("access_denied") => println!("not a member of the organization"),
///         _ if error.is_retryable() => println!("again in {:?}", error.retry_after()),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenRequestErrorKind {
    /// The request cannot work, and was not sent.
    NotSent,
    /// The token endpoint did not answer in time.
    Timeout,
    /// The token endpoint could not be reached, or the connection broke.
    Connection,
    /// The token endpoint refused, with an error of RFC 6749 §5.2.
    Refused,
    /// An answer that is not the token endpoint's: a proxy's page, an outage's text, a redirect, a
    /// body that breaks off or does not end.
    UnexpectedAnswer,
    /// A token was given, but without scopes that the request requires.
    MissingScopes,
    /// Too many callers wait for this client's tokens already.
    Overloaded,
}

#[derive(Debug)]
struct Inner {
    kind: TokenRequestErrorKind,
    met: String,
    status: Option<StatusCode>,
    answer: Option<OAuthError>,
    missing: Box<[Box<str>]>,
    hint: Option<&'static str>,
    retryable: bool,
    source: Option<reqwest::Error>,
}

/// The error answer of RFC 6749 §5.2, cut to a size that can be logged.
#[derive(Debug, Clone)]
pub(crate) struct OAuthError {
    pub(crate) code: Box<str>,
    pub(crate) description: Option<Box<str>>,
}

impl TokenRequestError {
    pub(crate) fn new(
        kind: TokenRequestErrorKind,
        request: &TokenRequest,
        met: impl fmt::Display,
    ) -> Self {
        Inner::new(kind, request, met).into()
    }

    /// `met`, and what is at the bottom of it.
    pub(crate) fn connection(request: &TokenRequest, met: &str, source: reqwest::Error) -> Self {
        let met = format!("{met}: {}", Escaped::root_cause(&source));
        let inner = Inner::new(TokenRequestErrorKind::Connection, request, met);
        Inner { source: Some(source), ..inner }.into()
    }

    pub(crate) fn refused(
        request: &TokenRequest,
        url: &Url,
        status: StatusCode,
        answer: OAuthError,
    ) -> Self {
        let met = format!("{url} answered {status}");
        Inner {
            status: Some(status),
            hint: refusal_hint(request, status, &answer),
            retryable: is_temporary(status)
                || matches!(
                    &*answer.code,
                    "temporarily_unavailable" | "server_error" | "slow_down"
                ),
            answer: Some(answer),
            ..Inner::new(TokenRequestErrorKind::Refused, request, met)
        }
        .into()
    }

    pub(crate) fn unexpected(request: &TokenRequest, status: StatusCode, met: String) -> Self {
        Inner {
            status: Some(status),
            hint: status_hint(status),
            // What is wrong with a 200 may be right again after a proxy's maintenance.
            retryable: status.is_success() || is_temporary(status),
            ..Inner::new(TokenRequestErrorKind::UnexpectedAnswer, request, met)
        }
        .into()
    }

    pub(crate) fn without_scopes(request: &TokenRequest, missing: Box<[Box<str>]>) -> Self {
        let names = missing.join(" ");
        let hint = if request.has_organization() {
            "give the app a role in the organization that has these permissions (Console → \
             Organizations → Machine-to-machine apps), or ask for them with optional_scopes"
        } else if request.is_for_management_api() {
            "assign the app the M2M role \"Logto Management API access\" (Console → Roles)"
        } else {
            "assign the app an M2M role that has these permissions (Console → Roles), or ask for \
             them with optional_scopes"
        };
        let met = format!("Logto did not grant {names:?}");
        Inner {
            status: Some(StatusCode::OK),
            missing,
            hint: Some(hint),
            ..Inner::new(TokenRequestErrorKind::MissingScopes, request, met)
        }
        .into()
    }

    pub(crate) fn after(&self, retry_after: Option<Duration>) -> Self {
        Self { inner: Arc::clone(&self.inner), retry_after }
    }

    /// Why, for your code.
    #[must_use]
    pub fn kind(&self) -> TokenRequestErrorKind {
        self.inner.kind
    }

    /// The answer's `error` code (RFC 6749 §5.2, RFC 8707 §2): `invalid_client`, `invalid_target`,
    /// `access_denied` and so on.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.inner.answer.as_ref().map(|answer| &*answer.code)
    }

    /// The answer's `error_description`, escaped and shortened.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.inner.answer.as_ref()?.description.as_deref()
    }

    /// The status of the answer, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.inner.status
    }

    /// The required scopes that were not granted.
    pub fn missing_scopes(&self) -> impl Iterator<Item = &str> {
        self.inner.missing.iter().map(AsRef::as_ref)
    }

    /// What to do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        self.inner.hint
    }

    /// Whether the token endpoint was too slow.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind() == TokenRequestErrorKind::Timeout
    }

    /// Whether the same request may succeed later without anybody changing a setting.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.inner.retryable
    }

    /// How long this request is not sent again; until then it fails at once with the same error.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl Inner {
    fn new(kind: TokenRequestErrorKind, request: &TokenRequest, met: impl fmt::Display) -> Self {
        use TokenRequestErrorKind::{MissingScopes, NotSent, Refused};
        Self {
            kind,
            met: format!("no access token for {request}: {met}"),
            status: None,
            answer: None,
            missing: Box::default(),
            hint: None,
            retryable: !matches!(kind, NotSent | Refused | MissingScopes),
            source: None,
        }
    }
}

impl From<Inner> for TokenRequestError {
    fn from(inner: Inner) -> Self {
        Self { inner: Arc::new(inner), retry_after: None }
    }
}

/// For the developer: what was met, and what to do about it.
impl fmt::Display for TokenRequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.inner;
        f.write_str(&inner.met)?;
        if let Some(answer) = &inner.answer {
            write!(f, ", {}", answer.code)?;
            if let Some(description) = &answer.description {
                write!(f, " ({description})")?;
            }
        }
        inner.hint.map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl fmt::Debug for TokenRequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequestError")
            .field("kind", &self.inner.kind)
            .field("message", &self.to_string())
            .field("retry_after", &self.retry_after)
            .field("source", &self.inner.source)
            .finish_non_exhaustive()
    }
}

impl Error for TokenRequestError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.source.as_ref().map(|source| source as _)
    }
}

impl OAuthError {
    /// `None` for a code that is none (RFC 6749 §5.2).
    pub(crate) fn new(code: &str, description: Option<&str>) -> Option<Self> {
        if code.is_empty() || code.len() > MAX_CODE || !all_quotable(code) {
            return None;
        }
        let description = description.map(|text| Escaped::new(text).to_string().into());
        Some(Self { code: code.into(), description })
    }
}

/// Matches on `error`, which is stable, and only then on the English of the description.
fn refusal_hint(
    request: &TokenRequest,
    status: StatusCode,
    answer: &OAuthError,
) -> Option<&'static str> {
    let says = |text: &str| answer.description.as_ref().is_some_and(|said| said.contains(text));
    Some(match &*answer.code {
        "invalid_client" if status == StatusCode::UNAUTHORIZED => {
            "the app secret is wrong or was deleted (Console → Applications → the app → secrets)"
        }
        "invalid_client" => "there is no app with this id in this tenant",
        "invalid_request" if says("expired") => {
            "create a new secret (Console → Applications → the app → secrets)"
        }
        "invalid_request" if says("one mechanism") => {
            "the secret was sent twice: does the http_client have a default Authorization header?"
        }
        "invalid_request" if says("grant type") => NOT_MACHINE_TO_MACHINE,
        "unauthorized_client" | "unsupported_grant_type" => NOT_MACHINE_TO_MACHINE,
        "invalid_target" if says("absolute") => {
            "a resource indicator is a whole URI, such as https://shopping.api"
        }
        "invalid_target" => {
            "this resource indicator is not registered (Console → API resources); it is compared \
             byte for byte: mind the trailing slash"
        }
        "access_denied" if status == StatusCode::FORBIDDEN && request.has_organization() => {
            "the app is not a member of the organization (Console → Organizations → \
             Machine-to-machine apps)"
        }
        "access_denied" => "the tenant's custom-claims script denied this token (api.denyAccess)",
        _ => return status_hint(status),
    })
}

fn status_hint(status: StatusCode) -> Option<&'static str> {
    Some(match status.as_u16() {
        200..=299 => "is a proxy, and not Logto, behind the token endpoint's address?",
        300..=399 => {
            "redirects are not followed, as they would carry the secret: set \
                      token_endpoint to the final address"
        }
        404 | 405 => "is this Logto's token endpoint? it is {endpoint}/oidc/token",
        407 => "a proxy wants credentials of its own",
        429 => "too many token requests, or the quota of the tenant's plan is used up",
        _ => return None,
    })
}

const NOT_MACHINE_TO_MACHINE: &str =
    "only a machine-to-machine app may ask for such a token: is this another app's id?";
const MAX_CODE: usize = 64;
