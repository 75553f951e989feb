//! Issuers of tokens: the exact identifier, and the settings of a trusted issuer.

use std::{fmt, sync::Arc, time::Duration};

use ::url::Url;

use crate::{
    algorithm::Algorithm,
    error::ConfigError,
    escape::without_user_info,
    url::{self, Transport},
};

/// An issuer identifier: the exact string of the `iss` claim (RFC 8414 §2, RFC 9068 §2.2).
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
    /// Returns the issuer of a Logto endpoint: the endpoint followed by `/oidc`.
    ///
    /// The endpoint is the URL of a tenant (such as `https://tenant.logto.app`), of a custom domain
    /// or of a self-hosted server.
    ///
    /// # Errors
    /// Returns an error if `endpoint` is neither an `https` URL nor an `http` URL of a loopback
    /// host, or if it has a query, a fragment or a user name. The environment variable
    /// `LOGTO_ALLOW_HTTP=1` allows `http` for any host.
    ///
    /// Also returns an error if `endpoint` differs from the form that Logto uses. For example, the
    /// host must not be in upper case, and the URL must not be the address of an issuer, a key set
    /// or a discovery document. If the form differs, the error contains the corrected endpoint.
    pub fn logto(endpoint: &str) -> Result<Self, ConfigError> {
        Self::from_endpoint(endpoint, Transport::HttpsOrLoopback)
    }

    /// Does the same as [`logto`](Self::logto). If `transport` allows plain `http`, this function
    /// also accepts `http` URLs of hosts that are not loopback.
    pub(crate) fn from_endpoint(endpoint: &str, transport: Transport) -> Result<Self, ConfigError> {
        let url = url::parse_url("endpoint", endpoint)?;
        if !url::is_permitted(&url, transport) {
            return Err(ConfigError::new(
                "endpoint",
                format!(
                    "{endpoint:?} is plain http to a host that is not loopback: use https, or, \
                     inside a network you trust, set LOGTO_ALLOW_HTTP=1 or use \
                     Issuer::new({:?}) and dangerously_allow_http()",
                    format!("{}/oidc", endpoint.trim_end_matches('/'))
                ),
            ));
        }
        let written = endpoint.trim_end_matches('/');
        let corrected = corrected_endpoint(&url);
        if written != corrected {
            let advice = format!("{endpoint:?} is not a Logto endpoint; use {corrected:?}");
            return Err(ConfigError::new("endpoint", advice));
        }
        Ok(Self(format!("{written}/oidc").into()))
    }

    /// Returns an issuer with exactly this identifier. The issuer may be a server other than Logto.
    ///
    /// The validator compares the identifier with `iss` byte for byte. The crate neither adds nor
    /// removes a trailing slash.
    ///
    /// # Errors
    /// Returns an error if `issuer` is not an `http` or `https` URL, or if it has a query, a
    /// fragment or a user name.
    pub fn new(issuer: &str) -> Result<Self, ConfigError> {
        url::parse_url("issuer", issuer)?;
        Ok(Self(issuer.into()))
    }

    /// Returns the identifier, exactly as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the address of Logto's key set: `{issuer}/jwks`.
    pub(crate) fn jwks_uri(&self) -> String {
        format!("{}/jwks", self.0.trim_end_matches('/'))
    }

    /// Returns the address of Logto's token endpoint: `{issuer}/token`.
    #[cfg(feature = "client")]
    pub(crate) fn token_endpoint(&self) -> String {
        format!("{}/token", self.0.trim_end_matches('/'))
    }
}

