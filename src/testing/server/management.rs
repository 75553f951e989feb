//! The routes of the Management API in the test kit, protected by this crate's own layer.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{
    StatusCode, Uri,
    header::{CONTENT_TYPE, LINK},
};

use serde::Serialize;

use crate::{
    AuthError, AuthLayer, Require, Validator,
    error::AuthErrorKind,
    testing::server::{
        form::Form,
        json::{JSON, OrderedObject},
        state::{IssuerState, TestUser},
    },
};

pub(crate) fn router(state: &Arc<IssuerState>, validator: Validator) -> Router {
    Router::new()
        .route("/api/applications", get(applications))
        .route("/api/users/{id}", get(user))
        .route("/api/hooks/{id}/recent-logs", get(recent_logs))
        .route_layer(Require::global().scopes(["all"]))
        .route_layer(AuthLayer::new(validator))
        .layer(axum::middleware::map_response(use_logtos_error_bodies))
        .with_state(Arc::clone(state))
}

async fn applications(State(state): State<Arc<IssuerState>>, uri: Uri) -> Response {
    let respond = || {
        let apps = state.apps.iter().map(|app| {
            OrderedObject::from_iter([
                ("tenantId", "default"),
                ("id", &app.id),
                ("name", &app.id),
                ("type", "MachineToMachine"),
            ])
        });
        page(&state, "applications", uri.query(), &apps.collect::<Vec<_>>())
    };
    state.faults.management.apply(respond).await
}

async fn user(State(state): State<Arc<IssuerState>>, Path(id): Path<String>) -> Response {
    let respond = || {
        let never_changed = TestUser::Active { is_suspended: false, updated_at: Duration::ZERO };
        let user = state.users().get(&id).copied().unwrap_or(never_changed);
        match user.to_json(&id) {
            Some(user) => ([(CONTENT_TYPE, JSON)], user.to_string()).into_response(),
            None => error(StatusCode::NOT_FOUND, "entity.not_exists_with_id", "Not found."),
        }
    };
    state.faults.management.apply(respond).await
}

async fn recent_logs(
    State(state): State<Arc<IssuerState>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Response {
    let respond = || {
        let failed = state.failed_webhooks();
        let logs = failed.iter().filter(|(hook, _)| *hook == id).map(|(_, log)| log);
        let path = format!("hooks/{id}/recent-logs");
        page(&state, &path, uri.query(), &logs.collect::<Vec<_>>())
    };
    state.faults.management.apply(respond).await
}

fn page(
    state: &IssuerState,
    path: &str,
    query: Option<&str>,
    items: &[impl Serialize],
) -> Response {
    let query = Form::parse(query.unwrap_or_default().as_bytes());
    let number = |name, default| query.one(name).map_or(Some(default), |text| text.parse().ok());
    let (Some(page @ 1_usize..), Some(page_size @ 1..=100)) =
        (number("page", 1), number("page_size", 20))
    else {
        return error(StatusCode::BAD_REQUEST, "guard.invalid_pagination", "Invalid pagination.");
    };
    let total = items.len();
    let shown = items.iter().skip((page - 1).saturating_mul(page_size)).take(page_size);
    let body = serde_json::to_string(&shown.collect::<Vec<_>>()).expect("strings are JSON");
    let next = (page.saturating_mul(page_size) < total).then(|| {
        // The URL in the `Link` header lacks `/api`, because Logto also omits it.
        let url = format!("{}/{path}?page={}&page_size={page_size}", state.endpoint, page + 1);
        [(LINK, format!("<{url}>; rel=\"next\""))]
    });
    ([(CONTENT_TYPE, JSON)], [("total-number", total.to_string())], next, body).into_response()
}

/// Replaces the empty body of the layer's error responses with the error body that Logto would
/// send.
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
