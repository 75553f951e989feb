//! The endpoint `/auth`. The proxy describes the client's request in headers, and this endpoint
//! decides whether the client's request is permitted.

use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use tower_logto::{AccessToken, AuthError, TokenKind, Validator, settings::Settings};

use crate::{
    config::{Config, Proxy},
    rules::{Access, Decision, Methods, Organization, Requirements, Rule},
    target,
};

/// Decides whether requests are permitted, according to one version of the configuration file.
#[derive(Debug)]
pub(crate) struct Authorizer {
    pub(crate) config: Config,
    pub(crate) validator: Validator,
    /// The challenge for a request without a token.
    challenge: HeaderValue,
}

/// The reason why a request is refused.
#[derive(Debug)]
enum Refusal {
    /// 403 without a challenge. The `String` contains the reason. One possible reason is that no
    /// rule permits the request. Another possible reason is that the target, a header, or a value
    /// from the token is unsafe, because the service behind the proxy could misinterpret it.
    Forbidden(String),
    /// 500, because the proxy omitted one of the two headers that describe the client's request.
    Misconfigured(String),
    /// 401, because the request has no Bearer token. The challenge has no error code (RFC 6750
    /// §3.1).
    NoToken,
    /// An error from the validator, or from checking the rule's requirements.
    Token(AuthError),
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        Self::Token(error)
    }
}

/// The values of the headers in which the proxy describes the client's request.
struct OriginalRequest<'a> {
    method: &'a [u8],
    target: &'a [u8],
}

impl Authorizer {
    /// Creates an authorizer. If `[logto]` has not changed, the new authorizer uses the validator
    /// of `earlier`. That validator keeps its keys and its cache.
    pub(crate) fn new(config: Config, earlier: Option<&Self>) -> Result<Self, String> {
        let same = earlier.filter(|earlier| earlier.config.logto == config.logto);
        let validator = match same {
            Some(earlier) => earlier.validator.clone(),
            None => config.logto.validator().map_err(|error| error.to_string())?,
        };
        let challenge = HeaderValue::try_from(challenge_without_token(&config.logto))
            .map_err(|_| "realm or resource_metadata is not ASCII".to_owned())?;
        Ok(Self { config, validator, challenge })
    }

    /// Decides whether the client's request is permitted. Returns the response for the proxy: a 200
    /// with identity headers, or a refusal.
    pub(crate) async fn respond(&self, headers: &HeaderMap) -> Response<String> {
        let decided = self.decide(headers).await;
        decided.and_then(|token| identity_response(token.as_ref())).unwrap_or_else(|refusal| {
            log(headers, self.config.proxy, &refusal);
            self.refuse(refusal)
        })
    }

    /// Returns the token of the request, or `None` if a public rule permits the request.
    async fn decide(&self, headers: &HeaderMap) -> Result<Option<AccessToken>, Refusal> {
        let forbidden = |reason: String| Err(Refusal::Forbidden(reason));
        if let Some(name) = overriding_header(headers) {
            return forbidden(format!(
                "the request has {name}, and some services take the method or the path from it"
            ));
        }
        let original = self.config.proxy.read(headers)?;
        let segments = match target::segments(original.target) {
            Ok(segments) => segments,
            Err(reason) => return forbidden(reason.to_string()),
        };
        let Some(method) = Methods::of_request(original.method) else {
            return forbidden("no rule can permit this method".into());
        };
        let rule = match self.config.rules.decide(method, &segments) {
            Decision::Rule(rule) => rule,
            Decision::NoRule => return forbidden("no rule matches; add a rule".into()),
            Decision::Ambiguous { near, matched } => {
                return forbidden(format!(
                    "rule {} matches, but the earlier rule {} applies if the service ignores case \
                     or a trailing slash; add a rule for exactly this path",
                    matched.number, near.number
                ));
            }
        };
        match &rule.access {
            // A gRPC request needs a valid token even under a public rule. Without a valid token,
            // it must not get a 2xx, because nginx and Caddy forward a request after any 2xx.
            Access::Public if !is_grpc(headers) => Ok(None),
            Access::Public => self.validate(headers).await.map(|_| None),
            Access::Token(requirements) => {
                let token = self.validate(headers).await?;
                require(&token, requirements, rule, &segments)?;
                Ok(Some(token))
            }
        }
    }

