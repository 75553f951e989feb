//! Logto's Management API: a thin client, without generated types.

mod error;
mod pages;

pub use error::{ManagementError, ManagementErrorKind};
pub use pages::Pages;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use http::{Method, StatusCode, header};
use reqwest::{Client, Url};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::ConfigError,
    http_client::{self, BodyError},
    issuer::Issuer,
    m2m::{
        client::TokenClient,
        headers::{Answer, retry_after},
        request::TokenRequest,
        token::IssuedToken,
    },
};

/// Logto's Management API, for your own serde types. Cheap to clone.
///
/// Paths are those of Logto's API reference, `/api/applications`, and may carry a query; what you
/// put into one has to be percent-encoded. A call whose token is refused is made once more with a
/// new one. Where Logto asks to wait (429 and `Retry-After`), calls fail at once until then, with
/// [`retry_after`](ManagementError::retry_after).
///
/// ```no_run
/// use serde::Deserialize;
/// use tower_logto::m2m::ManagementApi;
///
/// #[derive(Deserialize)]
/// struct Application {
///     id: String,
///     name: String,
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let api = ManagementApi::cloud("tenant", "app id", std::env::var("LOGTO_APP_SECRET")?)?;
/// let mut applications = api.pages::<Application>("/api/applications");
/// while let Some(application) = applications.next().await {
///     let application = application?;
///     println!("{} {}", application.id, application.name);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ManagementApi(Arc<Shared>);

struct Shared {
    endpoint: Url,
    tokens: TokenClient,
    request: TokenRequest,
    client: OnceLock<Client>,
    /// Until when Logto does not want to be asked.
    pause: Mutex<Option<Pause>>,
}

struct Pause {
    until: Duration,
    error: ManagementError,
}

