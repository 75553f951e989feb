//! Who signs: an issuer's exact name, and what is trusted about it.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    algorithm::Algorithm,
    error::ConfigError,
    url::{self, Transport},
};

/// An issuer identifier, the exact string of the `iss` claim (RFC 8414 §2, RFC 9068 §2.2).
///
/// ```
/// use tower_logto::Issuer;
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// assert_eq!(issuer.as_str(), "https://tenant.logto.app/oidc");
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Issuer(Arc<str>);

impl Issuer {
    /// The issuer of a Logto endpoint (`https://tenant.logto.app`, a custom domain or a
    /// self-hosted origin): the endpoint and `/oidc`.
    ///
    /// # Errors
    /// `endpoint`, when it is not an `http` or `https` URL without query, fragment and user, or
    /// already ends in `/oidc`.
    pub fn logto(endpoint: &str) -> Result<Self, ConfigError> {
        url::parse_url("endpoint", endpoint)?;
        let endpoint = endpoint.trim_end_matches('/');
        if endpoint.ends_with("/oidc") {
            return Err(ConfigError::new(
                "endpoint",
                format!("{endpoint:?} is the issuer: leave out /oidc, or use Issuer::new"),
            ));
        }
        Ok(Self(format!("{endpoint}/oidc").into()))
    }

    /// Any issuer, compared byte for byte with `iss`: no trailing slash is added or taken away.
    ///
    /// # Errors
    /// `issuer`, when it is not an `http` or `https` URL without query, fragment and user.
    pub fn new(issuer: &str) -> Result<Self, ConfigError> {
        url::parse_url("issuer", issuer)?;
        Ok(Self(issuer.into()))
    }

    /// The exact string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where Logto publishes the issuer's keys: `{issuer}/jwks`.
    pub(crate) fn jwks_uri(&self) -> String {
        format!("{}/jwks", self.0.trim_end_matches('/'))
    }

    /// Where Logto gives tokens: `{issuer}/token`.
    #[cfg(feature = "client")]
    pub(crate) fn token_endpoint(&self) -> String {
        format!("{}/token", self.0.trim_end_matches('/'))
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Issuer").field(&self.0).finish()
    }
}

/// An issuer and what is accepted from it: audiences, algorithms, clock tolerance, keys.
///
/// ```
/// use tower_logto::{Issuer, TrustedIssuer, Validator};
///
/// // Keys are fetched by the cluster's name, the issuer is what the tokens say.
/// let issuer = Issuer::logto("https://auth.example.com")?;
/// let trusted = TrustedIssuer::new(&issuer)
///     .audience("https://shopping.api")
///     .organizations()
///     .jwks_uri("http://logto:3001/oidc/jwks")
///     .dangerously_allow_http();
/// let validator = Validator::builder().trust(trusted).build()?;
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct TrustedIssuer {
    pub(crate) issuer: Issuer,
    pub(crate) audiences: Vec<Box<str>>,
    pub(crate) organizations: bool,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) clock_tolerance: Duration,
    pub(crate) jwks: JwksSource,
    pub(crate) transport: Transport,
}

/// Where an issuer's keys come from.
#[derive(Debug, Clone)]
pub(crate) enum JwksSource {
    Uri(String),
    Static(String),
}

impl TrustedIssuer {
    /// Trusts an issuer's keys, for no audience yet.
    #[must_use]
    pub fn new(issuer: &Issuer) -> Self {
        Self {
            issuer: issuer.clone(),
            audiences: Vec::new(),
            organizations: false,
            algorithms: Algorithm::LOGTO.to_vec(),
            clock_tolerance: DEFAULT_CLOCK_TOLERANCE,
            jwks: JwksSource::Uri(issuer.jwks_uri()),
            transport: Transport::HttpsOrLoopback,
        }
    }

    /// Accepts tokens for this API: its resource indicator (RFC 8707), compared byte for byte.
    #[must_use]
    pub fn audience(mut self, resource: impl Into<String>) -> Self {
        self.audiences.push(resource.into().into());
        self
    }

    /// Accepts organization permission tokens, `aud` = `urn:logto:organization:<id>`.
    ///
    /// They open only routes whose guards name that kind:
    /// [`RequiredScopes::kind`](crate::RequiredScopes::kind).
    #[must_use]
    pub const fn organizations(mut self) -> Self {
        self.organizations = true;
        self
    }

    /// The allow-list of signature algorithms; [`Algorithm::LOGTO`] by default.
    #[must_use]
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// How far this machine's clock and the issuer's may differ when `exp` and `nbf` are judged;
    /// whole seconds, 30 s by default, at most 5 min.
    #[must_use]
    pub const fn clock_tolerance(mut self, tolerance: Duration) -> Self {
        self.clock_tolerance = tolerance;
        self
    }

    /// Fetches the key set from this address; `{issuer}/jwks` by default.
    ///
    /// Behind Docker or Kubernetes the address may be an internal one, while the issuer stays what
    /// the tokens say.
    #[must_use]
    pub fn jwks_uri(mut self, uri: impl Into<String>) -> Self {
        self.jwks = JwksSource::Uri(uri.into());
        self
    }

