//! A token request over HTTP, and its response (RFC 6749 §4.4, RFC 8707 §2).

use std::{fmt, sync::OnceLock, time::Duration};

use form_urlencoded::Serializer;
use http::{HeaderValue, StatusCode, header};
use reqwest::{Client, RequestBuilder, Response, Url};
use serde::Deserialize;
use serde_json::{Value, error::Category};

use crate::{
    bearer::credentials::is_b64token,
    http_client::{self, BodyError, HttpClients},
    json,
    m2m::{
        credentials::ClientCredentials,
        error::{TokenRequestError, TokenRequestErrorKind},
        error_inner::ServerError,
        headers::{media_type, retry_after},
        token::{SCHEME, TokenResponse},
        token_request::TokenRequest,
    },
    url::Transport,
};

/// The address of the token endpoint, and the settings and credentials for requests to it. The HTTP
/// client is built when the first request is sent.
pub(crate) struct TokenEndpoint {
    pub(crate) url: Url,
    pub(crate) transport: Transport,
    pub(crate) clients: HttpClients,
    pub(crate) timeout: Duration,
    pub(crate) credentials: ClientCredentials,
    pub(crate) client: OnceLock<Client>,
}

impl TokenEndpoint {
    /// Requests a token. If the request fails and the response has a `Retry-After` header, the
    /// error contains the delay from that header.
    pub(crate) async fn request_token(
        &self,
        request: &TokenRequest,
        unix_time: Duration,
    ) -> Result<TokenResponse, TokenRequestError> {
        let response = tokio::time::timeout(self.timeout, self.send(request, unix_time));
        response.await.unwrap_or_else(|_| Err(self.timed_out(request)))
    }

    async fn send(
        &self,
        request: &TokenRequest,
        unix_time: Duration,
    ) -> Result<TokenResponse, TokenRequestError> {
        let response = http_client::send(self.http_request(request)?, true).await;
        let response = response.map_err(|error| {
            self.connection_error(request, &format!("{} could not be reached", self.url), &error)
        })?;
        let retry_after = retry_after(response.headers(), unix_time);
        let token = self.read(request, response).await;
        token.map_err(|error| error.with_retry_after(retry_after))
    }

    fn http_request(&self, request: &TokenRequest) -> Result<RequestBuilder, TokenRequestError> {
        let build = || self.clients.build(&self.url, self.timeout);
        let client = http_client::get_or_build(&self.client, build).map_err(|error| {
            TokenRequestError::connection(request, &self.url, http_client::NO_CLIENT, &error)
        })?;
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        request.append_to(&mut form);
        form.extend_pairs(self.credentials.parameters().into_iter().flatten());
        let mut http = client
            .post(self.url.clone())
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(basic) = self.credentials.header() {
            http = http.header(header::AUTHORIZATION, basic);
        }
        Ok(http.body(form.finish()))
    }

    /// Reads a response. If the body is unexpected, the error does not quote the body, because the
    /// body may contain the token. The error does not contain serde's message either, because that
    /// message may quote the body.
    async fn read(
        &self,
        request: &TokenRequest,
        response: Response,
    ) -> Result<TokenResponse, TokenRequestError> {
        let status = response.status();
        let media_type = media_type(response.headers());
        let responded = format!("{} responded with {status} ({media_type})", self.url);
        let unexpected = |what: &str| {
            let message = format!("{responded}: {what}");
            TokenRequestError::unexpected(request, &self.url, status, &message)
        };
        let body = http_client::read_body(response, MAX_BODY).await;
        let body = body.map_err(|error| match error {
            BodyError::TooLarge => unexpected(&format!("the body exceeds {MAX_BODY} bytes")),
            BodyError::Broken(error) => {
                self.connection_error(request, &format!("{responded}: incomplete body"), &error)
            }
        })?;
        if status == StatusCode::OK {
            return TokenResponseBody::parse(&body).map_err(unexpected);
        }
        Err(match self.server_error(&body) {
            Some(error) => TokenRequestError::refused(request, &self.url, status, error),
            None => unexpected("the body is not an OAuth error (RFC 6749 §5.2)"),
        })
    }

    fn server_error(&self, body: &[u8]) -> Option<ServerError> {
        let body = json::object::<ErrorResponseBody>(body).ok()?;
        let description = body.error_description.as_deref().map(|description| {
            let leaks = self.credentials.occur_in(description);
            if leaks { "withheld, because it contains the app secret" } else { description }
        });
        let leaks = self.credentials.occur_in(&body.error);
        TokenRequestError::server_error(if leaks { "withheld" } else { &body.error }, description)
    }

    fn connection_error(
        &self,
        request: &TokenRequest,
        message: &str,
        error: &reqwest::Error,
    ) -> TokenRequestError {
        if error.is_timeout() {
            return self.timed_out(request);
        }
        TokenRequestError::connection(request, &self.url, message, error)
    }