    async fn validate(&self, headers: &HeaderMap) -> Result<AccessToken, Refusal> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let credentials = match (values.next(), values.next()) {
            (None, _) => return Err(Refusal::NoToken),
            (Some(value), None) => bearer(value.as_bytes()).ok_or(Refusal::NoToken)?,
            // A request with several `Authorization` headers must get 400. The validator refuses an
            // empty token with 400, so this arm yields an empty token.
            (Some(_), Some(_)) => "",
        };
        Ok(self.validator.validate(credentials).await?)
    }

    fn refuse(&self, refusal: Refusal) -> Response<String> {
        let (status, challenge) = match refusal {
            Refusal::Forbidden(_) => (StatusCode::FORBIDDEN, None),
            Refusal::Misconfigured(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
            Refusal::NoToken => (StatusCode::UNAUTHORIZED, Some(self.challenge.clone())),
            Refusal::Token(error) => return error.into_http_response(),
        };
        let mut response = Response::new(String::new());
        *response.status_mut() = status;
        if let Some(challenge) = challenge {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl Proxy {
    const fn headers(self) -> (HeaderName, HeaderName) {
        match self {
            Self::Nginx => (
                const { HeaderName::from_static("x-original-method") },
                const { HeaderName::from_static("x-original-uri") },
            ),
            Self::Caddy => (
                const { HeaderName::from_static("x-forwarded-method") },
                const { HeaderName::from_static("x-forwarded-uri") },
            ),
        }
    }

    fn read(self, headers: &HeaderMap) -> Result<OriginalRequest<'_>, Refusal> {
        // If the setting `proxy` is wrong, a client could forge the headers that this server reads.
        // If the setting is `nginx` and a request has a header of Caddy, or the reverse, the
        // setting may be wrong. This function therefore refuses such a request.
        let other = if self == Self::Nginx { Self::Caddy } else { Self::Nginx };
        let (method, target) = other.headers();
        if let Some(name) = [method, target].iter().find(|name| headers.contains_key(*name)) {
            return Err(Refusal::Forbidden(format!(
                "the request has {name}, which is a header of another proxy; check the value \
                 of proxy in the file, or remove the header in the proxy"
            )));
        }
        let (method, target) = self.headers();
        Ok(OriginalRequest { method: once(headers, &method)?, target: once(headers, &target)? })
    }
}

fn once<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a [u8], Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.as_bytes()),
        (Some(_), Some(_)) => Err(Refusal::Forbidden(format!("the header {name} is repeated"))),
        (None, _) => Err(Refusal::Misconfigured(format!(
            "the proxy sent no {name}; compare the proxy's configuration with the README, and \
             check the value of proxy in the file"
        ))),
    }
}

/// Returns the challenge for a request without a token (RFC 6750 §3, RFC 9728 §5.1). The validator
/// has checked that `realm` and `resource_metadata` need no escaping.
fn challenge_without_token(settings: &Settings) -> String {
    let parameters =
        [("realm", &settings.realm), ("resource_metadata", &settings.resource_metadata)];
    let parameters = parameters
        .iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}=\"{value}\"")));
    let parameters = parameters.collect::<Vec<_>>().join(", ");
    format!("Bearer {parameters}").trim_end().to_owned()
}

/// Returns the text after `Bearer `, or an empty string if the credentials are malformed. Returns
/// `None` if the scheme is not `Bearer`. Accepts the same header values as `AuthLayer` (RFC 6750
/// §2.1, RFC 9110 §11.4).
fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return None;
    }
    match rest {
        [b' ', rest @ ..] => {
            Some(std::str::from_utf8(rest).unwrap_or_default().trim_start_matches(' '))
        }
        [] | [b'\t', ..] => Some(""),
        _ => None,
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let prefix = b"application/grpc";
    headers.get_all(CONTENT_TYPE).iter().any(|value| {
        let start = value.as_bytes().get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    })
}

/// Returns the first header that may make a service use a method or a path that the rules did not
/// check. Names with `_` count as well, because some services read `_` in a header name as `-`.
fn overriding_header(headers: &HeaderMap) -> Option<&HeaderName> {
    headers.keys().find(|name| OVERRIDING.contains(&&*name.as_str().replace('_', "-")))
}