    /// Uses this key set (the JSON of RFC 7517 §5) for ever, and never fetches.
    #[must_use]
    pub fn static_jwks(mut self, json: impl Into<String>) -> Self {
        self.jwks = JwksSource::Static(json.into());
        self
    }

    /// Allows a key set over plain `http` from an address that is not loopback.
    ///
    /// Whoever can change that traffic can sign tokens: only inside a network you trust. The
    /// environment variable `LOGTO_ALLOW_HTTP=1` does the same without a new build.
    #[must_use]
    pub const fn dangerously_allow_http(mut self) -> Self {
        self.transport = Transport::AllowHttp;
        self
    }

    /// Whether the settings can work.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.audiences.is_empty() && !self.organizations {
            return Err(ConfigError::new(
                "audience",
                format!(
                    "none for {}: name the API's resource indicator, or call organizations()",
                    self.issuer
                ),
            ));
        }
        for audience in &self.audiences {
            check_audience(audience)?;
        }
        if self.algorithms.is_empty() {
            return Err(ConfigError::new("algorithms", "the allow-list is empty"));
        }
        if self.clock_tolerance > MAX_CLOCK_TOLERANCE {
            return Err(ConfigError::new("clock_tolerance", "at most 5 minutes"));
        }
        Ok(())
    }
}

fn check_audience(audience: &str) -> Result<(), ConfigError> {
    let advice = if audience.trim().is_empty() {
        "empty: name the API's resource indicator".into()
    } else if audience.chars().any(|c| c.is_whitespace() || c.is_control()) {
        format!("{audience:?} holds spaces or control characters, and no resource indicator does")
    } else if audience.starts_with(ORGANIZATION_AUDIENCE) {
        format!(
            "{audience:?} is an organization: call organizations(), guard with RequireOrganization"
        )
    } else if audience.starts_with(LOGTO_AUDIENCES) {
        format!("{audience:?} is reserved for Logto, which gives such tokens to any app")
    } else {
        return Ok(());
    };
    Err(ConfigError::new("audience", advice))
}

/// The prefix of `aud` in an organization permission token; the organization's id follows.
pub(crate) const ORGANIZATION_AUDIENCE: &str = "urn:logto:organization:";
/// Logto's own audiences: organizations, and the reserved resource that gives any app every
/// organization scope.
pub(crate) const LOGTO_AUDIENCES: &str = "urn:logto:";
const DEFAULT_CLOCK_TOLERANCE: Duration = Duration::from_secs(30);
const MAX_CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_becomes_an_issuer() {
        for (endpoint, issuer) in [
            ("https://tenant.logto.app", "https://tenant.logto.app/oidc"),
            ("https://tenant.logto.app/", "https://tenant.logto.app/oidc"),
            ("http://localhost:3001", "http://localhost:3001/oidc"),
            ("https://example.com/auth", "https://example.com/auth/oidc"),
        ] {
            assert_eq!(Issuer::logto(endpoint).unwrap().as_str(), issuer);
        }
        for endpoint in [
            "",
            "tenant.logto.app",
            "ftp://tenant.logto.app",
            "https://",
            "https://tenant.logto.app/oidc",
            "https://tenant.logto.app?x=y",
            "https://tenant.logto.app#x",
            "https://user:secret@tenant.logto.app",
            " https://tenant.logto.app",
        ] {
            let error = Issuer::logto(endpoint).unwrap_err();
            assert_eq!(error.setting(), "endpoint", "{endpoint}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn an_issuer_keeps_its_exact_string() {
        let issuer = Issuer::new("https://Example.com:443/oidc/").unwrap();
        assert_eq!(issuer.as_str(), "https://Example.com:443/oidc/");
        assert_eq!(issuer.jwks_uri(), "https://Example.com:443/oidc/jwks");
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let issuer = Issuer::logto("https://tenant.logto.app").unwrap();
        let good = || TrustedIssuer::new(&issuer).audience("https://shopping.api");
        let build = |trusted| crate::Validator::builder().trust(trusted).build();
        build(good()).unwrap();
        build(TrustedIssuer::new(&issuer).organizations()).unwrap();
        build(good().jwks_uri("http://127.0.0.1:3001/jwks")).unwrap();
        build(good().jwks_uri("http://[::1]:3001/jwks")).unwrap();
        build(good().jwks_uri("http://logto/jwks").dangerously_allow_http()).unwrap();
        for (trusted, setting) in [
            (TrustedIssuer::new(&issuer), "audience"),
            (good().audience(""), "audience"),
            (good().audience("https://shopping.api "), "audience"),
            (good().audience("urn:logto:organization:acme"), "audience"),
            (good().audience("urn:logto:resource:organizations"), "audience"),
            (good().audience("urn:logto:shopping"), "audience"),
            (good().algorithms([]), "algorithms"),
            (good().clock_tolerance(Duration::from_secs(301)), "clock_tolerance"),
            (good().jwks_uri("http://logto:3001/oidc/jwks"), "jwks_uri"),
            (good().jwks_uri("http://127.0.0.1.evil.example/jwks"), "jwks_uri"),
            (good().jwks_uri("file:///etc/passwd"), "jwks_uri"),
        ] {
            assert_eq!(build(trusted).unwrap_err().setting(), setting);
        }
    }
}
