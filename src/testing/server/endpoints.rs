//! The HTTP endpoints of the simulated Logto server: discovery, key set, token endpoint.

use std::sync::{Arc, atomic::Ordering};

use aws_lc_rs::digest;
use axum::{
    Router,
    body::Bytes,
    extract::State,
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
    testing::server::{grant::grant, json::OrderedObject, management, state::IssuerState},
};

/// Returns a router for all endpoints. `management` validates the tokens for the Management API.
pub(crate) fn router(state: &Arc<IssuerState>, management: Validator) -> Router {
    Router::new()
        .route("/oidc/.well-known/openid-configuration", get(discovery))
        .route("/oidc/jwks", get(jwks))
        .route("/oidc/token", post(token))
        .with_state(Arc::clone(state))
        .merge(management::router(state, management))
}

async fn discovery(State(state): State<Arc<IssuerState>>, headers: HeaderMap) -> Response {
    let respond = || {
        // Like Logto, this endpoint copies the host from the request's Host header into the URLs.
        // The issuer does not depend on that header.
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let base = host.map_or_else(|| state.endpoint.clone(), |host| format!("http://{host}"));
        let metadata = OrderedObject::from_iter([
            ("authorization_endpoint", format!("{base}/oidc/auth")),
            ("issuer", state.issuer.to_string()),
            ("jwks_uri", format!("{base}/oidc/jwks")),
            ("token_endpoint", format!("{base}/oidc/token")),
        ]);
        metadata.into_response()
    };
    state.faults.discovery.apply(respond).await
}

async fn jwks(State(state): State<Arc<IssuerState>>, headers: HeaderMap) -> Response {
    let respond = || {
        let body = state.keys().to_json();
        let etag = etag(&body);
        let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut known = known.flat_map(|value| value.split(',')).map(str::trim);
        let caching =
            [(ETAG, etag.as_str()), (CACHE_CONTROL, "no-cache, max-age=0, must-revalidate")];
        // Uses the weak comparison, as RFC 9110 §13.1.2 requires.
        if known.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag) {
            state.not_modified.fetch_add(1, Ordering::Relaxed);
            return (StatusCode::NOT_MODIFIED, caching).into_response();
        }
        (caching, [(CONTENT_TYPE, "application/jwk-set+json; charset=utf-8")], body).into_response()
    };
    state.faults.jwks.apply(respond).await
}

async fn token(State(state): State<Arc<IssuerState>>, headers: HeaderMap, body: Bytes) -> Response {
    let respond = || {
        let granted = grant(&state, &headers, &body);
        let granted = granted.map_err(|error| error.into_response(&state.issuer));
        ([(CACHE_CONTROL, "no-store")], granted).into_response()
    };
    state.faults.token.apply(respond).await
}

/// Returns the `ETag` in Logto's form: the length of the body in hexadecimal, a hyphen, and the
/// SHA-1 hash of the body. The hash is encoded as 27 characters of base64.
fn etag(body: &str) -> String {
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, body.as_bytes());
    format!("\"{:x}-{}\"", body.len(), STANDARD_NO_PAD.encode(hash))
}
