//! Writes the response of a refusal, in HTTP or in gRPC, and logs the refusal.

use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, TE, WWW_AUTHENTICATE},
};

use crate::error::AuthError;

impl AuthError {
    /// Writes the response: status, challenge, `Retry-After`, and an empty body.
    ///
    /// It carries the `AuthError` in its extensions. Nothing is logged: the layers and axum's
    /// `IntoResponse` log each refusal once.
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

    /// Writes a trailers-only response, so that gRPC clients see UNAUTHENTICATED,
    /// PERMISSION_DENIED and so on.
    fn into_grpc_response<B: Default>(self) -> Response<B> {
        let status = self.grpc_status();
        let message = self.description();
        let mut response = self.into_http_response();
        *response.status_mut() = StatusCode::OK;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(status));
        if let Some(message) = message {
            headers.insert("grpc-message", HeaderValue::from_static(message));
        }
        response
    }

    /// Logs the refusal: at debug, or at error if the service is wired wrongly.
    pub(crate) fn log(&self) {
        if self.status() == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(reason = %self, "request refused: the service is wired wrongly");
        } else {
            tracing::debug!(status = self.status().as_u16(), reason = %self, "request refused");
        }
    }
}

/// Logs the refusal and writes it in the protocol of the request.
pub(crate) fn refuse<B: Default>(error: AuthError, grpc: bool) -> Response<B> {
    error.log();
    if grpc { error.into_grpc_response() } else { error.into_http_response() }
}

/// Whether the caller speaks gRPC, and so expects a 200 with a `grpc-status`.
///
/// The check is strict, because the caller chooses these headers. nginx, Traefik and Caddy ask a
/// service with GET whether to forward a request, and take a 200 for a yes.
pub(crate) fn is_grpc<B>(request: &Request<B>) -> bool {
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
    use std::time::Duration;

    use super::*;
    use crate::error::{AuthErrorKind, InvalidToken, KeysError, KeysUnavailable};

    #[test]
    fn only_a_post_with_both_grpc_headers_gets_grpc() {
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
    fn http_and_grpc_say_the_same() {
        let expired = || {
            let reason = InvalidToken::Expired { ago: Duration::from_secs(60) };
            AuthError::new(AuthErrorKind::InvalidToken(reason), None)
        };
        let http: Response<()> = refuse(expired(), false);
        assert_eq!(http.status(), 401);
        assert!(http.headers().contains_key(WWW_AUTHENTICATE));
        let grpc: Response<()> = refuse(expired(), true);
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