impl ManagementApi {
    /// Of a tenant in Logto Cloud, by its id: `https://TENANT.logto.app`.
    ///
    /// # Errors
    /// The setting that cannot work, by name.
    pub fn cloud(
        tenant: &str,
        app_id: impl Into<String>,
        app_secret: impl Into<String>,
    ) -> Result<Self, ConfigError> {
        if tenant.is_empty() || !tenant.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(ConfigError::new("tenant", "expected the tenant's id, letters and digits"));
        }
        let endpoint = format!("https://{tenant}.logto.app");
        let tokens = TokenClient::new(&Issuer::logto(&endpoint)?, app_id, app_secret)?;
        Self::new(&endpoint, &tokens, TokenRequest::management_api(tenant))
    }

    /// Of a self-hosted Logto, by its endpoint, such as `https://auth.example.com`.
    ///
    /// # Errors
    /// The setting that cannot work, by name.
    pub fn self_hosted(
        endpoint: &str,
        app_id: impl Into<String>,
        app_secret: impl Into<String>,
    ) -> Result<Self, ConfigError> {
        let tokens = TokenClient::new(&Issuer::logto(endpoint)?, app_id, app_secret)?;
        Self::new(endpoint, &tokens, TokenRequest::self_hosted_management_api())
    }

    /// With tokens and settings of a [`TokenClient`]: for a custom domain, an address inside of a
    /// cluster, a proxy, another timeout.
    ///
    /// ```
    /// use tower_logto::{m2m::{ManagementApi, TokenClient, TokenRequest}, Issuer};
    ///
    /// let issuer = Issuer::logto("https://auth.example.com")?;
    /// let tokens = TokenClient::new(&issuer, "app id", "app secret")?;
    /// let request = TokenRequest::management_api("tenant");
    /// let api = ManagementApi::new("https://auth.example.com", &tokens, request)?;
    /// # Ok::<(), tower_logto::error::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// `endpoint`, when it cannot be one.
    pub fn new(
        endpoint: &str,
        tokens: &TokenClient,
        request: TokenRequest,
    ) -> Result<Self, ConfigError> {
        let endpoint = endpoint.trim_end_matches('/');
        if endpoint.ends_with("/oidc") || endpoint.ends_with("/api") {
            let advice = "expected Logto's origin, without /oidc and /api";
            return Err(ConfigError::new("endpoint", advice));
        }
        let endpoint = crate::url::check_url("endpoint", endpoint, tokens.0.endpoint.transport)?;
        let (tokens, client, pause) = (tokens.clone(), OnceLock::new(), Mutex::default());
        Ok(Self(Arc::new(Shared { endpoint, tokens, request, client, pause })))
    }

    /// `GET`s one object, or a list that is not paged.
    ///
    /// # Errors
    /// What Logto, the connection or the token endpoint answered.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ManagementError> {
        self.call(Method::GET, path, None).await?.json()
    }

    /// `GET`s a list page by page.
    #[must_use]
    pub fn pages<T>(&self, path: &str) -> Pages<T> {
        Pages::new(self.clone(), path)
    }

    /// `POST`s an object; [`IgnoredAny`](serde::de::IgnoredAny) takes any
    /// answer, also one without JSON.
    ///
    /// # Errors
    /// What Logto, the connection or the token endpoint answered.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync + ?Sized),
    ) -> Result<T, ManagementError> {
        self.call(Method::POST, path, Some(to_json(path, body)?)).await?.json()
    }

    /// `PUT`s an object; [`IgnoredAny`](serde::de::IgnoredAny) takes any
    /// answer, also one without JSON.
    ///
    /// # Errors
    /// What Logto, the connection or the token endpoint answered.
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync + ?Sized),
    ) -> Result<T, ManagementError> {
        self.call(Method::PUT, path, Some(to_json(path, body)?)).await?.json()
    }

    /// `PATCH`es an object; [`IgnoredAny`](serde::de::IgnoredAny) takes any
    /// answer, also one without JSON.
    ///
    /// # Errors
    /// What Logto, the connection or the token endpoint answered.
    pub async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync + ?Sized),
    ) -> Result<T, ManagementError> {
        self.call(Method::PATCH, path, Some(to_json(path, body)?)).await?.json()
    }

    /// `DELETE`s.
    ///
    /// # Errors
    /// What Logto, the connection or the token endpoint answered.
    pub async fn delete(&self, path: &str) -> Result<(), ManagementError> {
        self.call(Method::DELETE, path, None).await.map(drop)
    }

    /// One call, and a second one if the token was refused.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, ManagementError> {
        let url = self.url(path)?;
        self.check_pause()?;
        let tokens = &self.0.tokens;
        let token = tokens.token(&self.0.request).await?;
        let mut answer = self.attempt(&method, &url, body.as_deref(), &token).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            tokens.invalidate(&token);
            let fresh = tokens.token(&self.0.request).await?;
            if !fresh.is(&token) {
                answer = self.attempt(&method, &url, body.as_deref(), &fresh).await?;
            }
        }
        if answer.status.is_success() {
            return Ok(answer);
        }
        let wait = retry_after(&answer.headers, self.0.tokens.0.clock.unix_time());
        let met = format!("{} was answered with {}", answer.call, answer.status);
        let error = ManagementError::refused(answer.status, met, &answer.body, wait);
        if let (StatusCode::TOO_MANY_REQUESTS, Some(wait)) = (answer.status, wait) {
            let until = tokens.0.clock.monotonic() + wait;
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
    ) -> Result<Answer, ManagementError> {
        let settings = &self.0.tokens.0.endpoint;
        let build = || settings.clients.build_pooling(&self.0.endpoint, settings.timeout);
        let client = http_client::get_or_build(&self.0.client, build)
            .map_err(|error| ManagementError::connection(http_client::NO_CLIENT, error))?;
        let mut request = client
            .request(method.clone(), url.clone())
            .header(header::AUTHORIZATION, token.authorization())
            .header(header::ACCEPT, "application/json");
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_vec());
        }
        let call = format!("{method} {}", url.path());
        let response = http_client::send(request, method.is_idempotent())
            .await
            .map_err(|error| ManagementError::connection(&format!("{call}: no answer"), error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body =
            http_client::read_body(response, MAX_BODY).await.map_err(|error| match error {
                BodyError::TooLarge => {
                    let met = format!("{call}: {status} with more than {MAX_BODY} bytes");
                    ManagementError::unexpected(status, met)
                }
                BodyError::Broken(error) => {
                    let met = format!("{call}: the answer ({status}) breaks off");
                    ManagementError::connection(&met, error)
                }
            })?;
        Ok(Answer { call, status, headers, body })
    }

    /// The address of a path, which has to stay below `/api/` of the endpoint.
    fn url(&self, path: &str) -> Result<Url, ManagementError> {
        let refuse = |advice| {
            let met = format!("the path {path:?} {advice}");
            Err(ManagementError::new(ManagementErrorKind::NotSent, met))
        };
        if !path.starts_with("/api/") {
            return refuse("does not begin with /api/");
        }
        if path.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\' || c == '#') {
            return refuse("holds a character that has to be percent-encoded");
        }
        // A URL's parser takes `..` and `%2e%2e` for the parent: such an id would lead elsewhere.
        let written = path.split('?').next().unwrap_or_default().to_ascii_lowercase();
        let mut segments = written.split('/').skip(1).map(|segment| segment.replace("%2e", "."));
        if segments.any(|segment| matches!(&*segment, "" | "." | "..")) {
            return refuse("holds an empty segment or one of dots: is it an id?");
        }
        let endpoint = self.0.endpoint.as_str().trim_end_matches('/');
        Url::parse(&format!("{endpoint}{path}")).or_else(|_| refuse("makes no URL"))
    }

    fn check_pause(&self) -> Result<(), ManagementError> {
        let now = self.0.tokens.0.clock.monotonic();
        match &*self.pause() {
            Some(pause) if now < pause.until => Err(pause.error.after(pause.until - now)),
            _ => Ok(()),
        }
    }

    fn pause(&self) -> MutexGuard<'_, Option<Pause>> {
        self.0.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ManagementApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagementApi")
            .field("endpoint", &self.0.endpoint.as_str())
            .field("tokens", &self.0.tokens)
            .field("request", &self.0.request)
            .finish_non_exhaustive()
    }
}