/// Returns the endpoint in the form that Logto uses in `iss`. The host is in lower case, and a
/// default port is left out. A path segment `oidc` or `.well-known` is removed, together with the
/// segments after it.
fn corrected_endpoint(url: &Url) -> String {
    // `Url::parse` has already put the host in lower case and removed a default port.
    let segments = url.path().split('/').take_while(|one| !["oidc", ".well-known"].contains(one));
    let path = segments.collect::<Vec<_>>().join("/");
    format!("{}{}", url.origin().ascii_serialization(), path.trim_end_matches('/'))
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

/// A trusted issuer, and the settings for its tokens: audiences, algorithms, clock tolerance, keys.
///
/// [`ValidatorBuilder::build`](crate::ValidatorBuilder::build) validates these settings.
///
/// ```
/// use tower_logto::{Issuer, TrustedIssuer, Validator};
///
/// // Inside a cluster, the key set has an internal address. The issuer must still equal `iss`.
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
#[must_use = "an issuer is trusted only after ValidatorBuilder::trust"]
pub struct TrustedIssuer {
    pub(crate) issuer: Issuer,
    pub(crate) audiences: Vec<Box<str>>,
    pub(crate) organizations: bool,
    pub(crate) organization_tokens_only: bool,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) clock_tolerance: Duration,
    pub(crate) jwks: JwksSource,
    pub(crate) transport: Transport,
}

/// The source of an issuer's keys.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum JwksSource {
    Uri(String),
    Static(String),
}

/// The debug output of a URL omits the user name and the password. The debug output of a static key
/// set contains only its size, because the key set can contain private keys.
impl fmt::Debug for JwksSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(uri) => f.debug_tuple("Uri").field(&without_user_info(uri)).finish(),
            Self::Static(json) => write!(f, "Static({} bytes)", json.len()),
        }
    }
}

impl TrustedIssuer {
    /// Returns the default settings for an issuer. Set at least one [`audience`](Self::audience),
    /// or call [`organizations`](Self::organizations).
    pub fn new(issuer: &Issuer) -> Self {
        Self {
            issuer: issuer.clone(),
            audiences: Vec::new(),
            organizations: false,
            organization_tokens_only: false,
            algorithms: Algorithm::LOGTO.to_vec(),
            clock_tolerance: DEFAULT_CLOCK_TOLERANCE,
            jwks: JwksSource::Uri(issuer.jwks_uri()),
            transport: Transport::HttpsOrLoopback,
        }
    }

    /// Also accepts tokens for this API. `resource` is the API's resource indicator (RFC 8707). The
    /// validator compares the resource indicator with `aud` byte for byte.
    ///
    /// If a validator has several audiences, each guard must name the required audience with
    /// [`Require::audience`](crate::Require::audience). One validator per audience is simpler: see
    /// [`Validator::derive`](crate::Validator::derive).
    pub fn audience(mut self, resource: impl Into<String>) -> Self {
        self.audiences.push(resource.into().into());
        self
    }

    /// Also accepts organization permission tokens, whose `aud` is `urn:logto:organization:<id>`.
    ///
    /// A guard accepts these tokens only if it is built with
    /// [`Require::organization_permissions`](crate::Require::organization_permissions).
    pub const fn organizations(mut self) -> Self {
        self.organizations = true;
        self
    }

    /// Refuses tokens that belong to no organization.
    ///
    /// Use this setting if every route of the API belongs to an organization. Without this setting,
    /// a route whose guard does not check the organization could accept a user's token for a global
    /// API resource. Such a token combines the API scopes from the user's roles in all
    /// organizations.
    ///
    /// Guards must still check the organization. To accept organization permission tokens, also
    /// call [`organizations`](Self::organizations).
    pub const fn organization_tokens_only(mut self) -> Self {
        self.organization_tokens_only = true;
        self
    }

    /// Sets the accepted signature algorithms. The default is [`Algorithm::LOGTO`].
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// Sets the clock tolerance for the checks of `exp` and `nbf`. The tolerance is the largest
    /// accepted difference between the clock of this machine and the clock of the issuer.
    ///
    /// The default is 30 s, and the maximum is 5 min. Fractions of a second are ignored.
    pub const fn clock_tolerance(mut self, tolerance: Duration) -> Self {
        self.clock_tolerance = tolerance;
        self
    }

