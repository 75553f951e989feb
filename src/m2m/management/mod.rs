//! A thin client for Logto's Management API, without generated types.

mod client;
mod error;
mod pages;
mod response;

pub use error::{ManagementError, ManagementErrorKind};
pub use pages::Pages;

use std::{fmt, sync::Arc};

use http::Method;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::ConfigError,
    issuer::Issuer,
    m2m::{
        client::TokenClient, credentials::ClientSecret, management::client::ManagementClient,
        token_request::TokenRequest,
    },
};

/// Calls Logto's Management API with your own serde types. The client is cheap to clone.
///
/// Use the paths of Logto's API reference, such as `/api/applications`. A path can contain a query.
/// Percent-encode the values that you insert into a path. If Logto refuses the token of a call, the
/// client repeats the call once with a new token. If Logto responds with `429` and `Retry-After`,
/// further calls fail immediately until the requested delay has passed. The error of such a call
/// contains the remaining delay, see [`retry_after`](ManagementError::retry_after).
///
/// # Cancel safety
/// If you drop the future of `post`, `put`, `patch` or `delete`, Logto may still carry out the
/// call.
///
/// # Runtime
/// Calls need a tokio runtime with I/O and time enabled.
///
/// ```no_run
/// use serde::Deserialize;
/// use tower_logto::m2m::{ClientSecret, ManagementApi};
///
/// #[derive(Deserialize)]
/// struct Application {
///     id: String,
///     name: String,
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let secret = ClientSecret::new(std::env::var("LOGTO_APP_SECRET")?);
/// let api = ManagementApi::cloud("tenant", "app id", secret)?;
/// let mut applications = api.pages::<Application>("/api/applications");
/// while let Some(application) = applications.next().await {
///     let application = application?;
///     println!("{} {}", application.id, application.name);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ManagementApi(Arc<ManagementClient>);

