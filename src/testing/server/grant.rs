//! The client credentials grant: the checks of a token request, and Logto's response.

use std::collections::BTreeSet;

use axum::response::{IntoResponse as _, Response};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use http::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
};
use serde_json::Value;
use url::Url;

use crate::{
    Issuer,
    testing::{
        app::TestApp,
        server::{
            form::{self, Form},
            json::OrderedObject,
            state::{IssuerState, ORGANIZATIONS_RESOURCE},
        },
        token::TokenBuilder,
    },
};

/// Runs the client credentials grant (RFC 6749 §4.4), including Logto's parameter
/// `organization_id`. The checks are in Logto's order.
pub(crate) fn grant(
    state: &IssuerState,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<OrderedObject, OAuthErrorResponse> {
    let form = read_form(headers, body)?;
    let app = authenticate(state, headers, &form)?;
    check_grant_type(&form)?;
    let organization = form.one("organization_id");
    if organization.is_some_and(|id| !app.is_member_of(id)) {
        return Err(OAuthErrorResponse::not_a_member());
    }
    let resource = resource(state, &form)?;
    let token = TokenBuilder::new(
        &state.issuer,
        state.keys().current.clone(),
        &state.clock,
        state.token_ttl,
    )
    .client_id(&app.id);
    let token = match (resource, organization) {
        (Some(resource), None) => token.audience(resource),
        (Some(resource), Some(id)) => token.audience(resource).organization_resource(id),
        (None, Some(id)) => token.organization_permissions(id),
        (None, None) => {
            return Err(OAuthErrorResponse::target(
                "both `resource` and `organization_id` are not provided",
            ));
        }
    };
    let scopes = scopes(state, app, &form, resource);
    let mut response = OrderedObject::from_iter([
        ("access_token", Value::from(token.scopes(scopes.iter().copied()).build())),
        ("expires_in", state.token_ttl.as_secs().into()),
        ("token_type", "Bearer".into()),
    ]);
    if resource.is_none() || !scopes.is_empty() {
        response.push("scope", scopes.join(" "));
    }
    Ok(response)
}

fn read_form(headers: &HeaderMap, body: &[u8]) -> Result<Form, OAuthErrorResponse> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(|value| value.starts_with("application/x-www-form-urlencoded")) {
        return Err(OAuthErrorResponse::request(
            "only application/x-www-form-urlencoded content-type bodies are supported on POST /token",
        ));
    }
    let form = Form::parse(body);
    for name in ["client_id", "client_secret", "grant_type", "scope", "organization_id"] {
        if form.all(name).count() > 1 {
            let description = format!("'{name}' parameter must not be provided twice");
            return Err(OAuthErrorResponse::request(description));
        }
    }
    Ok(form)
}

fn check_grant_type(form: &Form) -> Result<(), OAuthErrorResponse> {
    match form.one("grant_type") {
        Some("client_credentials") => Ok(()),
        Some("authorization_code" | "refresh_token") => {
            Err(OAuthErrorResponse::request("requested grant type is not allowed for this client"))
        }
        Some(_) => Err(OAuthErrorResponse::grant_type()),
        None => Err(OAuthErrorResponse::request("missing required parameter 'grant_type'")),
    }
}

/// Returns the scopes that were both requested and granted, without duplicates.
///
/// As in Logto, the order depends on the kind of token. The scopes of a resource are in the order
/// of the request. The permissions of an organization are in the order of the application's roles.
fn scopes<'a>(
    state: &'a IssuerState,
    app: &'a TestApp,
    form: &'a Form,
    resource: Option<&str>,
) -> Vec<&'a str> {
    let requested: Vec<_> = form.one("scope").unwrap_or_default().split(' ').collect();
    let granted: Vec<_> = match resource {
        // For this reserved resource, Logto grants every application all organization permissions
        // that the tenant defines.
        Some(ORGANIZATIONS_RESOURCE) => {
            state.apps.iter().flat_map(TestApp::organization_permissions).collect()
        }
        _ => app.granted(form.one("organization_id"), resource).collect(),
    };
    let (mut scopes, others) =
        if resource.is_some() { (requested, granted) } else { (granted, requested) };
    let mut seen = BTreeSet::new();
    scopes.retain(|scope| others.contains(scope) && seen.insert(*scope));
    scopes
}

fn resource<'a>(
    state: &IssuerState,
    form: &'a Form,
) -> Result<Option<&'a str>, OAuthErrorResponse> {
    let mut resources = form.all("resource");
    let Some(resource) = resources.next() else { return Ok(None) };
    if resources.next().is_some() {
        return Err(OAuthErrorResponse::target(
            "only a single resource indicator value is supported for this grant type",
        ));
    }
    if Url::parse(resource).is_err() {
        return Err(OAuthErrorResponse::target("resource indicator must be an absolute URI"));
    }
    if resource.contains('#') {
        return Err(OAuthErrorResponse::target(
            "resource indicator must not contain a fragment component",
        ));
    }
    if !state.resources.contains(resource) {
        return Err(OAuthErrorResponse::target("resource indicator is missing, or unknown"));
    }
    Ok(Some(resource))
}