    /// Fetches the key set from this address. The default is `{issuer}/jwks`.
    ///
    /// In Docker or Kubernetes, `uri` can be an internal address. Even with an internal address,
    /// the issuer identifier must equal the `iss` of the tokens.
    pub fn jwks_uri(mut self, uri: impl Into<String>) -> Self {
        self.jwks = JwksSource::Uri(uri.into());
        self
    }

    /// Uses this key set (the JSON of RFC 7517 §5) and never fetches keys.
    pub fn static_jwks(mut self, json: impl Into<String>) -> Self {
        self.jwks = JwksSource::Static(json.into());
        self
    }

    /// Allows plain `http` for a key set at an address that is not loopback.
    ///
    /// An attacker who can change an `http` response can replace the keys, and can then sign tokens
    /// that the validator accepts. Use this setting only inside a network that you trust. The
    /// environment variable `LOGTO_ALLOW_HTTP=1` has the same effect without a change of the code.
    pub const fn dangerously_allow_http(mut self) -> Self {
        self.transport = Transport::AllowHttp;
        self
    }

    /// Returns whether both issuers have the same settings for keys. If they do, their validators
    /// can share the keys.
    pub(crate) fn has_same_keys(&self, other: &Self) -> bool {
        self.issuer == other.issuer
            && self.jwks == other.jwks
            && self.transport == other.transport
            && self.algorithms == other.algorithms
    }

    /// Validates the settings, for `ValidatorBuilder::build`.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.audiences.is_empty() && !self.organizations {
            return Err(ConfigError::new(
                "audience",
                "none is set; add the API's resource indicator with audience(…), or call \
                 organizations()",
            ));
        }
        for audience in &self.audiences {
            check_audience(audience)?;
        }
        if self.algorithms.is_empty() {
            return Err(ConfigError::new(
                "algorithms",
                "the list is empty; remove the call to use the default (Algorithm::LOGTO)",
            ));
        }
        if self.clock_tolerance > MAX_CLOCK_TOLERANCE {
            return Err(ConfigError::new(
                "clock_tolerance",
                format!("{:?} is too long; the maximum is 5 min", self.clock_tolerance),
            ));
        }
        Ok(())
    }
}

fn check_audience(audience: &str) -> Result<(), ConfigError> {
    let advice = if audience.trim().is_empty() {
        "the audience is empty; expected the API's resource indicator".into()
    } else if audience.chars().any(|c| c.is_whitespace() || c.is_control()) {
        format!(
            "{audience:?} has spaces or control characters; expected the API's resource indicator"
        )
    } else if audience.starts_with(ORGANIZATION_AUDIENCE) {
        format!(
            "{audience:?} is the audience of an organization; call organizations() instead, and \
             guard routes with Require::organization_in_path(…).organization_permissions()"
        )
    } else if audience.starts_with(LOGTO_AUDIENCES) {
        format!("{audience:?} is reserved by Logto; expected the API's resource indicator")
    } else {
        return Ok(());
    };
    Err(ConfigError::new("audience", advice))
}

