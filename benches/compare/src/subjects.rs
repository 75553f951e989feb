//! The routers that the benchmarks compare. Each router has a handler that reads the claims. Most
//! routers also have the layer of one of the compared crates.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{Extension, Router, body::Body, extract::FromRef, http::Request, routing::get};
use serde::Deserialize;
use tower::Service;
use tower_logto::{AccessToken, AuthLayer, Issuer, TrustedIssuer, Validator};

use crate::tokens::{AUDIENCE, ISSUER, Kind, SCOPE};

#[derive(Clone, Deserialize)]
pub struct Claims {
    pub sub: String,
    pub scope: String,
}

impl Claims {
    fn answer(&self) -> &'static str {
        answer(self.scope.split(' ').any(|scope| scope == SCOPE))
    }
}

fn answer(scope: bool) -> &'static str {
    if scope { "yes" } else { "no" }
}

/// Returns a router without a layer. Its handler looks for claims, like the handlers of the other
/// routers. The handler finds none, because no layer inserts them.
pub fn bare() -> Router {
    let handler = async |claims: Option<Extension<Arc<Claims>>>| {
        claims.map_or("none", |claims| claims.answer())
    };
    Router::new().route("/", get(handler))
}

/// Returns a router whose layer only inserts an `Arc` into the extensions. The cost of this layer
/// is the lower bound for any layer that provides claims.
pub fn no_op() -> Router {
    let claims = Claims { sub: "alice".into(), scope: SCOPE.into() };
    let handler = async |claims: Extension<Arc<Claims>>| claims.answer();
    Router::new().route("/", get(handler)).route_layer(NoOpLayer(Arc::new(claims)))
}

#[derive(Clone)]
struct NoOpLayer(Arc<Claims>);

impl<S> tower::Layer<S> for NoOpLayer {
    type Service = NoOp<S>;

    fn layer(&self, inner: S) -> NoOp<S> {
        NoOp { inner, claims: Arc::clone(&self.0) }
    }
}

#[derive(Clone)]
struct NoOp<S> {
    inner: S,
    claims: Arc<Claims>,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for NoOp<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> S::Future {
        request.extensions_mut().insert(Arc::clone(&self.claims));
        self.inner.call(request)
    }
}

/// Builds a validator with a static key set. `verified` is the capacity of its cache of validated
/// tokens.
pub fn validator(jwks: &str, verified: usize) -> Validator {
    let issuer = Issuer::new(ISSUER).unwrap();
    let trusted = TrustedIssuer::new(&issuer).audience(AUDIENCE).static_jwks(jwks);
    Validator::builder().trust(trusted).token_cache_capacity(verified).build().unwrap()
}

pub fn ours(validator: Validator) -> Router {
    let handler = async |token: AccessToken| answer(token.scopes().contains(SCOPE));
    Router::new().route("/", get(handler)).route_layer(AuthLayer::new(validator))
}

pub async fn tower_oauth2(jwks: &str) -> Router {
    use tower_oauth2_resource_server::{
        server::OAuth2ResourceServer, tenant::TenantConfiguration, validation::ClaimsValidationSpec,
    };

    // `ClaimsValidationSpec::recommended` is not used, because it requires `nbf`, which Logto does
    // not send.
    let spec = ClaimsValidationSpec::new().exp(true).iss(ISSUER).aud(&vec![AUDIENCE.to_owned()]);
    let tenant = TenantConfiguration::static_builder(jwks).claims_validation(spec).build().unwrap();
    let server = OAuth2ResourceServer::<Claims>::builder().add_tenant(tenant).build();
    let layer = server.await.unwrap().into_layer();
    let handler = async |Extension(claims): Extension<Claims>| claims.answer();
    Router::new().route("/", get(handler)).route_layer(layer)
}

pub async fn oauth_resource_server(jwks_uri: &str) -> Router {
    use oauth_resource_server::{
        AuthorizedToken, KeyNaming, OAuthConfig, OAuthValidator, axum::AuthLayer,
    };

    let config = OAuthConfig {
        enabled: true,
        issuer: ISSUER.into(),
        jwks_uri: Some(jwks_uri.into()),
        audience: AUDIENCE.into(),
        resource: AUDIENCE.into(),
        require_at_jwt: true,
        ..OAuthConfig::default()
    };
    let config = config.resolve(KeyNaming::Dotted("oauth")).unwrap().unwrap();
    let validator = Arc::new(OAuthValidator::new(&config).unwrap());
    validator.refresh_now().await.unwrap();
    let layer = AuthLayer::builder().oauth(validator).build().unwrap();
    let handler =
        async |token: AuthorizedToken| answer(token.scopes.iter().any(|scope| scope == SCOPE));
    Router::new().route("/", get(handler)).route_layer(layer)
}

pub async fn jwt_authorizer(jwks: &str) -> axum_07::Router {
    use jwt_authorizer::{IntoLayer as _, JwtAuthorizer, JwtClaims, Validation};

    let validation = Validation::new().iss(&[ISSUER]).aud(&[AUDIENCE]).nbf(true);
    let authorizer = JwtAuthorizer::<Claims>::from_jwks_text(jwks).validation(validation);
    let layer = authorizer.build().await.unwrap().into_layer();
    let handler = |JwtClaims(claims): JwtClaims<Claims>| async move { claims.answer() };
    axum_07::Router::new().route("/", axum_07::routing::get(handler)).route_layer(layer)
}

/// Returns a router that supports only one algorithm. If the list of allowed algorithms contains
/// both EC and RSA algorithms, the decoder of axum-jwt-auth refuses every token.
pub async fn axum_jwt_auth(jwks_uri: &str, kind: Kind) -> Router {
    use axum_jwt_auth::{Claims as Verified, Decoder, RemoteJwksDecoder};
    use jsonwebtoken_10::{Algorithm, Validation};

    #[derive(Clone, FromRef)]
    struct AppState {
        decoder: Decoder<Claims>,
    }

    let mut validation = Validation::new(match kind {
        Kind::Es384 => Algorithm::ES384,
        Kind::Rs256 => Algorithm::RS256,
    });
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    let decoder = RemoteJwksDecoder::builder().jwks_url(jwks_uri.into()).validation(validation);
    let decoder = decoder.build().unwrap();
    let stop = decoder.initialize().await.unwrap();
    stop.cancel();
    let handler = async |verified: Verified<Claims>| verified.claims.answer();
    Router::new().route("/", get(handler)).with_state(AppState { decoder: Arc::new(decoder) })
}

/// Serves these keys on a loopback port, for crates that accept only a URL. Returns the URL.
pub fn serve_jwks(jwks: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}/oidc/jwks", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let length = jwks.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
                 connection: close\r\n\r\n{jwks}"
            );
        }
    });
    uri
}
