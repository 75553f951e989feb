//! Why a call of the Management API failed.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use http::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    escape::Escaped,
    m2m::{
        error::TokenRequestError,
        headers::{is_temporary, read_object},
    },
};

/// Why a call of the Management API failed. A clone is one reference count.
///
/// [`code`](Self::code) is the thing to match: Logto's `message` is in the tenant's language.
#[derive(Clone)]
pub struct ManagementError {
    inner: Arc<Inner>,
    retry_after: Option<Duration>,
}

/// The kinds of [`ManagementError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManagementErrorKind {
    /// The call cannot work, and was not made: a path outside of `/api/`, say.
    NotSent,
    /// There is no access token: [`ManagementError::token_error`] says why.
    Token,
    /// Logto could not be reached in time, or the connection broke.
    Connection,
    /// Logto refused, with an error of its own.
    Refused,
    /// An answer that is not Logto's, or that your type does not fit.
    UnexpectedAnswer,
}

#[derive(Debug)]
struct Inner {
    kind: ManagementErrorKind,
    met: String,
    status: Option<StatusCode>,
    answer: Option<LogtoError>,
    source: Option<Source>,
}

#[derive(Debug)]
enum Source {
    Http(reqwest::Error),
    Token(TokenRequestError),
}

/// The body of Logto's errors.
#[derive(Deserialize)]
struct LogtoError {
    code: Box<str>,
    message: Option<Box<str>>,
    data: Option<Box<RawValue>>,
}

impl ManagementError {
    pub(crate) fn new(kind: ManagementErrorKind, met: String) -> Self {
        Inner::new(kind, met).into()
    }

    /// `met`, and what is at the bottom of it.
    pub(crate) fn connection(met: &str, source: reqwest::Error) -> Self {
        let met = format!("{met}: {}", Escaped::root_cause(&source));
        // `met` has the path; whom a query searched for is not for logs.
        let source = Some(Source::Http(source.without_url()));
        Inner { source, ..Inner::new(ManagementErrorKind::Connection, met) }.into()
    }

    pub(crate) fn unexpected(status: StatusCode, met: String) -> Self {
        let inner = Inner::new(ManagementErrorKind::UnexpectedAnswer, met);
        Inner { status: Some(status), ..inner }.into()
    }

    pub(crate) fn refused(
        status: StatusCode,
        met: String,
        body: &[u8],
        retry_after: Option<Duration>,
    ) -> Self {
        let Ok(answer) = read_object::<LogtoError>(body) else {
            return Self { retry_after, ..Self::unexpected(status, met) };
        };
        let inner = Inner::new(ManagementErrorKind::Refused, met);
        let inner = Inner { status: Some(status), answer: Some(answer), ..inner };
        Self { retry_after, ..inner.into() }
    }

    pub(crate) fn after(&self, retry_after: Duration) -> Self {
        Self { inner: Arc::clone(&self.inner), retry_after: Some(retry_after) }
    }

    /// Why, for your code.
    #[must_use]
    pub fn kind(&self) -> ManagementErrorKind {
        self.inner.kind
    }

    /// The status of the answer, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.inner.status
    }

    /// Logto's code, such as `entity.not_found` or `auth.forbidden`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        Some(&self.inner.answer.as_ref()?.code)
    }

    /// Logto's message, in the tenant's language and as it came: a stranger's text.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.inner.answer.as_ref()?.message.as_deref()
    }

    /// What Logto says beside code and message; `None` if there is nothing, or `T` does not fit.
    #[must_use]
    pub fn data<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.inner.answer.as_ref()?.data.as_ref()?.get()).ok()
    }

    /// Why there is no access token.
    #[must_use]
    pub fn token_error(&self) -> Option<&TokenRequestError> {
        match &self.inner.source {
            Some(Source::Token(error)) => Some(error),
            _ => None,
        }
    }

    /// Whether Logto was too slow, at the Management API or at the token endpoint.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match &self.inner.source {
            Some(Source::Token(error)) => error.is_timeout(),
            Some(Source::Http(error)) => error.is_timeout(),
            None => false,
        }
    }

    /// Whether the same call may succeed later without anybody changing a setting. After a
    /// [`Connection`](ManagementErrorKind::Connection) error it may have been carried out, too.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match (&self.inner.source, self.inner.status) {
            (Some(Source::Token(error)), _) => error.is_retryable(),
            (Some(Source::Http(_)), _) => true,
            (None, status) => status.is_some_and(is_temporary),
        }
    }

    /// How long Logto wants not to be asked, an hour at most. After a 429, calls fail at once until
    /// then, with the same error.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after.or_else(|| self.token_error()?.retry_after())
    }

    fn hint(&self) -> &'static str {
        match (self.inner.status.map(|status| status.as_u16()), self.code()) {
            (Some(403), Some("auth.forbidden")) => {
                "; assign the app the M2M role \"Logto Management API access\" (Console → Roles)"
            }
            (Some(401), Some("auth.unauthorized")) => {
                "; is the token for this Logto's Management API? cloud and self-hosted ones have \
                 different resource indicators"
            }
            (Some(300..=399), _) => "; redirects are not followed: set the final endpoint",
            (Some(404), None) => "; is this Logto's endpoint?",
            _ => "",
        }
    }
}

/// For the developer: what was met, and what to do about it.
impl fmt::Display for ManagementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.met)?;
        if let Some(answer) = &self.inner.answer {
            write!(f, ", {:?}", Escaped::new(&answer.code))?;
            if let Some(message) = &answer.message {
                write!(f, " ({})", Escaped::new(message))?;
            }
        }
        f.write_str(self.hint())
    }
}

impl fmt::Debug for ManagementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagementError")
            .field("kind", &self.inner.kind)
            .field("message", &self.to_string())
            .field("retry_after", &self.retry_after)
            .field("source", &self.inner.source)
            .finish_non_exhaustive()
    }
}

impl Error for ManagementError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.inner.source.as_ref()? {
            Source::Http(error) => Some(error),
            Source::Token(error) => Some(error),
        }
    }
}

impl From<TokenRequestError> for ManagementError {
    fn from(error: TokenRequestError) -> Self {
        let met = format!("the Management API cannot be asked: {error}");
        let source = Some(Source::Token(error));
        Inner { source, ..Inner::new(ManagementErrorKind::Token, met) }.into()
    }
}

impl From<Inner> for ManagementError {
    fn from(inner: Inner) -> Self {
        Self { inner: Arc::new(inner), retry_after: None }
    }
}

impl Inner {
    const fn new(kind: ManagementErrorKind, met: String) -> Self {
        Self { kind, met, status: None, answer: None, source: None }
    }
}

/// `data` may hold the claims of a token, or what a caller has sent.
impl fmt::Debug for LogtoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Escaped::new(&self.code))
    }
}