impl ManagementApi {
    /// Creates a client for the tenant with this id in Logto Cloud. The endpoint is
    /// `https://TENANT.logto.app`.
    ///
    /// # Errors
    /// Returns an error that names the invalid setting.
    pub fn cloud(
        tenant: &str,
        app_id: impl Into<String>,
        app_secret: ClientSecret,
    ) -> Result<Self, ConfigError> {
        if tenant.is_empty() || !tenant.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            let advice =
                format!("expected a tenant id of letters, digits and hyphens, found {tenant:?}");
            return Err(ConfigError::new("tenant", advice));
        }
        let endpoint = format!("https://{tenant}.logto.app");
        let tokens = TokenClient::new(&Issuer::logto(&endpoint)?, app_id, app_secret)?;
        Self::new(&endpoint, tokens, TokenRequest::management_api(tenant))
    }

    /// Creates a client for self-hosted Logto at this endpoint, such as `https://auth.example.com`.
    ///
    /// # Errors
    /// Returns an error that names the invalid setting.
    pub fn self_hosted(
        endpoint: &str,
        app_id: impl Into<String>,
        app_secret: ClientSecret,
    ) -> Result<Self, ConfigError> {
        let tokens = TokenClient::new(&Issuer::logto(endpoint)?, app_id, app_secret)?;
        Self::new(endpoint, tokens, TokenRequest::self_hosted_management_api())
    }

    /// Creates a client that uses the tokens and the settings of a [`TokenClient`]. Use this
    /// constructor for a custom domain, an address inside a cluster, a proxy, or a different
    /// timeout.
    ///
    /// ```
    /// use tower_logto::{m2m::{ClientSecret, ManagementApi, TokenClient, TokenRequest}, Issuer};
    ///
    /// let issuer = Issuer::logto("https://auth.example.com")?;
    /// let tokens = TokenClient::new(&issuer, "app id", ClientSecret::new("app secret"))?;
    /// let request = TokenRequest::management_api("tenant");
    /// let api = ManagementApi::new("https://auth.example.com", tokens, request)?;
    /// # Ok::<(), tower_logto::error::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if `endpoint` is invalid.
    pub fn new(
        endpoint: &str,
        tokens: TokenClient,
        request: TokenRequest,
    ) -> Result<Self, ConfigError> {
        let endpoint = endpoint.trim_end_matches('/');
        if endpoint.ends_with("/oidc") || endpoint.ends_with("/api") {
            let advice = "expected Logto's address without /oidc or /api at its end";
            return Err(ConfigError::new("endpoint", advice));
        }
        let endpoint = crate::url::check_url("endpoint", endpoint, tokens.transport())?;
        Ok(Self(Arc::new(ManagementClient::new(endpoint, tokens, request))))
    }

    /// `GET`s one object, or a list that Logto does not divide into pages.
    ///
    /// # Errors
    /// Returns an error if no token is available, if the call fails, or if the response does not
    /// match `T`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ManagementError> {
        self.send(Method::GET, path, None::<&()>).await
    }

    /// `GET`s a list, page by page. The first call of [`next`](Pages::next) sends the first
    /// request.
    pub fn pages<T>(&self, path: impl Into<String>) -> Pages<T> {
        Pages::new(Arc::clone(&self.0), path.into())
    }

    /// `POST`s an object. If you ignore the response, or if the response is not JSON, use
    /// [`IgnoredAny`](serde::de::IgnoredAny) as `T`.
    ///
    /// # Errors
    /// Returns the errors of [`get`](Self::get).
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync + ?Sized),
    ) -> Result<T, ManagementError> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// `PUT`s an object. If you ignore the response, or if the response is not JSON, use
    /// [`IgnoredAny`](serde::de::IgnoredAny) as `T`.
    ///
    /// # Errors
    /// Returns the errors of [`get`](Self::get).
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync + ?Sized),
    ) -> Result<T, ManagementError> {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// `PATCH`es an object. If you ignore the response, or if the response is not JSON, use
    /// [`IgnoredAny`](serde::de::IgnoredAny) as `T`.
    ///
    /// # Errors
    /// Returns the errors of [`get`](Self::get).
    pub async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync + ?Sized),
    ) -> Result<T, ManagementError> {
        self.send(Method::PATCH, path, Some(body)).await
    }

    /// `DELETE`s an object, and ignores the body of the response.
    ///
    /// # Errors
    /// Returns an error if no token is available or the call fails.
    pub async fn delete(&self, path: &str) -> Result<(), ManagementError> {
        self.0.call(Method::DELETE, path, None).await.map(drop)
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync + ?Sized)>,
    ) -> Result<T, ManagementError> {
        let body = body.map(serde_json::to_vec).transpose().map_err(|error| {
            let message = format!("the body for {path:?} cannot be serialized: {error}");
            ManagementError::new(ManagementErrorKind::NotSent, message)
        })?;
        self.0.call(method, path, body).await?.json()
    }
}

impl fmt::Debug for ManagementApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManagementApi").field(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> ClientSecret {
        ClientSecret::new("secret")
    }

    #[test]
    fn constructors_derive_the_endpoints_and_the_resource() {
        let cloud = ManagementApi::cloud("shop1", "id", secret()).unwrap();
        assert_eq!(cloud.0.endpoint.as_str(), "https://shop1.logto.app/");
        assert_eq!(cloud.0.request, TokenRequest::management_api("shop1"));
        let url = cloud.0.tokens.token_endpoint();
        assert_eq!(url.as_str(), "https://shop1.logto.app/oidc/token");

        let own = ManagementApi::self_hosted("http://localhost:3001/", "id", secret()).unwrap();
        assert_eq!(own.0.endpoint.as_str(), "http://localhost:3001/");
        assert_eq!(own.0.request, TokenRequest::self_hosted_management_api());
    }

    #[test]
    fn invalid_setting_is_named() {
        for tenant in ["", "shop.logto.app", "shop/../", "https://shop.logto.app"] {
            let error = ManagementApi::cloud(tenant, "id", secret()).unwrap_err();
            assert_eq!(error.setting(), "tenant");
        }
        for endpoint in ["http://logto:3001", "https://a/oidc", "https://a/api/", "a"] {
            let error = ManagementApi::self_hosted(endpoint, "id", secret()).unwrap_err();
            assert!(["endpoint", "token_endpoint"].contains(&error.setting()), "{error}");
        }
        let empty = ClientSecret::new("");
        let error = ManagementApi::self_hosted("https://a", "id", empty).unwrap_err();
        assert_eq!(error.setting(), "app_secret");
    }
}