fn require(
    token: &AccessToken,
    requirements: &Requirements,
    rule: &Rule,
    segments: &[String],
) -> Result<(), AuthError> {
    let Requirements { audience, scopes, any_scope, organization } = requirements;
    let mut token = match audience {
        Some(audience) => token.require_audience(audience)?,
        None => token.clone(),
    };
    let organization = match organization {
        Organization::None if token.kind() == TokenKind::Global => None,
        Organization::None => {
            return Err(AuthError::forbidden(
                "the token is for an organization, but the rule accepts global tokens only; add \
                 `organization` to the rule",
            ));
        }
        Organization::Any => Some(token.organization_id().unwrap_or_default().to_owned()),
        Organization::Parameter(name) => {
            Some(rule.pattern.parameter(name, segments).unwrap_or_default().to_owned())
        }
    };
    if let Some(organization) = organization {
        // If no organization was found, this id is empty. `require_organization` refuses an empty
        // id.
        token = token.require_organization(&organization)?;
    }
    if !scopes.is_empty() {
        token.require_scopes(scopes.iter().cloned())?;
    }
    if !any_scope.is_empty() {
        token.require_any_scope(any_scope.iter().cloned())?;
    }
    Ok(())
}

/// Builds the 200 response, which always contains all identity headers. If a header were absent, a
/// proxy that copies headers could keep the value that the client sent.
fn identity_response(token: Option<&AccessToken>) -> Result<Response<String>, Refusal> {
    let scopes = token.map(|token| token.scopes().iter().collect::<Vec<_>>().join(" "));
    let values = [
        (SUBJECT, token.map(AccessToken::subject)),
        (CLIENT_ID, token.and_then(AccessToken::client_id)),
        (ORGANIZATION_ID, token.and_then(AccessToken::organization_id)),
        (SCOPES, scopes.as_deref()),
    ];
    let mut response = Response::new(String::new());
    for (name, value) in values {
        let value = value.unwrap_or_default();
        let is_safe = |byte: u8| byte.is_ascii_graphic() || byte == b' ' && name == SCOPES;
        let header = HeaderValue::from_str(value).ok().filter(|_| value.bytes().all(is_safe));
        let Some(header) = header else {
            let reason =
                format!("the value of {name} has characters that a header must not contain");
            return Err(Refusal::Forbidden(reason));
        };
        response.headers_mut().insert(HeaderName::from_static(name), header);
    }
    Ok(response)
}

/// Logs a refusal. The query of the target may contain secrets, so the log shows the path only.
fn log(headers: &HeaderMap, proxy: Proxy, refusal: &Refusal) {
    let (method, target) = proxy.headers();
    let shown = |name: &HeaderName| {
        let value = headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        let path = target::path_of(value);
        path.get(..MAX_LOGGED).unwrap_or(path).escape_ascii().to_string()
    };
    let (method, path) = (shown(&method), shown(&target));
    match refusal {
        Refusal::Forbidden(reason) => {
            tracing::debug!(status = 403, error = %reason, method, path, "request refused");
        }
        Refusal::Misconfigured(reason) => {
            tracing::error!(error = %reason, "request refused: the proxy is misconfigured");
        }
        Refusal::NoToken => {
            let error = AuthError::missing_token();
            tracing::debug!(status = 401, error = %error, method, path, "request refused");
        }
        Refusal::Token(error) if error.status() == StatusCode::INTERNAL_SERVER_ERROR => {
            tracing::error!(error = %error, "request refused: the server is misconfigured");
        }
        Refusal::Token(error) => {
            let (status, reason) = (error.status().as_u16(), error.reason());
            tracing::debug!(status, reason, error = %error, method, path, "request refused");
        }
    }
}

const SUBJECT: &str = "x-auth-subject";
const CLIENT_ID: &str = "x-auth-client-id";
const ORGANIZATION_ID: &str = "x-auth-organization-id";
const SCOPES: &str = "x-auth-scopes";
const OVERRIDING: &[&str] = &[
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];
/// The maximum length of the method and of the path in a log message, in bytes before escaping.
const MAX_LOGGED: usize = 200;
