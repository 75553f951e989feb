//! Reads settings from configuration files and environment variables. The names of the settings are
//! the same for every service.

mod environment;
mod list;

use std::{fmt, time::Duration};

use serde::Deserialize;

use crate::{
    algorithm::Algorithm,
    error::ConfigError,
    escape::without_user_info,
    issuer::{Issuer, TrustedIssuer},
    resource_metadata::ProtectedResourceMetadata,
    settings::environment::Variables,
    url::Transport,
    validator::{Validator, ValidatorBuilder},
};

/// The settings of one issuer, of the API that accepts the issuer's tokens, and of a
/// machine-to-machine application.
///
/// One `Settings` value builds a [validator](Self::validator), a
/// [token client](Self::token_client) and the [metadata document](Self::metadata). Deserialize the
/// value as a part of your service's configuration, in any format that serde supports. An unknown
/// configuration key is an error.
///
/// ```
/// use serde::Deserialize;
/// use tower_logto::settings::Settings;
///
/// #[derive(Deserialize)]
/// struct Configuration {
///     // Nest the settings in a field. With `#[serde(flatten)]`, serde would accept unknown keys.
///     logto: Settings,
/// }
///
/// let file = r#"{ "logto": {
///     "endpoint": "https://tenant.logto.app",
///     "resource": "https://shopping.api",
///     "client": { "app_id": "b4k3r", "app_secret_file": "/run/secrets/logto" }
/// } }"#;
/// let configuration: Configuration = serde_json::from_str(file)?;
/// let validator = configuration.logto.validator()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Keys and variables
/// In a configuration file, use the configuration keys. [`from_env`](Self::from_env) reads the
/// environment variables. A setting without a value has the default of the builder.
///
/// | configuration key | environment variable | value |
/// |---|---|---|
/// | `endpoint` | `LOGTO_ENDPOINT` | the address of Logto, see [`Issuer::logto`] |
/// | `issuer` | `LOGTO_ISSUER` | the exact issuer, see [`Issuer::new`]. Set either the endpoint or the issuer, not both |
/// | `resource` | `LOGTO_RESOURCE` | the resource indicator of the API. In a file, write several indicators as a list. In a variable, separate several indicators with spaces |
/// | `organizations` | `LOGTO_ORGANIZATIONS` | `true` accepts organization permission tokens, see [`TrustedIssuer::organizations`] |
/// | `organization_tokens_only` | `LOGTO_ORGANIZATION_TOKENS_ONLY` | `true` refuses tokens that belong to no organization, see [`TrustedIssuer::organization_tokens_only`] |
/// | `algorithms` | `LOGTO_ALGORITHMS` | a list of [algorithms](Algorithm). In a variable, the algorithms are separated by spaces |
/// | `jwks_uri` | `LOGTO_JWKS_URI` | the address of the key set, see [`TrustedIssuer::jwks_uri`]. The default is `{issuer}/jwks` |
/// | `allow_http` | `LOGTO_ALLOW_HTTP` | `true` allows plain `http` to hosts that are not loopback, see [`TrustedIssuer::dangerously_allow_http`] |
/// | `clock_tolerance_secs` | `LOGTO_CLOCK_TOLERANCE_SECS` | the tolerance for `exp` and `nbf`, in seconds, see [`TrustedIssuer::clock_tolerance`] |
/// | `keys_fresh_for_secs` | `LOGTO_KEYS_FRESH_FOR_SECS` | the age at which signing keys are refreshed, in seconds, see [`ValidatorBuilder::keys_fresh_for`] |
/// | `serve_stale_keys_for_secs` | `LOGTO_SERVE_STALE_KEYS_FOR_SECS` | the age at which stale signing keys are no longer used, in seconds, see [`ValidatorBuilder::serve_stale_keys_for`] |
/// | `unknown_key_cooldown_secs` | `LOGTO_UNKNOWN_KEY_COOLDOWN_SECS` | the time between refreshes that are triggered by unknown key ids, in seconds, see [`ValidatorBuilder::unknown_key_cooldown`] |
/// | `token_cache_capacity` | `LOGTO_TOKEN_CACHE_CAPACITY` | the maximum number of validated tokens in the cache, see [`ValidatorBuilder::token_cache_capacity`] |
/// | `max_token_size` | `LOGTO_MAX_TOKEN_SIZE` | the size of the largest accepted token, in bytes, see [`ValidatorBuilder::max_token_size`] |
/// | `realm` | `LOGTO_REALM` | the `realm` of challenges, see [`ValidatorBuilder::realm`] |
/// | `resource_metadata` | `LOGTO_RESOURCE_METADATA` | the public URL of the metadata document, see [`ValidatorBuilder::resource_metadata`] |
/// | `log_refusals_at` | `LOGTO_LOG_REFUSALS_AT` | the log level of refusals: `error`, `warn`, `info`, `debug` or `trace`, see [`ValidatorBuilder::log_refusals_at`] |
/// | `client.app_id` | `LOGTO_APP_ID` | the id of a machine-to-machine application |
/// | `client.app_secret` | `LOGTO_APP_SECRET` | the secret of this application |
/// | `client.app_secret_file` | `LOGTO_APP_SECRET_FILE` | the path of a file that contains the secret. Set either the secret or the file, not both |
/// | `client.token_endpoint` | `LOGTO_TOKEN_ENDPOINT` | the address of the token endpoint. The default is `{issuer}/token` |
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Settings {
    /// The address of Logto, without `/oidc`.
    pub endpoint: Option<String>,
    /// The exact issuer, instead of the endpoint.
    pub issuer: Option<String>,
    /// The resource indicators of the API.
    #[serde(deserialize_with = "list::one_or_more")]
    pub resource: Vec<String>,
    /// Whether the validator accepts organization permission tokens.
    pub organizations: bool,
    /// Whether the validator refuses tokens that belong to no organization.
    pub organization_tokens_only: bool,
    /// The accepted signature algorithms.
    #[serde(deserialize_with = "list::algorithms")]
    pub algorithms: Option<Vec<Algorithm>>,
    /// The address of the key set.
    pub jwks_uri: Option<String>,
    /// Whether plain `http` URLs may have hosts that are not loopback.
    pub allow_http: bool,
    /// The clock tolerance, in seconds.
    pub clock_tolerance_secs: Option<u64>,
    /// The age at which signing keys are refreshed, in seconds.
    pub keys_fresh_for_secs: Option<u64>,
    /// The age at which stale signing keys are no longer used, in seconds.
    pub serve_stale_keys_for_secs: Option<u64>,
    /// The time between refreshes that are triggered by unknown key ids, in seconds. The first two
    /// such refreshes do not wait for this time.
    pub unknown_key_cooldown_secs: Option<u64>,
    /// The maximum number of validated tokens in the cache. 0 disables the cache.
    pub token_cache_capacity: Option<usize>,
    /// The size of the largest accepted token, in bytes.
    pub max_token_size: Option<usize>,
    /// The `realm` of challenges.
    pub realm: Option<String>,
    /// The public URL of the metadata document.
    pub resource_metadata: Option<String>,
    /// The log level of refusals.
    #[serde(deserialize_with = "list::level")]
    pub log_refusals_at: Option<tracing::Level>,
    /// The machine-to-machine application.
    pub client: ClientSettings,
    /// Whether errors name settings by their configuration keys or by their variables.
    #[serde(skip)]
    names: Names,
}

