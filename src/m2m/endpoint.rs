//! One request to the token endpoint, and its answer (RFC 6749 §4.4, RFC 8707 §2).

use std::{fmt, sync::OnceLock, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use form_urlencoded::{Serializer, byte_serialize};
use http::{HeaderValue, StatusCode, header};
use reqwest::{Client, RequestBuilder, Response, Url};
use serde::Deserialize;
use serde_json::{Value, error::Category};

use crate::{
    bearer::credentials::is_b64token,
    error::ConfigError,
    http_client::{self, BodyError, HttpClients},
    m2m::{
        error::{OAuthError, TokenRequestError, TokenRequestErrorKind},
        headers::{media_type, read_object, retry_after},
        request::TokenRequest,
        token::SCHEME,
    },
    url::Transport,
};

/// How the application proves who it is (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ClientAuthentication {
    /// `client_secret_basic`: in the `Authorization` header, the default.
    #[default]
    Basic,
    /// `client_secret_post`: in the body, for a proxy that takes `Authorization` for itself.
    Post,
}

/// Where tokens come from, and who asks. The HTTP client is built at the first request.
pub(crate) struct TokenEndpoint {
    pub(crate) url: Url,
    pub(crate) transport: Transport,
    pub(crate) clients: HttpClients,
    pub(crate) timeout: Duration,
    pub(crate) credentials: Credentials,
    pub(crate) client: OnceLock<Client>,
}

pub(crate) struct Credentials {
    app_id: Box<str>,
    app_secret: Box<str>,
    authentication: ClientAuthentication,
    basic: HeaderValue,
}

/// A token as it was given.
pub(crate) struct Answer {
    /// `Bearer …`, marked sensitive; the only place that holds the token.
    pub(crate) authorization: HeaderValue,
    /// `None` when it was missing, zero or nonsense.
    pub(crate) expires_in: Option<Duration>,
    pub(crate) scope: Box<str>,
}

impl TokenEndpoint {
    /// Asks; an error carries the answer's `Retry-After`.
    pub(crate) async fn ask(
        &self,
        request: &TokenRequest,
        unix_time: Duration,
    ) -> Result<Answer, TokenRequestError> {
        let asked = tokio::time::timeout(self.timeout, self.ask_for_long(request, unix_time));
        asked.await.unwrap_or_else(|_| Err(self.too_slow(request)))
    }

    async fn ask_for_long(
        &self,
        request: &TokenRequest,
        unix_time: Duration,
    ) -> Result<Answer, TokenRequestError> {
        let sent = http_client::send(self.http_request(request)?, true).await;
        let response = sent.map_err(|error| self.broken(request, "could not be reached", error))?;
        let retry_after = retry_after(response.headers(), unix_time);
        let answer = self.read(request, response).await;
        answer.map_err(|error| error.after(retry_after))
    }

    fn http_request(&self, request: &TokenRequest) -> Result<RequestBuilder, TokenRequestError> {
        let build = || self.clients.build(&self.url, self.timeout);
        let client = http_client::get_or_build(&self.client, build).map_err(|error| {
            TokenRequestError::connection(request, http_client::NO_CLIENT, error)
        })?;
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        request.write(&mut form);
        let mut http = client
            .post(self.url.clone())
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let credentials = &self.credentials;
        match credentials.authentication {
            ClientAuthentication::Basic => {
                http = http.header(header::AUTHORIZATION, credentials.basic.clone());
            }
            ClientAuthentication::Post => {
                form.append_pair("client_id", &credentials.app_id);
                form.append_pair("client_secret", &credentials.app_secret);
            }
        }
        Ok(http.body(form.finish()))
    }

    /// Reads an answer. Errors never quote the body, nor serde's messages, which do: it may hold
    /// the token.
    async fn read(
        &self,
        request: &TokenRequest,
        response: Response,
    ) -> Result<Answer, TokenRequestError> {
        let status = response.status();
        let media_type = media_type(response.headers());
        let unexpected = |what: &str| {
            let met = format!("{} answered {status} with {what}", self.url);
            TokenRequestError::unexpected(request, status, met)
        };
        let body =
            http_client::read_body(response, MAX_BODY).await.map_err(|error| match error {
                BodyError::TooLarge => unexpected(&format!("more than {MAX_BODY} bytes")),
                BodyError::Broken(error) => {
                    self.broken(request, &format!("answered {status}, which breaks off"), error)
                }
            })?;
        if status == StatusCode::OK {
            return Granted::parse(&body)
                .map_err(|what| unexpected(&format!("{media_type}, {what}")));
        }
        Err(match self.oauth_error(&body) {
            Some(answer) => TokenRequestError::refused(request, &self.url, status, answer),
            None => unexpected(&format!("{media_type}, no OAuth error")),
        })
    }

    fn oauth_error(&self, body: &[u8]) -> Option<OAuthError> {
        let failed = read_object::<Failed>(body).ok()?;
        let description = failed.error_description.as_deref().map(|description| {
            let leaks = self.credentials.are_in(description);
            if leaks { "withheld: it holds the app's secret" } else { description }
        });
        let leaks = self.credentials.are_in(&failed.error);
        OAuthError::new(if leaks { "withheld" } else { &failed.error }, description)
    }

    fn broken(
        &self,
        request: &TokenRequest,
        what: &str,
        error: reqwest::Error,
    ) -> TokenRequestError {
        if error.is_timeout() {
            return self.too_slow(request);
        }
        TokenRequestError::connection(request, &format!("{} {what}", self.url), error)
    }

    fn too_slow(&self, request: &TokenRequest) -> TokenRequestError {
        let met = format!("{} did not answer within {:?}", self.url, self.timeout);
        TokenRequestError::new(TokenRequestErrorKind::Timeout, request, met)
    }
}

