//! The HTTP or gRPC response to a refused request. This is the only file that maps reasons to
//! statuses and challenges.

use std::{fmt, time::Duration};

use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, TE, WWW_AUTHENTICATE},
};

use crate::{
    bearer::challenge::{ChallengeError, ChallengeSettings},
    error::{AuthError, AuthErrorKind, KeysUnavailable},
};

impl AuthError {
    /// Returns the status of the response (RFC 6750 §3.1). If the caller is not at fault, the
    /// status is 503 or 500.
    pub const fn status(&self) -> StatusCode {
        match self.kind {
            AuthErrorKind::InvalidRequest(_) => StatusCode::BAD_REQUEST,
            AuthErrorKind::MissingToken | AuthErrorKind::InvalidToken(_) => {
                StatusCode::UNAUTHORIZED
            }
            AuthErrorKind::InsufficientScope { .. }
            | AuthErrorKind::WrongOrganization { .. }
            | AuthErrorKind::WrongKind(_)
            | AuthErrorKind::FailedCondition(_)
            | AuthErrorKind::Forbidden(_) => StatusCode::FORBIDDEN,
            AuthErrorKind::KeysUnavailable(_)
            | AuthErrorKind::TooManySignatureChecks { .. }
            | AuthErrorKind::RevocationsUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            AuthErrorKind::TooManyUnknownKeys { .. } => StatusCode::TOO_MANY_REQUESTS,
            AuthErrorKind::MissingLayer
            | AuthErrorKind::UnnamedIssuer
            | AuthErrorKind::UnnamedAudience
            | AuthErrorKind::InvalidScope { .. }
            | AuthErrorKind::UnknownPathParameter(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the gRPC status code, for a handler that builds a `tonic::Status`. The code is
    /// INVALID_ARGUMENT, UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE or INTERNAL.
    pub const fn grpc_status(&self) -> u16 {
        match self.status() {
            StatusCode::BAD_REQUEST => 3,
            StatusCode::UNAUTHORIZED => 16,
            StatusCode::FORBIDDEN => 7,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => 14,
            _ => 13,
        }
    }

    /// Returns the `error` code of RFC 6750 §3.1. Returns `None` if the caller sent no token, or if
    /// the status is 429, 500 or 503.
    pub const fn code(&self) -> Option<&'static str> {
        match self.status() {
            StatusCode::BAD_REQUEST => Some("invalid_request"),
            StatusCode::FORBIDDEN => Some("insufficient_scope"),
            _ if matches!(self.kind, AuthErrorKind::InvalidToken(_)) => Some("invalid_token"),
            _ => None,
        }
    }

    /// Returns a short description for the caller. It contains no values from the token or the
    /// settings. Returns `None` in the same cases as [`code`](Self::code).
    pub const fn description(&self) -> Option<&'static str> {
        match &self.kind {
            AuthErrorKind::InvalidRequest(reason) => Some(reason.public_description()),
            AuthErrorKind::InvalidToken(reason) => Some(reason.public_description()),
            AuthErrorKind::InsufficientScope { .. } => {
                Some("the access token lacks a required scope")
            }
            AuthErrorKind::WrongOrganization { .. } => {
                Some("the access token is not for this organization")
            }
            AuthErrorKind::WrongKind(_) => Some("the access token is of the wrong kind"),
            AuthErrorKind::FailedCondition(_) | AuthErrorKind::Forbidden(_) => {
                Some("the access token does not permit this request")
            }
            AuthErrorKind::MissingToken
            | AuthErrorKind::KeysUnavailable(_)
            | AuthErrorKind::TooManyUnknownKeys { .. }
            | AuthErrorKind::TooManySignatureChecks { .. }
            | AuthErrorKind::RevocationsUnavailable
            | AuthErrorKind::MissingLayer
            | AuthErrorKind::UnnamedIssuer
            | AuthErrorKind::UnnamedAudience
            | AuthErrorKind::InvalidScope { .. }
            | AuthErrorKind::UnknownPathParameter(_) => None,
        }
    }

    /// Returns the message for a gRPC status. If `description` returns `None`, the message is a
    /// general sentence. Otherwise, the message is the description.
    pub(crate) const fn grpc_message(&self) -> &'static str {
        match (self.description(), self.status()) {
            (Some(description), _) => description,
            (None, StatusCode::UNAUTHORIZED) => "the call has no access token",
            (None, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => {
                "the access token cannot be checked now"
            }
            (None, _) => "the service is misconfigured",
        }
    }

    /// Returns the value of `WWW-Authenticate` (RFC 6750 §3, RFC 9728 §5.1), or `None` for 429, 500
    /// and 503.
    pub fn challenge(&self) -> Option<HeaderValue> {
        if self.status().is_server_error() || self.status() == StatusCode::TOO_MANY_REQUESTS {
            return None;
        }
        let scope = match &self.kind {
            AuthErrorKind::InsufficientScope { required, .. } => {
                Some(required as &dyn fmt::Display)
            }
            _ => None,
        };
        let error = ChallengeError { error: self.code(), description: self.description(), scope };
        Some(match &self.challenge {
            Some(settings) => settings.header(error),
            None => ChallengeSettings::default().header(error),
        })
    }

    /// Returns how long the caller should wait before a retry. The duration is rounded up to whole
    /// seconds, and is at least 1 s. Returns `None` unless the status is 503 or 429.
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.kind {
            AuthErrorKind::KeysUnavailable(KeysUnavailable { retry_after, .. })
            | AuthErrorKind::TooManyUnknownKeys { retry_after }
            | AuthErrorKind::TooManySignatureChecks { retry_after } => {
                let seconds = retry_after.as_secs_f64().ceil().clamp(1.0, 86_400.0);
                Some(Duration::from_secs_f64(seconds))
            }
            AuthErrorKind::RevocationsUnavailable => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// Builds the response: status, challenge, `Retry-After`, and an empty body.
    ///
    /// The response has the `AuthError` in its extensions. This method logs nothing. If a layer
    /// refuses a request, the layer logs the refusal once. If a handler or an extractor returns the
    /// error, axum's `IntoResponse` logs the refusal once.
    pub fn into_http_response<B: Default>(self) -> Response<B> {
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

    /// Builds a trailers-only response. It contains the gRPC status, such as UNAUTHENTICATED or
    /// PERMISSION_DENIED.
    fn into_grpc_response<B: Default>(self) -> Response<B> {
        let status = self.grpc_status();
        let message = self.grpc_message();
        let mut response = self.into_http_response();
        *response.status_mut() = StatusCode::OK;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(status));
        headers.insert("grpc-message", HeaderValue::from_static(message));
        response
    }
}

/// Logs the refusal, and builds the response in the protocol of the request (HTTP or gRPC).
pub(crate) fn refuse<B: Default, R>(error: AuthError, request: &Request<R>) -> Response<B> {
    error.log(Some(request));
    if is_grpc(request) { error.into_grpc_response() } else { error.into_http_response() }
}

/// Returns whether the caller speaks gRPC, and therefore expects a 200 with a `grpc-status`.
///
/// The caller controls the values of the headers that this check reads. However, the caller must
/// not be able to turn a refusal into a 200. The check is therefore strict. A proxy such as nginx,
/// Traefik or Caddy may use this service as its authentication service. Such a proxy first sends a
/// GET request to this service. If the status is 200, the proxy forwards the caller's request. The
/// check therefore requires POST.
fn is_grpc<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let is_grpc = |value: &HeaderValue| {
        let rest = value.as_bytes().strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    };
    request.method() == Method::POST
        && headers.get(CONTENT_TYPE).is_some_and(is_grpc)
        && headers.get(TE).is_some_and(|te| te == "trailers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::{FailedCondition, InvalidRequest, InvalidToken, KeysError, ScopePolicy},
        scope::TokenKind,
    };

    #[test]
    fn every_kind_has_its_status_code_and_grpc_status() {
        let unavailable = KeysUnavailable::retry_now(KeysError::new("503"));
        for (kind, status, code, grpc) in [
            (AuthErrorKind::MissingToken, 401, None, 16),
            (InvalidRequest::MalformedCredentials.into(), 400, Some("invalid_request"), 3),
            (AuthErrorKind::InvalidToken(InvalidToken::NotAJwt), 401, Some("invalid_token"), 16),
            (
                AuthErrorKind::InsufficientScope {
                    required: ScopePolicy::all(["a"]),
                    granted: "b".into(),
                },
                403,
                Some("insufficient_scope"),
                7,
            ),
            (AuthErrorKind::TooManyUnknownKeys { retry_after: Duration::ZERO }, 429, None, 14),
            (AuthErrorKind::TooManySignatureChecks { retry_after: Duration::ZERO }, 503, None, 14),
            (
                AuthErrorKind::WrongOrganization { found: None, requested: None },
                403,
                Some("insufficient_scope"),
                7,
            ),
            (AuthErrorKind::WrongKind(TokenKind::Global), 403, Some("insufficient_scope"), 7),
            (
                AuthErrorKind::FailedCondition(FailedCondition::Machine),
                403,
                Some("insufficient_scope"),
                7,
            ),
            (AuthErrorKind::Forbidden("no".into()), 403, Some("insufficient_scope"), 7),
            (AuthErrorKind::KeysUnavailable(unavailable), 503, None, 14),
            (AuthErrorKind::MissingLayer, 500, None, 13),
            (AuthErrorKind::UnnamedIssuer, 500, None, 13),
            (AuthErrorKind::UnnamedAudience, 500, None, 13),
            (AuthErrorKind::UnknownPathParameter("org"), 500, None, 13),
        ] {
            let error = AuthError::new(kind, None);
            assert!(error.reason().bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()));
            let found = (error.status().as_u16(), error.code(), error.grpc_status());
            assert_eq!(found, (status, code, grpc), "{error:?}");
            assert_eq!(error.challenge().is_some(), status < 429, "{error:?}");
            assert_eq!(error.retry_after().is_some(), [429, 503].contains(&status), "{error:?}");
            assert_eq!(error.kind(), &error.clone().kind, "{error:?}");
        }
    }