    fn timed_out(&self, request: &TokenRequest) -> TokenRequestError {
        let message = format!("{} did not respond within {:?}", self.url, self.timeout);
        TokenRequestError::new(TokenRequestErrorKind::Timeout, request, message)
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint")
            .field("url", &self.url.as_str())
            .field("app_id", &self.credentials.app_id)
            .field("authentication", &self.credentials.authentication())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The body of a successful response (RFC 6749 §5.1).
#[derive(Deserialize)]
struct TokenResponseBody {
    access_token: String,
    token_type: String,
    #[serde(default)]
    expires_in: Value,
    scope: Option<String>,
}

impl TokenResponseBody {
    fn parse(body: &[u8]) -> Result<TokenResponse, &'static str> {
        let body: Self = json::object(body).map_err(|error| match error.classify() {
            Category::Eof => "the JSON is truncated",
            Category::Data => "the JSON is not a token response (RFC 6749 §5.1)",
            _ => "the body is not JSON",
        })?;
        if !body.token_type.eq_ignore_ascii_case("bearer") {
            return Err("the token_type is not Bearer");
        }
        let cannot_be_sent = "the access_token cannot be sent in an Authorization header";
        if !is_b64token(body.access_token.as_bytes()) {
            return Err(cannot_be_sent);
        }
        let mut authorization = HeaderValue::try_from(format!("{SCHEME}{}", body.access_token))
            .map_err(|_| cannot_be_sent)?;
        authorization.set_sensitive(true);
        let seconds = match &body.expires_in {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let seconds = seconds.filter(|seconds| *seconds > 0.0);
        let lifetime = seconds
            .map(|seconds| Duration::from_secs_f64(seconds.clamp(MIN_LIFETIME, MAX_LIFETIME)));
        let scope = body.scope.unwrap_or_default().into();
        Ok(TokenResponse { authorization, lifetime, scope })
    }
}

/// The body of an error response (RFC 6749 §5.2).
#[derive(Deserialize)]
struct ErrorResponseBody {
    error: String,
    error_description: Option<String>,
}

/// The maximum size of a response body in bytes. A larger body is an error. The body of a token
/// response from Logto is about 600 bytes long. If the token contains custom claims, the body can
/// be a few thousand bytes long.
const MAX_BODY: usize = 256 * 1024;
/// The minimum lifetime in seconds. If `expires_in` is positive but smaller than this minimum, the
/// client uses the minimum. Without a minimum, almost every call would request a token.
const MIN_LIFETIME: f64 = 1.0;
/// The maximum lifetime in seconds, which is one year. If `expires_in` is larger than this maximum,
/// the client uses the maximum. A larger number is a mistake, and adding it to the current time
/// could overflow.
const MAX_LIFETIME: f64 = 365.0 * 24.0 * 3600.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetime_is_none_if_expires_in_is_missing_zero_or_invalid() {
        for (expires_in, seconds) in [
            ("3600", Some(3600.0)),
            ("\"3600\"", Some(3600.0)),
            ("1.5", Some(1.5)),
            ("0.001", Some(1.0)),
            ("1e300", Some(MAX_LIFETIME)),
            ("0", None),
            ("-1", None),
            ("null", None),
            ("\"NaN\"", None),
            ("{}", None),
        ] {
            let body = format!(
                "{{\"access_token\":\"a\",\"token_type\":\"bearer\",\"expires_in\":{expires_in}}}"
            );
            let token = TokenResponseBody::parse(body.as_bytes()).unwrap();
            assert_eq!(token.lifetime.map(|time| time.as_secs_f64()), seconds, "{expires_in}");
        }
    }

    #[test]
    fn response_without_a_bearer_token_is_refused() {
        for (body, what) in [
            ("", "truncated"),
            ("{\"access_token\":\"a", "truncated"),
            ("<html>", "not JSON"),
            ("[]", "not a token response"),
            ("[\"a\",\"Bearer\",60,null]", "not a token response"),
            ("\"a\"", "not a token response"),
            ("{\"access_token\":1,\"token_type\":\"Bearer\"}", "not a token response"),
            ("{\"access_token\":\"a\"}", "not a token response"),
            ("{\"access_token\":\"a\",\"token_type\":\"DPoP\"}", "not Bearer"),
            ("{\"access_token\":\"\",\"token_type\":\"Bearer\"}", "cannot be sent"),
            ("{\"access_token\":\"a\\r\\nb\",\"token_type\":\"Bearer\"}", "cannot be sent"),
        ] {
            let Err(error) = TokenResponseBody::parse(body.as_bytes()) else { panic!("{body}") };
            assert!(error.contains(what), "{body}: {error}");
        }
    }
}
