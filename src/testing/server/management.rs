//! The only route of the Management API in the test kit, protected by this crate's own layer.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{
    StatusCode, Uri,
    header::{CONTENT_TYPE, LINK},
};

use crate::{
    AuthError, AuthLayer, Require, Validator,
    error::AuthErrorKind,
    testing::server::{
        form::Form,
        json::{JSON, OrderedObject},
        state::IssuerState,
    },
};

pub(crate) fn router(state: &Arc<IssuerState>, validator: Validator) -> Router {
    Router::new()
        .route("/api/applications", get(applications))
        .route_layer(Require::global().scopes(["all"]))
        .route_layer(AuthLayer::new(validator))
        .layer(axum::middleware::map_response(use_logtos_error_bodies))
        .with_state(Arc::clone(state))
}

async fn applications(State(state): State<Arc<IssuerState>>, uri: Uri) -> Response {
    state.faults.management.apply(|| page(&state, uri.query().unwrap_or_default())).await
}

fn page(state: &IssuerState, query: &str) -> Response {
    let query = Form::parse(query.as_bytes());
    let number = |name, default| query.one(name).map_or(Some(default), |text| text.parse().ok());
    let (Some(page @ 1_usize..), Some(page_size @ 1..=100)) =
        (number("page", 1), number("page_size", 20))
    else {
        return error(StatusCode::BAD_REQUEST, "guard.invalid_pagination", "Invalid pagination.");
    };
    let total = state.apps.len();
    let shown = state.apps.iter().skip((page - 1).saturating_mul(page_size)).take(page_size);
    let shown = shown.map(|app| {
        OrderedObject::from_iter([
            ("tenantId", "default"),
            ("id", &app.id),
            ("name", &app.id),
            ("type", "MachineToMachine"),
        ])
    });
    let body = serde_json::to_string(&shown.collect::<Vec<_>>()).expect("strings are JSON");
    let next = (page.saturating_mul(page_size) < total).then(|| {
        // As in Logto, the URL lacks `/api`.
        let url =
            format!("{}/applications?page={}&page_size={page_size}", state.endpoint, page + 1);
        [(LINK, format!("<{url}>; rel=\"next\""))]
    });
    ([(CONTENT_TYPE, JSON)], [("total-number", total.to_string())], next, body).into_response()
}

/// Replaces the empty body of the layer's error responses with Logto's own error.
async fn use_logtos_error_bodies(response: Response) -> Response {
    let Some(auth_error) = response.extensions().get::<AuthError>() else { return response };
    let (code, message) = match (auth_error.status(), auth_error.kind()) {
        (StatusCode::UNAUTHORIZED, AuthErrorKind::MissingToken) => {
            ("auth.authorization_header_missing", "Authorization header is missing.")
        }
        (StatusCode::UNAUTHORIZED, _) => {
            ("auth.unauthorized", "Unauthorized. Please check credentials and its scope.")
        }
        (StatusCode::FORBIDDEN, _) => {
            ("auth.forbidden", "Forbidden. Please check your user roles and permissions.")
        }
        _ => return response,
    };
    error(auth_error.status(), code, message)
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, OrderedObject::from_iter([("code", code), ("message", message)])).into_response()
}