fn to_json(path: &str, body: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, ManagementError> {
    serde_json::to_vec(body).map_err(|error| {
        let met = format!("the body for {path:?} cannot be written as JSON: {error}");
        ManagementError::new(ManagementErrorKind::NotSent, met)
    })
}

/// A page of 100 users with their identities and custom data may have some megabytes.
const MAX_BODY: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_and_indicators() {
        let cloud = ManagementApi::cloud("shop1", "id", "secret").unwrap();
        assert_eq!(cloud.0.endpoint.as_str(), "https://shop1.logto.app/");
        assert_eq!(cloud.0.request, TokenRequest::management_api("shop1"));
        let url = &cloud.0.tokens.0.endpoint.url;
        assert_eq!(url.as_str(), "https://shop1.logto.app/oidc/token");

        let own = ManagementApi::self_hosted("http://localhost:3001/", "id", "secret").unwrap();
        assert_eq!(own.0.endpoint.as_str(), "http://localhost:3001/");
        assert_eq!(own.0.request, TokenRequest::self_hosted_management_api());

        for tenant in ["", "shop.logto.app", "shop/../", "https://shop.logto.app"] {
            let error = ManagementApi::cloud(tenant, "id", "secret").unwrap_err();
            assert_eq!(error.setting(), "tenant");
        }
        for endpoint in ["http://logto:3001", "https://a/oidc", "https://a/api/", "a"] {
            let error = ManagementApi::self_hosted(endpoint, "id", "secret").unwrap_err();
            assert!(["endpoint", "token_endpoint"].contains(&error.setting()), "{error}");
        }
        let error = ManagementApi::self_hosted("https://a", "id", "").unwrap_err();
        assert_eq!(error.setting(), "app_secret");
    }

    #[test]
    fn a_path_stays_below_the_endpoint() {
        let api = ManagementApi::self_hosted("https://example.com/auth", "id", "secret").unwrap();
        for path in ["/api/users", "/api/users/a..b", "/api/users?search=%25a%25&x=//y/.."] {
            let url = api.url(path).unwrap();
            assert_eq!(url.as_str(), format!("https://example.com/auth{path}"));
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
            let error = api.url(path).unwrap_err();
            assert_eq!(error.kind(), ManagementErrorKind::NotSent, "{path}");
        }
    }
}