/// The machine-to-machine application in [`Settings`].
///
/// ```
/// use tower_logto::settings::ClientSettings;
///
/// let json = r#"{ "app_id": "b4k3r", "app_secret_file": "/run/secrets/logto" }"#;
/// let client: ClientSettings = serde_json::from_str(json)?;
/// assert_eq!(client.app_id.as_deref(), Some("b4k3r"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ClientSettings {
    /// The application's id.
    pub app_id: Option<String>,
    /// The application's secret. To keep the secret out of the configuration file, use
    /// [`app_secret_file`](Self::app_secret_file) or an environment variable instead.
    pub app_secret: Option<String>,
    /// A file that contains the application's secret.
    pub app_secret_file: Option<String>,
    /// The address of the token endpoint.
    pub token_endpoint: Option<String>,
}

/// The names that errors use for settings: configuration keys or environment variables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Names {
    #[default]
    Keys,
    Variables,
}

impl Settings {
    /// Reads the settings from environment variables.
    ///
    /// An empty variable counts as not set. You can also put the value of any variable in a file.
    /// To do so, append `_FILE` to the variable's name, and use the path of the file as the value,
    /// for example `LOGTO_APP_SECRET_FILE=/run/secrets/logto`. Docker and Kubernetes provide
    /// secrets as such files. One newline (`\n` or `\r\n`) at the end of the file is removed.
    ///
    /// Other variables that start with `LOGTO_` are ignored, because Kubernetes sets variables such
    /// as `LOGTO_PORT` if a service has the name `logto`.
    ///
    /// # Errors
    /// Returns an error if a value has the wrong syntax, if a file cannot be read, or if a variable
    /// is set both with and without `_FILE`. The error names the variable.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// Works like [`from_env`](Self::from_env), but reads another source of variables. Use this
    /// function in tests, or to read variables with a different prefix.
    ///
    /// ```
    /// use tower_logto::settings::Settings;
    ///
    /// // Reads PARTNER_LOGTO_ENDPOINT, PARTNER_LOGTO_RESOURCE and so on.
    /// let partner = Settings::from_variables(|name| std::env::var_os(format!("PARTNER_{name}")))?;
    /// # Ok::<(), tower_logto::error::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// Returns the errors of [`from_env`](Self::from_env).
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<std::ffi::OsString>,
    ) -> Result<Self, ConfigError> {
        let read = Variables(variable);
        Ok(Self {
            endpoint: read.text("LOGTO_ENDPOINT")?,
            issuer: read.text("LOGTO_ISSUER")?,
            resource: read.words("LOGTO_RESOURCE")?,
            organizations: read.switch("LOGTO_ORGANIZATIONS")?,
            organization_tokens_only: read.switch("LOGTO_ORGANIZATION_TOKENS_ONLY")?,
            algorithms: read.parsed("LOGTO_ALGORITHMS", list::parse_algorithms)?,
            jwks_uri: read.text("LOGTO_JWKS_URI")?,
            allow_http: read.switch("LOGTO_ALLOW_HTTP")?,
            clock_tolerance_secs: read.number("LOGTO_CLOCK_TOLERANCE_SECS")?,
            keys_fresh_for_secs: read.number("LOGTO_KEYS_FRESH_FOR_SECS")?,
            serve_stale_keys_for_secs: read.number("LOGTO_SERVE_STALE_KEYS_FOR_SECS")?,
            unknown_key_cooldown_secs: read.number("LOGTO_UNKNOWN_KEY_COOLDOWN_SECS")?,
            token_cache_capacity: read.number("LOGTO_TOKEN_CACHE_CAPACITY")?,
            max_token_size: read.number("LOGTO_MAX_TOKEN_SIZE")?,
            realm: read.text("LOGTO_REALM")?,
            resource_metadata: read.text("LOGTO_RESOURCE_METADATA")?,
            log_refusals_at: read.parsed("LOGTO_LOG_REFUSALS_AT", list::parse_level)?,
            client: ClientSettings {
                app_id: read.text("LOGTO_APP_ID")?,
                // If LOGTO_APP_SECRET_FILE is set, `read.text` returns the content of that file.
                // This code therefore never sets `app_secret_file`.
                app_secret: read.text("LOGTO_APP_SECRET")?,
                app_secret_file: None,
                token_endpoint: read.text("LOGTO_TOKEN_ENDPOINT")?,
            },
            names: Names::Variables,
        })
    }

    /// Returns the issuer.
    ///
    /// # Errors
    /// Returns an error if neither the endpoint nor the issuer is set, if both are set, or if the
    /// value is invalid.
    pub fn issuer(&self) -> Result<Issuer, ConfigError> {
        match (&self.endpoint, &self.issuer) {
            (Some(endpoint), None) => Issuer::from_endpoint(endpoint, self.transport()),
            (None, Some(issuer)) => Issuer::new(issuer),
            (None, None) => Err(ConfigError::new(
                "endpoint",
                "not set: expected the address of Logto, for example https://tenant.logto.app",
            )),
            (Some(_), Some(_)) => Err(ConfigError::new(
                "issuer",
                "the endpoint and the issuer are both set: remove one of them",
            )),
        }
        .map_err(|error| self.named(error))
    }

    /// Returns the trusted issuer, which already has these settings. You can add further settings.
    ///
    /// # Errors
    /// Returns the errors of [`issuer`](Self::issuer).
    pub fn trusted_issuer(&self) -> Result<TrustedIssuer, ConfigError> {
        let mut trusted = TrustedIssuer::new(&self.issuer()?);
        for resource in &self.resource {
            trusted = trusted.audience(resource);
        }
        if self.organizations {
            trusted = trusted.organizations();
        }
        if self.organization_tokens_only {
            trusted = trusted.organization_tokens_only();
        }
        if let Some(algorithms) = &self.algorithms {
            trusted = trusted.algorithms(algorithms.iter().copied());
        }
        if let Some(uri) = &self.jwks_uri {
            trusted = trusted.jwks_uri(uri);
        }
        if self.allow_http {
            trusted = trusted.dangerously_allow_http();
        }
        if let Some(seconds) = self.clock_tolerance_secs {
            trusted = trusted.clock_tolerance(Duration::from_secs(seconds));
        }
        Ok(trusted)
    }

    /// Returns a builder that already has these settings. You can add further settings. Errors from
    /// the builder refer to its setters, not to the configuration keys or variables.
    ///
    /// # Errors
    /// Returns the errors of [`issuer`](Self::issuer).
    pub fn validator_builder(&self) -> Result<ValidatorBuilder, ConfigError> {
        let mut builder = Validator::builder().trust(self.trusted_issuer()?);
        if let Some(seconds) = self.keys_fresh_for_secs {
            builder = builder.keys_fresh_for(Duration::from_secs(seconds));
        }
        if let Some(seconds) = self.serve_stale_keys_for_secs {
            builder = builder.serve_stale_keys_for(Duration::from_secs(seconds));
        }
        if let Some(seconds) = self.unknown_key_cooldown_secs {
            builder = builder.unknown_key_cooldown(Duration::from_secs(seconds));
        }
        if let Some(tokens) = self.token_cache_capacity {
            builder = builder.token_cache_capacity(tokens);
        }
        if let Some(bytes) = self.max_token_size {
            builder = builder.max_token_size(bytes);
        }
        if let Some(realm) = &self.realm {
            builder = builder.realm(realm);
        }
        if let Some(url) = &self.resource_metadata {
            builder = builder.resource_metadata(url);
        }
        if let Some(level) = self.log_refusals_at {
            builder = builder.log_refusals_at(level);
        }
        Ok(builder)
    }

    /// Builds a validator.
    ///
    /// # Errors
    /// Returns an error if a setting is missing or invalid. The error names the configuration key
    /// or the variable.
    pub fn validator(&self) -> Result<Validator, ConfigError> {
        let builder = self.validator_builder()?;
        if self.resource.is_empty() && !self.organizations {
            return Err(self.named(ConfigError::new(
                "audience",
                "not set: expected the API's resource indicator, for example https://shopping.api",
            )));
        }
        builder.build().map_err(|error| self.named(error))
    }

    /// Returns the metadata document of the API (RFC 9728). You can add scopes and a name.
    ///
    /// # Errors
    /// Returns the errors of [`issuer`](Self::issuer). Also returns an error if there is no
    /// resource indicator or more than one. A metadata document describes exactly one resource.
    pub fn metadata(&self) -> Result<ProtectedResourceMetadata, ConfigError> {
        match self.resource.as_slice() {
            [resource] => Ok(ProtectedResourceMetadata::new(resource, [&self.issuer()?])),
            others => {
                let count = others.len();
                let advice = format!("a metadata document needs 1 resource, found {count}");
                Err(self.named(ConfigError::new("audience", advice)))
            }
        }
    }

    /// Builds a token client for the machine-to-machine application.
    ///
    /// # Errors
    /// Returns an error if a setting is missing or invalid, or if the file with the secret cannot
    /// be read. The error names the configuration key or the variable.
    #[cfg(feature = "client")]
    #[cfg_attr(docsrs, doc(cfg(feature = "client")))]
    pub fn token_client(&self) -> Result<crate::m2m::TokenClient, ConfigError> {
        self.token_client_builder()?.build().map_err(|error| self.named(error))
    }

    /// Returns a builder that already has these settings. You can add further settings. Errors from
    /// the builder refer to its setters, not to the configuration keys or variables.
    ///
    /// # Errors
    /// Returns the errors of [`issuer`](Self::issuer). Also returns an error if the id or the
    /// secret of the application is missing, if the secret and its file are both set, or if the
    /// file cannot be read.
    #[cfg(feature = "client")]
    #[cfg_attr(docsrs, doc(cfg(feature = "client")))]
    pub fn token_client_builder(&self) -> Result<crate::m2m::TokenClientBuilder, ConfigError> {
        use crate::m2m::TokenClient;

        let app_id = self.client.app_id.as_ref().ok_or_else(|| {
            let advice = "not set: expected the id of a machine-to-machine application";
            self.named(ConfigError::new("app_id", advice))
        })?;
        let secret = self.client.secret().map_err(|error| self.named(error))?;
        let mut builder = TokenClient::builder(&self.issuer()?, app_id, secret);
        if let Some(url) = &self.client.token_endpoint {
            builder = builder.token_endpoint(url);
        }
        if self.allow_http {
            builder = builder.dangerously_allow_http();
        }
        Ok(builder)
    }

    const fn transport(&self) -> Transport {
        if self.allow_http { Transport::AllowHttp } else { Transport::HttpsOrLoopback }
    }

    /// Replaces the setter's name in the error with the configuration key or the variable.
    fn named(&self, error: ConfigError) -> ConfigError {
        let key = match error.setting() {
            "audience" => "resource",
            // If `jwks_uri` or `token_endpoint` is not set, its URL is derived from `endpoint` or
            // `issuer`, whichever is set. An error about a derived URL names that setting.
            "jwks_uri" if self.jwks_uri.is_none() => self.issuer_key(),
            "token_endpoint" if self.client.token_endpoint.is_none() => self.issuer_key(),
            "token_endpoint" => "client.token_endpoint",
            "app_id" => "client.app_id",
            "app_secret" => "client.app_secret",
            "clock_tolerance" => "clock_tolerance_secs",
            "keys_fresh_for" => "keys_fresh_for_secs",
            "serve_stale_keys_for" => "serve_stale_keys_for_secs",
            "unknown_key_cooldown" => "unknown_key_cooldown_secs",
            other => other,
        };
        error.written_as(match self.names {
            Names::Keys => key.into(),
            Names::Variables => {
                let name = key.strip_prefix("client.").unwrap_or(key);
                format!("LOGTO_{}", name.to_ascii_uppercase()).into()
            }
        })
    }

    const fn issuer_key(&self) -> &'static str {
        if self.endpoint.is_some() { "endpoint" } else { "issuer" }
    }
}

impl ClientSettings {
    #[cfg(feature = "client")]
    fn secret(&self) -> Result<crate::m2m::ClientSecret, ConfigError> {
        let refuse = |advice: String| Err(ConfigError::new("app_secret", advice));
        let secret = match (&self.app_secret, &self.app_secret_file) {
            (Some(secret), None) => secret.clone(),
            (None, Some(file)) => environment::read_file(file)
                .map_err(|problem| ConfigError::new("app_secret", problem))?,
            (None, None) => return refuse("not set: expected the application's secret".into()),
            (Some(_), Some(_)) => {
                return refuse("app_secret and app_secret_file are both set: remove one".into());
            }
        };
        Ok(crate::m2m::ClientSecret::new(secret))
    }
}

/// Leaves out secrets, and removes user names and passwords from URLs.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint.as_deref().map(without_user_info))
            .field("issuer", &self.issuer.as_deref().map(without_user_info))
            .field("resource", &self.resource)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// Shows only the id of the application.
impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSettings").field("app_id", &self.app_id).finish_non_exhaustive()
    }
}