/// The prefix of `aud` in an organization permission token. The organization's id follows.
pub(crate) const ORGANIZATION_AUDIENCE: &str = "urn:logto:organization:";
/// The prefix of Logto's own audiences. One of these audiences is a reserved resource. Every
/// application can get a token for that resource, with any organization scopes that it requests.
pub(crate) const LOGTO_AUDIENCES: &str = "urn:logto:";
const DEFAULT_CLOCK_TOLERANCE: Duration = Duration::from_secs(30);
pub(crate) const MAX_CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_gives_issuer_and_invalid_endpoint_is_refused() {
        for (endpoint, issuer) in [
            ("https://tenant.logto.app", "https://tenant.logto.app/oidc"),
            ("https://tenant.logto.app/", "https://tenant.logto.app/oidc"),
            ("http://localhost:3001", "http://localhost:3001/oidc"),
            ("https://example.com/auth", "https://example.com/auth/oidc"),
        ] {
            assert_eq!(Issuer::logto(endpoint).unwrap().as_str(), issuer);
        }
        for (endpoint, corrected) in [
            ("https://tenant.logto.app/oidc", "https://tenant.logto.app"),
            ("https://tenant.logto.app/oidc/jwks", "https://tenant.logto.app"),
            ("https://example.com/auth/oidc/", "https://example.com/auth"),
            (
                "https://tenant.logto.app/oidc/.well-known/openid-configuration",
                "https://tenant.logto.app",
            ),
            (
                "https://tenant.logto.app/.well-known/openid-configuration",
                "https://tenant.logto.app",
            ),
            ("https://Tenant.Logto.App", "https://tenant.logto.app"),
            ("https://tenant.logto.app:443/", "https://tenant.logto.app"),
            ("http://localhost:80", "http://localhost"),
        ] {
            let error = Issuer::logto(endpoint).unwrap_err().to_string();
            assert!(error.ends_with(&format!("use {corrected:?}")), "{error}");
            Issuer::logto(corrected).unwrap();
        }
        let http = Issuer::logto("http://logto:3001/").unwrap_err().to_string();
        assert!(http.contains("Issuer::new(\"http://logto:3001/oidc\")"), "{http}");
        assert!(http.contains("dangerously_allow_http"), "{http}");
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
    fn issuer_keeps_its_exact_string() {
        let issuer = Issuer::new("https://Example.com:443/oidc/").unwrap();
        assert_eq!(issuer.as_str(), "https://Example.com:443/oidc/");
        assert_eq!(issuer.jwks_uri(), "https://Example.com:443/oidc/jwks");
    }

    #[test]
    fn invalid_setting_is_named_in_the_error() {
        let issuer = Issuer::logto("https://tenant.logto.app").unwrap();
        let valid = || TrustedIssuer::new(&issuer).audience("https://shopping.api");
        let build = |trusted| crate::Validator::builder().trust(trusted).build();
        build(valid()).unwrap();
        build(TrustedIssuer::new(&issuer).organizations()).unwrap();
        build(valid().jwks_uri("http://127.0.0.1:3001/jwks")).unwrap();
        build(valid().jwks_uri("http://[::1]:3001/jwks")).unwrap();
        build(valid().jwks_uri("http://logto/jwks").dangerously_allow_http()).unwrap();
        for (trusted, setting) in [
            (TrustedIssuer::new(&issuer), "audience"),
            (valid().audience(""), "audience"),
            (valid().audience("https://shopping.api "), "audience"),
            (valid().audience("urn:logto:organization:acme"), "audience"),
            (valid().audience("urn:logto:resource:organizations"), "audience"),
            (valid().audience("urn:logto:shopping"), "audience"),
            (valid().algorithms([]), "algorithms"),
            (valid().clock_tolerance(Duration::from_secs(301)), "clock_tolerance"),
            (valid().jwks_uri("http://logto:3001/oidc/jwks"), "jwks_uri"),
            (valid().jwks_uri("http://127.0.0.1.evil.example/jwks"), "jwks_uri"),
            (valid().jwks_uri("file:///etc/passwd"), "jwks_uri"),
        ] {
            assert_eq!(build(trusted).unwrap_err().setting(), setting);
        }
    }

    #[test]
    fn debug_shows_neither_a_key_set_nor_user_info() {
        let issuer = Issuer::logto("https://tenant.logto.app").unwrap();
        let trusted = TrustedIssuer::new(&issuer).audience("https://shopping.api");
        let keys = trusted.clone().static_jwks("{\"d\":\"private\"}");
        let uri = trusted.jwks_uri("https://alice:private@logto/oidc/jwks");
        for trusted in [keys, uri] {
            let builder = crate::Validator::builder()
                .trust(trusted.clone())
                .resource_metadata("https://alice:private@shopping.example");
            for shown in [format!("{trusted:?}"), format!("{builder:?}")] {
                assert!(shown.contains("https://shopping.api"), "{shown}");
                assert!(!shown.contains("private"), "{shown}");
            }
        }
    }
}