    #[test]
    fn only_a_post_with_both_grpc_headers_gets_a_grpc_response() {
        for (method, content_type, te, expected) in [
            ("POST", "application/grpc", "trailers", true),
            ("POST", "application/grpc+proto", "trailers", true),
            ("POST", "application/grpc;charset=utf-8", "trailers", true),
            ("POST", "application/grpc-web", "trailers", false),
            ("POST", "application/json", "trailers", false),
            ("POST", "application/grpc", "", false),
            ("GET", "application/grpc", "trailers", false),
        ] {
            let request = Request::builder().method(method).header(CONTENT_TYPE, content_type);
            let request = request.header(TE, te).body(()).unwrap();
            assert_eq!(is_grpc(&request), expected, "{method} {content_type} {te:?}");
        }
    }

    #[test]
    fn http_and_grpc_responses_have_the_same_reason() {
        let expired = || {
            let reason = InvalidToken::Expired { ago: Duration::from_secs(60) };
            AuthError::new(AuthErrorKind::InvalidToken(reason), None)
        };
        let http: Response<()> = refuse(expired(), &Request::new(()));
        assert_eq!(http.status(), 401);
        assert!(http.headers().contains_key(WWW_AUTHENTICATE));
        let request = Request::post("/").header(CONTENT_TYPE, "application/grpc");
        let request = request.header(TE, "trailers").body(()).unwrap();
        let grpc: Response<()> = refuse(expired(), &request);
        assert_eq!(grpc.status(), 200);
        assert_eq!(grpc.headers()["grpc-status"], "16");
        assert_eq!(grpc.headers()["grpc-message"], "the access token expired");
        for response in [http, grpc] {
            let error = response.extensions().get::<AuthError>().unwrap();
            assert_eq!(error.kind(), expired().kind());
        }
    }

    #[test]
    fn retry_after_is_in_whole_seconds_and_at_least_one() {
        for (wait, expected) in [(0, "1"), (1001, "2"), (u64::MAX / 1_000_000, "86400")] {
            let retry_after = Duration::from_millis(wait);
            let unavailable = KeysUnavailable { retry_after, cause: KeysError::new("503") };
            let error = AuthError::new(AuthErrorKind::KeysUnavailable(unavailable), None);
            let response: Response<()> = error.into_http_response();
            assert_eq!(response.headers()[RETRY_AFTER], expected);
        }
    }
}
