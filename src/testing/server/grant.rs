//! The client credentials grant: who asks, for what, and what Logto gives or says.

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

use crate::{
    Issuer,
    testing::{
        TestApp, TokenBuilder,
        issuer::State,
        server::{
            form::{self, Form},
            json::Members,
        },
    },
};

/// The client credentials grant (RFC 6749 §4.4) with Logto's organizations, in the order in which
/// Logto checks.
pub(in crate::testing) fn grant(
    state: &State,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Members, Refusal> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(|value| value.starts_with("application/x-www-form-urlencoded")) {
        return Err(Refusal::request(
            "only application/x-www-form-urlencoded content-type bodies are supported on POST /token",
        ));
    }
    let form = Form::parse(body);
    for name in ["client_id", "client_secret", "grant_type", "scope", "organization_id"] {
        if form.all(name).count() > 1 {
            return Err(Refusal::request(format!("'{name}' parameter must not be provided twice")));
        }
    }
    let app = authenticate(state, headers, &form)?;
    match form.one("grant_type") {
        Some("client_credentials") => {}
        Some("authorization_code" | "refresh_token") => {
            return Err(Refusal::request("requested grant type is not allowed for this client"));
        }
        Some(_) => return Err(Refusal::grant_type()),
        None => return Err(Refusal::request("missing required parameter 'grant_type'")),
    }

    let organization = form.one("organization_id");
    if organization.is_some_and(|id| !app.is_member_of(id)) {
        return Err(Refusal::not_a_member());
    }
    let resource = resource(state, &form)?;
    let token = TokenBuilder::new(state).client_id(&app.id);
    let token = match (resource, organization) {
        (Some(resource), None) => token.audience(resource),
        (Some(resource), Some(id)) => token.audience(resource).organization_resource(id),
        (None, Some(id)) => token.organization_permissions(id),
        (None, None) => {
            return Err(Refusal::target("both `resource` and `organization_id` are not provided"));
        }
    };
    let scopes = scopes(state, app, &form, resource);
    let mut answer = Members::from_iter([
        ("access_token", Value::from(token.scopes(scopes.iter().copied()).build())),
        ("expires_in", state.token_ttl.as_secs().into()),
        ("token_type", "Bearer".into()),
    ]);
    if resource.is_none() || !scopes.is_empty() {
        answer.push("scope", scopes.join(" "));
    }
    Ok(answer)
}

/// Each scope that was asked for and granted, once: of a resource in the order of the request, of
/// an organization in the order of the roles.
fn scopes<'a>(
    state: &'a State,
    app: &'a TestApp,
    form: &'a Form,
    resource: Option<&str>,
) -> Vec<&'a str> {
    let requested: Vec<_> = form.one("scope").unwrap_or_default().split(' ').collect();
    let granted: Vec<_> = match resource {
        // Logto's trap: every organization permission there is, for any application.
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

fn resource<'a>(state: &State, form: &'a Form) -> Result<Option<&'a str>, Refusal> {
    let mut resources = form.all("resource");
    let Some(resource) = resources.next() else { return Ok(None) };
    if resources.next().is_some() {
        return Err(Refusal::target(
            "only a single resource indicator value is supported for this grant type",
        ));
    }
    if reqwest::Url::parse(resource).is_err() {
        return Err(Refusal::target("resource indicator must be an absolute URI"));
    }
    if resource.contains('#') {
        return Err(Refusal::target("resource indicator must not contain a fragment component"));
    }
    if !state.resources.contains(resource) {
        return Err(Refusal::target("resource indicator is missing, or unknown"));
    }
    Ok(Some(resource))
}

/// `client_secret_basic` or `client_secret_post` (RFC 6749 §2.3.1), never both.
fn authenticate<'a>(
    state: &'a State,
    headers: &HeaderMap,
    form: &Form,
) -> Result<&'a TestApp, Refusal> {
    let basic = headers.get(AUTHORIZATION).map(basic).transpose()?;
    let (id, secret) = match &basic {
        Some((id, secret)) => {
            if form.one("client_id").is_some_and(|other| other != id) {
                return Err(Refusal::request("mismatch in body and authorization client ids"));
            }
            if form.one("client_secret").is_some() {
                return Err(Refusal::request(
                    "client authentication must only be provided using one mechanism",
                ));
            }
            (Some(id.as_str()), Some(secret.as_str()))
        }
        None => (form.one("client_id"), form.one("client_secret")),
    };
    let Some(id) = id else {
        return Err(Refusal::request("no client authentication mechanism provided"));
    };
    let Some(app) = state.apps.iter().find(|app| app.id == id) else {
        return Err(Refusal::client(format!("invalid client {id}")));
    };
    if secret != Some(app.secret.as_str()) {
        return Err(Refusal::wrong_secret(basic.is_some()));
    }
    if app.expired {
        return Err(Refusal::request("client secret has expired"));
    }
    Ok(app)
}

/// Both halves are form-encoded before they are joined.
fn basic(value: &HeaderValue) -> Result<(String, String), Refusal> {
    let malformed = || Refusal::request("invalid authorization header value format");
    let value = value.to_str().map_err(|_| malformed())?;
    let (scheme, credentials) = value.split_once(' ').ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(malformed());
    }
    let decoded = STANDARD.decode(credentials).or_else(|_| STANDARD_NO_PAD.decode(credentials));
    let decoded = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or_else(malformed)?;
    let (id, secret) = decoded.split_once(':').ok_or_else(malformed)?;
    let halves = form::decode(id).zip(form::decode(secret));
    halves.ok_or_else(|| {
        Refusal::request(
            "client_id and client_secret in the authorization header are not properly encoded",
        )
    })
}

/// An error of the token endpoint (RFC 6749 §5.2) with Logto's own members.
pub(in crate::testing) struct Refusal {
    status: StatusCode,
    error: &'static str,
    message: &'static str,
    description: String,
    /// Its credentials came in `Authorization`: the answer has a challenge.
    by_header: bool,
}

impl Refusal {
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
        let refusal = Self::client("client authentication failed");
        Self { status: StatusCode::UNAUTHORIZED, by_header, ..refusal }
    }

    fn not_a_member() -> Self {
        let description = "app has not associated with the organization";
        let refusal = Self::new("access_denied", "Access denied.", description);
        Self { status: StatusCode::FORBIDDEN, ..refusal }
    }

    fn grant_type() -> Self {
        let message = "Unsupported `grant_type` requested.";
        Self::new("unsupported_grant_type", message, "unsupported grant_type requested")
    }

    pub(in crate::testing) fn into_response(self, issuer: &Issuer) -> Response {
        let Self { status, error, message, description, by_header } = self;
        let challenge = by_header.then(|| {
            let challenge = format!(
                "Basic realm=\"{issuer}\", error=\"{error}\", error_description=\"{description}\""
            );
            [(WWW_AUTHENTICATE, challenge)]
        });
        let body = Members::from_iter([
            ("code", format!("oidc.{error}")),
            ("message", message.into()),
            ("error", error.into()),
            ("error_description", description),
        ]);
        (status, challenge, body).into_response()
    }
}

/// Every application may have it, and with it every organization permission of the tenant.
pub(in crate::testing) const ORGANIZATIONS_RESOURCE: &str = "urn:logto:resource:organizations";
