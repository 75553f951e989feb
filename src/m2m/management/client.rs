//! Sends calls to the Management API. If Logto refuses the token, the client repeats the call once
//! with a new token. If Logto responds with `429` and `Retry-After`, the client sends no calls
//! during the delay.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Method, StatusCode, header};
use reqwest::{Client, Url};
use tokio::runtime::{Handle, Id};

use crate::{
    http_client::{self, BodyError},
    m2m::{
        client::TokenClient,
        headers::{is_token_refusal, retry_after},
        management::{
            error::{ManagementError, ManagementErrorKind},
            response::ManagementResponse,
        },
        token::IssuedToken,
        token_request::TokenRequest,
    },
};

/// The state that all clones of one [`ManagementApi`](crate::m2m::ManagementApi) share.
pub(crate) struct ManagementClient {
    pub(crate) endpoint: Url,
    pub(crate) tokens: TokenClient,
    pub(crate) request: TokenRequest,
    /// One HTTP client per runtime, in the order of creation. Runtimes do not share a client,
    /// because a pooled connection stops working when the runtime that opened it shuts down.
    http_clients: Mutex<Vec<(Id, Client)>>,
    pause: Mutex<Option<Pause>>,
}

/// The pause after a `429` with `Retry-After`. During the pause, each new call returns the stored
/// `error`.
struct Pause {
    /// The monotonic time at which the pause ends.
    until: Duration,
    error: ManagementError,
}

impl ManagementClient {
    pub(crate) fn new(endpoint: Url, tokens: TokenClient, request: TokenRequest) -> Self {
        let (http_clients, pause) = (Mutex::default(), Mutex::default());
        Self { endpoint, tokens, request, http_clients, pause }
    }