impl Credentials {
    pub(crate) fn new(
        app_id: String,
        app_secret: String,
        authentication: ClientAuthentication,
    ) -> Result<Self, ConfigError> {
        for (value, setting) in [(&app_id, "app_id"), (&app_secret, "app_secret")] {
            if value.trim().is_empty() {
                return Err(ConfigError::new(setting, "empty: is the environment variable set?"));
            }
        }
        // RFC 6749 §2.3.1: both halves are form-encoded first, which a secret with `+` needs.
        let halves = [&app_id, &app_secret].map(|half| byte_serialize(half.as_bytes()));
        let pair = halves.map(Iterator::collect::<String>).join(":");
        let basic = format!("Basic {}", BASE64_STANDARD.encode(pair));
        let mut basic = HeaderValue::try_from(basic)
            .map_err(|_| ConfigError::new("app_secret", "too long for a header"))?;
        basic.set_sensitive(true);
        Ok(Self { app_id: app_id.into(), app_secret: app_secret.into(), authentication, basic })
    }

    /// Whether a text that may be logged quotes them. A secret too short to be one of Logto's
    /// would be found in any text.
    fn are_in(&self, text: &str) -> bool {
        if self.app_secret.len() < MIN_SECRET {
            return false;
        }
        let encoded = byte_serialize(self.app_secret.as_bytes()).collect::<String>();
        let basic = self.basic.to_str().unwrap_or_default().trim_start_matches("Basic ");
        [&*self.app_secret, &encoded, basic].iter().any(|secret| text.contains(secret))
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint")
            .field("url", &self.url.as_str())
            .field("app_id", &self.credentials.app_id)
            .field("authentication", &self.credentials.authentication)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// RFC 6749 §5.1.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: String,
    #[serde(default)]
    expires_in: Value,
    scope: Option<String>,
}

impl Granted {
    fn parse(body: &[u8]) -> Result<Answer, &'static str> {
        let granted: Self = read_object(body).map_err(|error| match error.classify() {
            Category::Eof => "JSON that breaks off",
            Category::Data => "JSON that is no token answer of RFC 6749 §5.1",
            _ => "not JSON",
        })?;
        if !granted.token_type.eq_ignore_ascii_case("bearer") {
            return Err("a token_type that is not Bearer");
        }
        if !is_b64token(&granted.access_token) {
            return Err("an access_token that no Bearer header can hold");
        }
        let mut authorization = HeaderValue::try_from(format!("{SCHEME}{}", granted.access_token))
            .map_err(|_| "an access_token that no header can hold")?;
        authorization.set_sensitive(true);
        let seconds = match &granted.expires_in {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let seconds = seconds.filter(|seconds| *seconds > 0.0).map(|seconds| seconds.min(MAX_LIFE));
        let expires_in = seconds.map(Duration::from_secs_f64);
        let scope = granted.scope.unwrap_or_default().into();
        Ok(Answer { authorization, expires_in, scope })
    }
}

/// RFC 6749 §5.2.
#[derive(Deserialize)]
struct Failed {
    error: String,
    error_description: Option<String>,
}

/// A token of Logto has some 600 bytes, with custom claims a few thousand.
const MAX_BODY: usize = 256 * 1024;
const MIN_SECRET: usize = 8;
/// A year: longer is no life of a token, and could not be added to a clock.
const MAX_LIFE: f64 = 365.0 * 24.0 * 3600.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_6749_section_2_3_1_credentials_are_form_encoded() {
        let credentials =
            Credentials::new("a:b".into(), "s+ %:&=/é".into(), ClientAuthentication::Basic);
        let basic = credentials.unwrap().basic;
        assert!(basic.is_sensitive());
        let encoded = basic.to_str().unwrap().strip_prefix("Basic ").unwrap();
        let pair = String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap();
        assert_eq!(pair, "a%3Ab:s%2B+%25%3A%26%3D%2F%C3%A9");
    }

    #[test]
    fn odd_lives_are_no_life() {
        for (expires_in, seconds) in [
            ("3600", Some(3600.0)),
            ("\"3600\"", Some(3600.0)),
            ("0.5", Some(0.5)),
            ("1e300", Some(MAX_LIFE)),
            ("0", None),
            ("-1", None),
            ("null", None),
            ("\"NaN\"", None),
            ("{}", None),
        ] {
            let body = format!(
                "{{\"access_token\":\"a\",\"token_type\":\"bearer\",\"expires_in\":{expires_in}}}"
            );
            let answer = Granted::parse(body.as_bytes()).unwrap();
            assert_eq!(answer.expires_in.map(|life| life.as_secs_f64()), seconds, "{expires_in}");
        }
    }

    #[test]
    fn only_a_bearer_token_is_a_token() {
        for (body, what) in [
            ("", "breaks off"),
            ("{\"access_token\":\"a", "breaks off"),
            ("<html>", "not JSON"),
            ("[]", "no token answer"),
            ("[\"a\",\"Bearer\",60,null]", "no token answer"),
            ("\"a\"", "no token answer"),
            ("{\"access_token\":1,\"token_type\":\"Bearer\"}", "no token answer"),
            ("{\"access_token\":\"a\"}", "no token answer"),
            ("{\"access_token\":\"a\",\"token_type\":\"DPoP\"}", "not Bearer"),
            ("{\"access_token\":\"\",\"token_type\":\"Bearer\"}", "no Bearer header"),
            ("{\"access_token\":\"a\\r\\nb\",\"token_type\":\"Bearer\"}", "no Bearer header"),
        ] {
            let Err(error) = Granted::parse(body.as_bytes()) else { panic!("{body}") };
            assert!(error.contains(what), "{body}: {error}");
        }
    }
}
