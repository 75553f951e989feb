//! The HTTP of a Logto: discovery, key set, token endpoint.

use std::sync::{Arc, atomic::Ordering};

use aws_lc_rs::digest;
use axum::{
    Router,
    body::Bytes,
    extract,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::{
    HeaderMap, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH},
};

use crate::{
    Validator,
    testing::{
        issuer::State,
        server::{grant::grant, json::Members, management},
    },
};

type Shared = extract::State<Arc<State>>;

/// The endpoints.
pub(in crate::testing) fn router(state: &Arc<State>, management: Validator) -> Router {
    Router::new()
        .route("/oidc/.well-known/openid-configuration", get(discovery))
        .route("/oidc/jwks", get(jwks))
        .route("/oidc/token", post(token))
        .with_state(Arc::clone(state))
        .merge(management::router(state, management))
}

async fn discovery(extract::State(state): Shared, headers: HeaderMap) -> Response {
    let answer = || {
        // As in Logto, the addresses follow the request, and the issuer does not.
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let base = host.map_or_else(|| state.endpoint.clone(), |host| format!("http://{host}"));
        let metadata = Members::from_iter([
            ("authorization_endpoint", format!("{base}/oidc/auth")),
            ("issuer", state.issuer.to_string()),
            ("jwks_uri", format!("{base}/oidc/jwks")),
            ("token_endpoint", format!("{base}/oidc/token")),
        ]);
        metadata.into_response()
    };
    state.discovery.answer(answer).await
}

async fn jwks(extract::State(state): Shared, headers: HeaderMap) -> Response {
    let answer = || {
        let body = state.keys().to_json();
        let etag = etag(&body);
        let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut known = known.flat_map(|value| value.split(',')).map(str::trim);
        let caching =
            [(ETAG, etag.as_str()), (CACHE_CONTROL, "no-cache, max-age=0, must-revalidate")];
        // The weak comparison of RFC 9110 §13.1.2.
        if known.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag) {
            state.not_modified.fetch_add(1, Ordering::Relaxed);
            return (StatusCode::NOT_MODIFIED, caching).into_response();
        }
        (caching, [(CONTENT_TYPE, "application/jwk-set+json; charset=utf-8")], body).into_response()
    };
    state.jwks.answer(answer).await
}

async fn token(extract::State(state): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let answer = || {
        let answer = grant(&state, &headers, &body);
        let answer = answer.map_err(|refusal| refusal.into_response(&state.issuer));
        ([(CACHE_CONTROL, "no-store")], answer).into_response()
    };
    state.token.answer(answer).await
}

/// Logto's own form: length in hexadecimal, and SHA-1 in 27 characters of base64.
fn etag(body: &str) -> String {
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, body.as_bytes());
    format!("\"{:x}-{}\"", body.len(), STANDARD_NO_PAD.encode(hash))
}
