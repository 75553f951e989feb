//! The one route of the Management API that the kit has, behind this crate's own layer.

use std::sync::Arc;

use axum::{
    Router, extract,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{
    StatusCode, Uri,
    header::{CONTENT_TYPE, LINK},
};

use super::{
    TestIssuer,
    form::Form,
    issuer::{SharedClock, State},
    json::Members,
};
use crate::{AuthError, AuthErrorKind, AuthLayer, RequireScopes, TrustedIssuer, Validator};

pub(super) fn router(state: &Arc<State>) -> Router {
    let trusted = TrustedIssuer::new(&state.issuer)
        .audience(TestIssuer::MANAGEMENT_API)
        .jwks_uri(format!("{}/oidc/jwks", state.endpoint));
    let validator = Validator::builder()
        .issuer(trusted)
        .clock(SharedClock(Arc::clone(&state.clock)))
        .build()
        .expect("the kit's own settings work");
    Router::new()
        .route("/api/applications", get(applications))
        .route_layer(RequireScopes::all(["all"]))
        .route_layer(AuthLayer::new(validator))
        .layer(axum::middleware::map_response(in_logtos_words))
        .with_state(Arc::clone(state))
}

async fn applications(extract::State(state): extract::State<Arc<State>>, uri: Uri) -> Response {
    let answer = || {
        let query = Form::parse(uri.query().unwrap_or_default().as_bytes());
        let number =
            |name, default| query.one(name).map_or(Some(default), |text| text.parse().ok());
        let (Some(page @ 1..), Some(page_size @ 1..=100)) =
            (number("page", 1), number("page_size", 20))
        else {
            return error(
                StatusCode::BAD_REQUEST,
                "guard.invalid_pagination",
                "Invalid pagination.",
            );
        };
        let page: usize = page;
        let shown = state.apps.iter().skip((page - 1).saturating_mul(page_size)).take(page_size);
        let shown = shown.map(|app| {
            Members::from_iter([
                ("tenantId", "default"),
                ("id", app.id()),
                ("name", app.id()),
                ("type", "MachineToMachine"),
            ])
        });
        let body = serde_json::to_string(&shown.collect::<Vec<_>>()).expect("strings are JSON");
        // As in Logto, the address in `Link` lacks `/api`.
        let next = page + 1;
        let link = format!(
            "<{}/applications?page={next}&page_size={page_size}>; rel=\"next\"",
            state.endpoint
        );
        let headers = [(LINK.as_str(), link), ("total-number", state.apps.len().to_string())];
        ([(CONTENT_TYPE, JSON)], headers, body).into_response()
    };
    state.management.answer(answer).await
}

/// Logto's own errors instead of an empty body.
async fn in_logtos_words(response: Response) -> Response {
    let Some(refusal) = response.extensions().get::<AuthError>() else { return response };
    let (code, message) = match refusal.kind() {
        AuthErrorKind::MissingToken => {
            ("auth.authorization_header_missing", "Authorization header is missing.")
        }
        _ if refusal.status() == StatusCode::FORBIDDEN => {
            ("auth.forbidden", "Forbidden. Please check your user roles and permissions.")
        }
        _ if refusal.status() == StatusCode::UNAUTHORIZED => {
            ("auth.unauthorized", "Unauthorized. Please check credentials and its scope.")
        }
        _ => return response,
    };
    error(refusal.status(), code, message)
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = Members::from_iter([("code", code), ("message", message)]).to_json();
    (status, [(CONTENT_TYPE, JSON)], body).into_response()
}

const JSON: &str = "application/json; charset=utf-8";
