//! The fields and the formatting that `TokenRequestError` and `ManagementError` share.

use std::{borrow::Cow, fmt, time::Duration};

use http::StatusCode;

use crate::escape::Escaped;

/// The contents of an error. `K` is the kind of the error, and `D` contains its details. Each of
/// the two error types has its own `K` and `D`.
pub(crate) struct ErrorInner<K, D> {
    pub(crate) kind: K,
    /// Says what failed and why. `Display` appends the server's error and the hint.
    pub(crate) message: String,
    pub(crate) status: Option<StatusCode>,
    pub(crate) server_error: Option<ServerError>,
    /// Says what to do about the error.
    pub(crate) hint: Option<Cow<'static, str>>,
    pub(crate) is_timeout: bool,
    pub(crate) is_retryable: bool,
    pub(crate) details: D,
}

/// The error that a server reported in the body of its response.
pub(crate) struct ServerError {
    pub(crate) code: Box<str>,
    /// Escaped and shortened.
    pub(crate) description: Option<Box<str>>,
}

impl<K, D: Default> ErrorInner<K, D> {
    pub(crate) fn new(kind: K, message: String) -> Self {
        Self {
            kind,
            message,
            status: None,
            server_error: None,
            hint: None,
            is_timeout: false,
            is_retryable: false,
            details: D::default(),
        }
    }
}

impl<K: fmt::Debug, D> ErrorInner<K, D> {
    /// Implements `Debug` for an error type. `name` is the name of this type. The output leaves out
    /// `details`, which may contain untrusted or secret values.
    pub(crate) fn debug(
        &self,
        name: &str,
        retry_after: Option<Duration>,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        f.debug_struct(name)
            .field("kind", &self.kind)
            .field("message", &self.to_string())
            .field("retry_after", &retry_after)
            .finish_non_exhaustive()
    }
}

impl<K, D> fmt::Display for ErrorInner<K, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(error) = &self.server_error {
            write!(f, ", {}", Escaped::new(&error.code))?;
            if let Some(description) = &error.description {
                write!(f, " ({description})")?;
            }
        }
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl ServerError {
    pub(crate) fn new(code: &str, description: Option<&str>) -> Self {
        let description = description.map(|text| Escaped::new(text).to_string().into());
        Self { code: code.into(), description }
    }
}