    /// Makes a call. If Logto refuses the token, repeats the call once with a new token.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<ManagementResponse, ManagementError> {
        let url = self.url(path)?;
        self.check_pause()?;
        let token = self.tokens.token(&self.request).await?;
        let mut response = self.attempt(&method, &url, body.as_deref(), &token).await?;
        if is_token_refusal(response.status, &response.headers) {
            let fresh = self.tokens.successor(&token).await?;
            if !fresh.is_same(&token) {
                response = self.attempt(&method, &url, body.as_deref(), &fresh).await?;
            }
        }
        if response.status.is_success() {
            return Ok(response);
        }
        let delay = retry_after(&response.headers, self.tokens.clock().unix_time());
        let message = format!("{} failed with {}", response.call, response.status);
        let error = ManagementError::refused(response.status, message, &response.body, delay);
        if let (StatusCode::TOO_MANY_REQUESTS, Some(delay)) = (response.status, delay) {
            let until = self.tokens.clock().monotonic() + delay;
            *self.pause() = Some(Pause { until, error: error.clone() });
        }
        Err(error)
    }

    async fn attempt(
        &self,
        method: &Method,
        url: &Url,
        body: Option<&[u8]>,
        token: &IssuedToken,
    ) -> Result<ManagementResponse, ManagementError> {
        let client = self
            .http_client()
            .map_err(|error| ManagementError::connection(url, http_client::NO_CLIENT, &error))?;
        let mut request = client
            .request(method.clone(), url.clone())
            .header(header::AUTHORIZATION, token.authorization())
            .header(header::ACCEPT, "application/json");
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_vec());
        }
        let call = format!("{method} {}", url.path());
        let response = http_client::send(request, method.is_idempotent()).await;
        let response = response.map_err(|error| {
            ManagementError::connection(url, &format!("{call} received no response"), &error)
        })?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = http_client::read_body(response, MAX_BODY).await;
        let body = body.map_err(|error| match error {
            BodyError::TooLarge => {
                let message =
                    format!("{call} responded with {status}: the body exceeds {MAX_BODY} bytes");
                ManagementError::unexpected(status, message)
            }
            BodyError::Broken(error) => {
                let message = format!("{call} responded with {status}: incomplete body");
                ManagementError::connection(url, &message, &error)
            }
        })?;
        Ok(ManagementResponse { call, status, headers, body })
    }

    /// Returns the HTTP client of the current runtime. The first call on each runtime builds it.
    fn http_client(&self) -> Result<Client, reqwest::Error> {
        let runtime = Handle::current().id();
        let clients = || self.http_clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = clients().iter().find(|(id, _)| *id == runtime) {
            return Ok(client.clone());
        }
        // Building a client reads certificates and can write log messages. The lock is therefore
        // not held here.
        let client = self.tokens.build_pooling_http_client(&self.endpoint)?;
        let mut clients = clients();
        if clients.len() == MAX_HTTP_CLIENTS {
            clients.remove(0);
        }
        clients.push((runtime, client.clone()));
        Ok(client)
    }

    /// Returns the URL of a path at the endpoint. The path must start with `/api/`, and must not
    /// contain segments such as `..`.
    fn url(&self, path: &str) -> Result<Url, ManagementError> {
        let refuse = |advice| {
            let message = format!("the path {path:?} {advice}");
            Err(ManagementError::new(ManagementErrorKind::NotSent, message))
        };
        if !path.starts_with("/api/") {
            return refuse("must begin with /api/");
        }
        if path.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\' || c == '#') {
            return refuse("contains a character that must be percent-encoded");
        }
        // URL parsers resolve `..` and `%2e%2e`, so an id with such a value would select a
        // different resource.
        let path_only = path.split('?').next().unwrap_or_default().to_ascii_lowercase();
        let mut segments = path_only.split('/').skip(1).map(|segment| segment.replace("%2e", "."));
        if segments.any(|segment| matches!(&*segment, "" | "." | "..")) {
            return refuse("must not contain an empty segment, `.` or `..`: check the path's ids");
        }
        let endpoint = self.endpoint.as_str().trim_end_matches('/');
        Url::parse(&format!("{endpoint}{path}")).or_else(|_| refuse("does not form a valid URL"))
    }

    fn check_pause(&self) -> Result<(), ManagementError> {
        let now = self.tokens.clock().monotonic();
        match &*self.pause() {
            Some(pause) if now < pause.until => {
                Err(pause.error.with_retry_after(pause.until - now))
            }
            _ => Ok(()),
        }
    }

    fn pause(&self) -> MutexGuard<'_, Option<Pause>> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ManagementClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagementClient")
            .field("endpoint", &self.endpoint.as_str())
            .field("tokens", &self.tokens)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// The maximum number of HTTP clients. Beyond this number, the oldest client is removed. Each
/// runtime has its own client. A program has few runtimes, but in tests, each test has its own
/// runtime. The limit prevents the connections of ended tests from accumulating.
const MAX_HTTP_CLIENTS: usize = 8;
/// The maximum size of a response body, in bytes. A larger body causes an error. A page of 100
/// users with their identities and custom data can be several megabytes in size.
const MAX_BODY: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{issuer::Issuer, m2m::credentials::ClientSecret};

    #[test]
    fn path_stays_below_the_endpoint() {
        let endpoint = "https://example.com/auth";
        let issuer = Issuer::logto(endpoint).unwrap();
        let tokens = TokenClient::new(&issuer, "id", ClientSecret::new("secret")).unwrap();
        let endpoint_url = endpoint.parse().unwrap();
        let request = TokenRequest::self_hosted_management_api();
        let client = ManagementClient::new(endpoint_url, tokens, request);
        for path in ["/api/users", "/api/users/a..b", "/api/users?search=%25a%25&x=//y/.."] {
            let url = client.url(path).unwrap();
            assert_eq!(url.as_str(), format!("{endpoint}{path}"));
        }
        for path in [
            "",
            "/applications",
            "https://evil.example/api/users",
            "//evil.example/api/users",
            "/api",
            "/api/",
            "/api/users//roles",
            "/api/users/",
            "/api/users/..",
            "/api/users/../applications",
            "/api/users/%2E%2e/applications",
            "/api/users/./x",
            "/api/users/a b",
            "/api/users/a#b",
            "/api/users/..\\x",
        ] {
            let error = client.url(path).unwrap_err();
            assert_eq!(error.kind(), ManagementErrorKind::NotSent, "{path}");
        }
    }
}