/// Authenticates the application by `client_secret_basic` or `client_secret_post` (RFC 6749
/// §2.3.1). A request that uses both methods is refused.
fn authenticate<'a>(
    state: &'a IssuerState,
    headers: &HeaderMap,
    form: &Form,
) -> Result<&'a TestApp, OAuthErrorResponse> {
    let basic = headers.get(AUTHORIZATION).map(basic).transpose()?;
    let (id, secret) = match &basic {
        Some((id, secret)) => {
            if form.one("client_id").is_some_and(|other| other != id) {
                return Err(OAuthErrorResponse::request(
                    "mismatch in body and authorization client ids",
                ));
            }
            if form.one("client_secret").is_some() {
                return Err(OAuthErrorResponse::request(
                    "client authentication must only be provided using one mechanism",
                ));
            }
            (Some(id.as_str()), Some(secret.as_str()))
        }
        None => (form.one("client_id"), form.one("client_secret")),
    };
    let Some(id) = id else {
        return Err(OAuthErrorResponse::request("no client authentication mechanism provided"));
    };
    let Some(app) = state.apps.iter().find(|app| app.id == id) else {
        return Err(OAuthErrorResponse::client(format!("invalid client {id}")));
    };
    if secret != Some(app.secret.as_str()) {
        return Err(OAuthErrorResponse::wrong_secret(basic.is_some()));
    }
    if app.expired {
        return Err(OAuthErrorResponse::request("client secret has expired"));
    }
    Ok(app)
}

/// Reads the id and the secret from HTTP Basic credentials. Both are form-encoded (RFC 6749
/// §2.3.1).
fn basic(value: &HeaderValue) -> Result<(String, String), OAuthErrorResponse> {
    let malformed = || OAuthErrorResponse::request("invalid authorization header value format");
    let value = value.to_str().map_err(|_| malformed())?;
    let (scheme, credentials) = value.split_once(' ').ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(malformed());
    }
    let decoded = STANDARD.decode(credentials).or_else(|_| STANDARD_NO_PAD.decode(credentials));
    let decoded = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or_else(malformed)?;
    let (id, secret) = decoded.split_once(':').ok_or_else(malformed)?;
    let decoded = form::decode(id).zip(form::decode(secret));
    decoded.ok_or_else(|| {
        OAuthErrorResponse::request(
            "client_id and client_secret in the authorization header are not properly encoded",
        )
    })
}

/// An error response of the token endpoint (RFC 6749 §5.2). As in Logto, the body also has the
/// members `code` and `message`.
pub(crate) struct OAuthErrorResponse {
    status: StatusCode,
    error: &'static str,
    message: &'static str,
    description: String,
    /// Whether the `Authorization` header contained a wrong secret. If so, the response has a
    /// challenge.
    by_header: bool,
}

impl OAuthErrorResponse {
    fn new(error: &'static str, message: &'static str, description: impl Into<String>) -> Self {
        let description = description.into();
        Self { status: StatusCode::BAD_REQUEST, error, message, description, by_header: false }
    }

    fn request(description: impl Into<String>) -> Self {
        Self::new("invalid_request", "Request is invalid.", description)
    }

    fn target(description: impl Into<String>) -> Self {
        Self::new("invalid_target", "Invalid resource indicator.", description)
    }

    fn client(description: impl Into<String>) -> Self {
        let message = "An OIDC error occurred: oidc.invalid_client.";
        Self::new("invalid_client", message, description)
    }

    fn wrong_secret(by_header: bool) -> Self {
        let response = Self::client("client authentication failed");
        Self { status: StatusCode::UNAUTHORIZED, by_header, ..response }
    }

    fn not_a_member() -> Self {
        let description = "app has not associated with the organization";
        let response = Self::new("access_denied", "Access denied.", description);
        Self { status: StatusCode::FORBIDDEN, ..response }
    }

    fn grant_type() -> Self {
        let message = "Unsupported `grant_type` requested.";
        Self::new("unsupported_grant_type", message, "unsupported grant_type requested")
    }

    pub(crate) fn into_response(self, issuer: &Issuer) -> Response {
        let Self { status, error, message, description, by_header } = self;
        let challenge = by_header.then(|| {
            let challenge = format!(
                "Basic realm=\"{issuer}\", error=\"{error}\", error_description=\"{description}\""
            );
            [(WWW_AUTHENTICATE, challenge)]
        });
        let body = OrderedObject::from_iter([
            ("code", format!("oidc.{error}")),
            ("message", message.into()),
            ("error", error.into()),
            ("error_description", description),
        ]);
        (status, challenge, body).into_response()
    }
}
