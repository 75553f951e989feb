//! The decision about one original request.

use hyper::{
    HeaderMap, Response, StatusCode,
    header::{AUTHORIZATION, HeaderValue},
};
use tower_logto::{AccessToken, AuthError};

use crate::{
    config::Config,
    rules::Access,
    target::{self, Segments},
};

/// The response to the proxy has no body.
pub(crate) type Empty = http_body_util::Empty<hyper::body::Bytes>;

/// The original request, as the proxy describes it.
struct Original<'a> {
    method: &'a str,
    target: &'a str,
    path: Segments,
}

/// Why a request is not allowed.
enum Denial {
    /// The reason for the log. The caller gets the status alone.
    Status(StatusCode, String),
    /// The token is refused.
    Token(Box<AuthError>),
}

/// Decides about the original request that these headers describe.
pub(crate) async fn decide(config: &Config, headers: &HeaderMap) -> Response<Empty> {
    match allowed(config, headers).await {
        Ok(token) => accepted(token.as_ref()),
        Err(denial) => denied(config, headers, denial),
    }
}

/// Returns the token, or `None` for a public rule.
async fn allowed(config: &Config, headers: &HeaderMap) -> Result<Option<AccessToken>, Denial> {
    let Original { method, target, path } = original(config, headers)?;
    let (rule, parameters) = config.rules.find(method, &path).ok_or_else(|| {
        Denial::Status(StatusCode::FORBIDDEN, format!("no rule fits {method:?} {target:?}"))
    })?;
    let Access::Token { scopes, any_scope, organization } = &rule.access else { return Ok(None) };
    let mut token = config.validator.validate(bearer(headers)?).await?;
    if let Some(name) = organization {
        let id = parameters.get(name).map(String::as_str).unwrap_or_default();
        token = token.require_organization(id)?;
    }
    token.require_scopes(scopes.iter().cloned())?;
    if !any_scope.is_empty() {
        token.require_any_scope(any_scope.iter().cloned())?;
    }
    Ok(Some(token))
}

/// Reads the headers of the proxy. Each must occur exactly once: without the proxy's header, the
/// caller's own would decide.
fn original<'a>(config: &Config, headers: &'a HeaderMap) -> Result<Original<'a>, Denial> {
    let (method, target) = config.proxy.headers();
    let (method, target) = (only(headers, method)?, only(headers, target)?);
    let path = target::segments(target).map_err(|error| {
        Denial::Status(StatusCode::FORBIDDEN, format!("{target:?} is ambiguous: {error}"))
    })?;
    Ok(Original { method, target, path })
}

fn only<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Denial> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(HeaderValue::to_str), values.next()) {
        (Some(Ok(value)), None) => Ok(value),
        (None, _) => Err(Denial::Status(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the proxy does not send {name}: see its configuration in the README"),
        )),
        (Some(Err(_)), _) => {
            Err(Denial::Status(StatusCode::FORBIDDEN, format!("{name} is not visible ASCII")))
        }
        (Some(_), Some(_)) => Err(Denial::Status(
            StatusCode::FORBIDDEN,
            format!("{name} occurs twice: the proxy must replace the caller's header"),
        )),
    }
}

/// Reads the credentials (RFC 6750 §2.1). Another scheme counts as no token.
fn bearer(headers: &HeaderMap) -> Result<&str, Denial> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        let several = "there are several Authorization headers".into();
        return Err(Denial::Status(StatusCode::BAD_REQUEST, several));
    }
    let credentials = first.and_then(|value| value.to_str().ok()).unwrap_or_default();
    match credentials.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            Ok(token.trim_start_matches(' '))
        }
        _ => Err(AuthError::missing_token().into()),
    }
}

/// Every response has every header: Caddy otherwise leaves a placeholder in the request.
fn accepted(token: Option<&AccessToken>) -> Response<Empty> {
    let scopes = token.map(|token| token.scopes().iter().collect::<Vec<_>>().join(" "));
    let identity = [
        ("x-auth-subject", token.map(AccessToken::subject)),
        ("x-auth-client-id", token.and_then(AccessToken::client_id)),
        ("x-auth-organization-id", token.and_then(AccessToken::organization_id)),
        ("x-auth-scopes", scopes.as_deref()),
    ];
    let mut response = Response::new(Empty::new());
    for (name, value) in identity {
        let Some(value) = header_value(value.unwrap_or_default()) else {
            tracing::warn!(header = name, "request refused: the claim cannot be a header");
            *response.status_mut() = StatusCode::FORBIDDEN;
            response.headers_mut().clear();
            return response;
        };
        response.headers_mut().insert(name, value);
    }
    response
}

/// Only visible ASCII and single spaces: services disagree about everything else.
fn header_value(claim: &str) -> Option<HeaderValue> {
    let is_visible = claim.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    let is_trimmed = claim.trim() == claim;
    if is_visible && is_trimmed { HeaderValue::from_str(claim).ok() } else { None }
}

fn denied(config: &Config, headers: &HeaderMap, denial: Denial) -> Response<Empty> {
    let (method, target) = config.proxy.headers();
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let (method, target) = (text(method).unwrap_or_default(), text(target).unwrap_or_default());
    match denial {
        Denial::Token(error) => {
            let (reason, status) = (error.reason(), error.status().as_u16());
            let path = target.split('?').next().unwrap_or_default();
            tracing::info!(reason, status, ?method, ?path, %error, "request refused");
            error.into_http_response()
        }
        Denial::Status(status, problem) => {
            if status.is_server_error() {
                tracing::error!("{problem}");
            } else {
                tracing::info!(status = status.as_u16(), "request refused: {problem}");
            }
            let mut response = Response::new(Empty::new());
            *response.status_mut() = status;
            response
        }
    }
}

impl From<AuthError> for Denial {
    fn from(error: AuthError) -> Self {
        Self::Token(Box::new(error))
    }
}
