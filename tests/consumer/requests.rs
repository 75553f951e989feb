//! Tests of the layer and the token client with different sets of enabled features.
//!
//! The tests of the root package always run with `axum`, `client` and `testing`, because the root
//! package has a dev-dependency on itself with these features. The package `consumer` has no such
//! dependency. `.ci/run` runs its tests with the default features, with only `axum`, with only
//! `client`, and without features. The tokens and the keys were captured from a real Logto server.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing helper fails the test")]

use std::{convert::Infallible, time::Duration};

use http::{Request, Response, StatusCode, header};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
use tower_logto::{AccessToken, AuthLayer, Clock, Issuer, TrustedIssuer, Validator};

#[tokio::test]
async fn inner_service_gets_only_requests_with_a_valid_token() {
    let inner = service_fn(async |request: Request<String>| {
        let subject = request.extensions().get::<AccessToken>().unwrap().subject().to_owned();
        Ok::<_, Infallible>(Response::new(subject))
    });
    let service = AuthLayer::new(validator().await).layer(inner);

    let response = send(&service, Some(READ)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.body(), "f6van7akkmhkatzq7o8rc");
    // For the second request, the token is in the token cache.
    assert_eq!(send(&service, Some(READ)).await.status(), StatusCode::OK);

    let tampered = format!("{}AAAA", &READ.trim()[..READ.trim().len() - 4]);
    for refused in [None, Some("opaque"), Some(OTHER_AUDIENCE), Some(tampered.as_str())] {
        let response = send(&service, refused).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{refused:?}");
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE), "{refused:?}");
        assert_eq!(response.body(), "");
    }
}

#[tokio::test]
async fn unreachable_jwks_endpoint_gives_503_with_retry_after() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let jwks_uri = format!("http://{}/jwks", closed.local_addr().unwrap());
    drop(closed);
    let inner =
        service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(String::new())));
    let service = AuthLayer::new(validator_with(jwks_uri)).layer(inner);

    let response = send(&service, Some(READ)).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key(header::RETRY_AFTER));
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn axum_routes_require_their_scopes() {
    use axum::{Router, body::Body, routing::get};
    use tower_logto::{AuthError, ProtectedResourceMetadata, Scoped, scopes};

    scopes! {
        /// Read the catalogue.
        ReadProducts = "read:products";
        /// Change the catalogue.
        WriteProducts = "write:products";
    }
    async fn check(token: AccessToken) -> Result<(), AuthError> {
        token.require_scopes(["write:products"])
    }

    let validator = validator().await;
    let metadata = ProtectedResourceMetadata::new(SHOPPING_API, [&issuer()]);
    let app: Router = Router::new()
        .route("/read", get(async |_: Scoped<ReadProducts>| ()))
        .route("/write", get(async |_: Scoped<WriteProducts>| ()))
        .route("/check", get(check))
        .route_layer(AuthLayer::new(validator))
        .merge(metadata.router());
    for (path, token, status) in [
        ("/read", Some(READ), 200),
        ("/read", None, 401),
        ("/write", Some(READ), 403),
        ("/check", Some(READ), 403),
        ("/.well-known/oauth-protected-resource", None, 200),
    ] {
        let request = request(path, token).map(Body::from);
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
    }
}

#[cfg(feature = "client")]
#[tokio::test]
async fn concurrent_calls_of_the_token_client_share_one_token() {
    use tower_logto::m2m::{ClientSecret, TokenClient, TokenRequest};

    let endpoint = serve("application/json", TOKEN_ANSWER).await;
    let tokens = TokenClient::builder(&issuer(), "app", ClientSecret::new("secret"))
        .token_endpoint(format!("{endpoint}/token"))
        .build()
        .unwrap();
    let read = TokenRequest::resource(SHOPPING_API).scopes(["read:products"]);
    let (first, second) = tokio::join!(tokens.token(&read), tokens.token(&read));
    assert_eq!(first.unwrap().expires_at(), second.unwrap().expires_at());
}

async fn send<S>(service: &S, token: Option<&str>) -> Response<String>
where
    S: Service<Request<String>, Response = Response<String>, Error = Infallible> + Clone,
{
    service.clone().oneshot(request("/", token)).await.unwrap()
}

fn request(path: &str, token: Option<&str>) -> Request<String> {
    let mut request = Request::builder().uri(path);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
    }
    request.body(String::new()).unwrap()
}

/// Returns a validator that fetches the captured key set over HTTP.
async fn validator() -> Validator {
    let endpoint = serve("application/jwk-set+json", JWKS).await;
    validator_with(format!("{endpoint}/oidc/jwks"))
}

fn validator_with(jwks_uri: String) -> Validator {
    let trusted = TrustedIssuer::new(&issuer()).audience(SHOPPING_API).jwks_uri(jwks_uri);
    Validator::builder().trust(trusted).clock(FixedClock).build().unwrap()
}

fn issuer() -> Issuer {
    Issuer::new("http://localhost:3001/oidc").unwrap()
}

/// Starts a server that responds to every connection with this body. Returns the URL of the server.
async fn serve(content_type: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                connection.read_buf(&mut head).await.unwrap();
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{body}",
                body.len()
            );
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    format!("http://{address}")
}

/// A clock that always returns a time at which the captured tokens are valid.
#[derive(Debug)]
struct FixedClock;

impl Clock for FixedClock {
    fn unix_time(&self) -> Duration {
        Duration::from_secs(1_795_343_090)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

const SHOPPING_API: &str = "https://shopping.api";
const JWKS: &str = include_str!("../fixtures/logto-captures/jwks/all.json");
const READ: &str = include_str!("../fixtures/logto-captures/tokens/api-read.jwt");
const OTHER_AUDIENCE: &str = include_str!("../fixtures/logto-captures/tokens/other-resource.jwt");
#[cfg(feature = "client")]
const TOKEN_ANSWER: &str = r#"{"access_token":"header.payload.signature","expires_in":3600,"token_type":"Bearer","scope":"read:products"}"#;
