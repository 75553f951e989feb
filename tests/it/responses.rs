//! Tests of the responses to refused requests over real HTTP: status, challenge, `Retry-After`,
//! empty body, and gRPC status.

use axum::{Router, response::IntoResponse, routing::get};
use http::HeaderName;
use tower_logto::{
    AccessToken, AuthError, AuthLayer, Require,
    testing::{TestIssuer, TokenBuilder},
};

use crate::support::{Harness, SHOPPING_API, Server, header};

fn routes(harness: &Harness) -> Router {
    let validator = harness
        .builder()
        .realm("shop")
        .resource_metadata("https://shop.example/.well-known/oauth-protected-resource")
        .build()
        .unwrap();
    let open = || get(async || "welcome");
    let organization = HeaderName::from_static("x-organization");
    Router::new()
        .route("/", open())
        .merge(
            Router::new().route("/all", open()).route_layer(Require::global().scopes(["a", "b"])),
        )
        .merge(
            Router::new()
                .route("/any", open())
                .route_layer(Require::global().any_scope(["a", "b"])),
        )
        .merge(
            Router::new()
                .route("/organization", open())
                .route_layer(Require::organization_in_header(organization)),
        )
        .merge(
            Router::new()
                .route("/misspelt/{org}", open())
                .route_layer(Require::organization_in_path("org_id")),
        )
        .route_layer(AuthLayer::new(validator))
        .merge(
            Router::new().route("/no-layer", open()).route_layer(Require::global().scopes(["a"])),
        )
        .route("/no-layer-extractor", get(async |_: AccessToken| "welcome"))
        .route("/no-layer-option", get(async |_: Option<AccessToken>| "welcome"))
}

const REALM: &str = r#"Bearer realm="shop""#;
const METADATA: &str =
    r#"resource_metadata="https://shop.example/.well-known/oauth-protected-resource""#;

/// Returns the challenge that the server must send. The parameters in `middle` come after `realm`
/// and before `resource_metadata`.
fn challenge(middle: &str) -> String {
    let middle = if middle.is_empty() { String::new() } else { format!("{middle}, ") };
    format!("{REALM}, {middle}{METADATA}")
}

fn invalid_token(description: &str) -> String {
    challenge(&format!(r#"error="invalid_token", error_description="{description}""#))
}

fn insufficient(description: &str) -> String {
    challenge(&format!(r#"error="insufficient_scope", error_description="{description}""#))
}

#[tokio::test]
async fn each_reason_has_its_status_and_challenge() {
    let harness = Harness::start().await;
    let server = Server::start(routes(&harness)).await;
    let token = || harness.logto.token().audience(SHOPPING_API);
    let bearer = |token: TokenBuilder| vec![format!("Bearer {}", token.build())];
    let bad_request = |description: &str| {
        challenge(&format!(r#"error="invalid_request", error_description="{description}""#))
    };
    let organization = |id: &str| token().organization_resource(id).scopes(["a", "b"]);
    let missing_scope = "the access token lacks a required scope";
    let rows = [
        ("/", bearer(token()), 200, String::new()),
        // MissingToken
        ("/", vec![], 401, challenge("")),
        ("/", vec!["Basic abc".into()], 401, challenge("")),
        // InvalidRequest
        ("/", vec!["Bearer".into()], 400, bad_request("malformed Bearer credentials")),
        ("/", vec!["Bearer a b".into()], 400, bad_request("malformed Bearer credentials")),
        ("/", vec!["Bearer a.b.\"c".into()], 400, bad_request("malformed Bearer credentials")),
        (
            "/",
            vec![format!("Bearer {}", token().build()); 2],
            400,
            bad_request("more than one Authorization header"),
        ),
        // InvalidToken
        (
            "/",
            vec![format!("Bearer {}", "a".repeat(20_000))],
            401,
            invalid_token("the access token is too large"),
        ),
        (
            "/",
            vec![format!("Bearer {}", harness.logto.opaque_token())],
            401,
            invalid_token("the access token is not a JWT"),
        ),
        (
            "/",
            vec!["Bearer e30.e30.e30".into()],
            401,
            invalid_token("the token is not an access token"),
        ),
        ("/", bearer(token().expired()), 401, invalid_token("the access token expired")),
        ("/", bearer(token().bad_signature()), 401, invalid_token("the signature is invalid")),
        (
            "/",
            bearer(token().audience("https://other.api")),
            401,
            invalid_token("the access token is not for this resource"),
        ),
        (
            "/",
            bearer(token().kid("unknown")),
            401,
            invalid_token("the access token is signed with an unknown key"),
        ),
        (
            "/",
            bearer(harness.logto.id_token()),
            401,
            invalid_token("the token is not an access token"),
        ),
        // InsufficientScope: `/all` requires all scopes, and `/any` requires one of them
        (
            "/all",
            bearer(token().scopes(["a"])),
            403,
            challenge(&format!(
                r#"error="insufficient_scope", error_description="{missing_scope}", scope="a b""#
            )),
        ),
        ("/all", bearer(token().scopes(["b", "a"])), 200, String::new()),
        (
            "/any",
            bearer(token().scopes(["c"])),
            403,
            challenge(&format!(
                r#"error="insufficient_scope", error_description="{missing_scope}", scope="a b""#
            )),
        ),
        ("/any", bearer(token().scopes(["b"])), 200, String::new()),
        // WrongKind
        (
            "/all",
            bearer(organization("acme")),
            403,
            insufficient("the access token is of the wrong kind"),
        ),
        // No organization header
        (
            "/organization",
            bearer(organization("acme")),
            400,
            bad_request("the organization header must have exactly one value"),
        ),
        // UnknownPathParameter, MissingLayer
        ("/misspelt/acme", bearer(organization("acme")), 500, String::new()),
        ("/no-layer", bearer(token()), 500, String::new()),
        ("/no-layer-extractor", bearer(token()), 500, String::new()),
        ("/no-layer-option", bearer(token()), 500, String::new()),
    ];
    for (path, authorization, status, expected) in rows {
        let mut request = server.request("GET", path);
        for value in &authorization {
            request = request.header("authorization", value);
        }
        let response = request.send().await.unwrap();
        let shown = authorization.first().map_or("", |value| &value[..value.len().min(40)]);
        assert_eq!(response.status(), status, "{path} {shown}");
        assert_eq!(header(response.headers(), "www-authenticate"), expected, "{path} {shown}");
        assert_eq!(header(response.headers(), "retry-after"), "", "{path} {shown}");
        let body = response.text().await.unwrap();
        assert_eq!(body, if status == 200 { "welcome" } else { "" }, "{path} {shown}");
    }
}

#[tokio::test]
async fn unavailable_keys_get_503_with_retry_after() {
    let harness = Harness::start().await;
    let server = Server::start(routes(&harness)).await;
    harness.logto.go_down();
    for attempt in 1..=2 {
        let response = server.get("/", &harness.logto.token().audience(SHOPPING_API).build()).await;
        assert_eq!(response.status(), 503, "attempt {attempt}");
        assert_eq!(header(response.headers(), "retry-after"), "1");
        assert_eq!(header(response.headers(), "www-authenticate"), "");
    }
    assert_eq!(harness.logto.jwks_requests(), 1, "the second response needs no JWKS request");
}

#[tokio::test]
async fn a_head_request_gets_the_same_status_and_challenge_as_get() {
    let harness = Harness::start().await;
    let server = Server::start(routes(&harness)).await;
    let refused = server.request("HEAD", "/").send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(header(refused.headers(), "www-authenticate"), challenge(""));
    let token = harness.logto.token().audience(SHOPPING_API).build();
    let good = server.request("HEAD", "/").bearer_auth(token).send().await.unwrap();
    assert_eq!(good.status(), 200);
}

#[tokio::test]
async fn challenge_without_settings_has_no_parameters() {
    let logto = TestIssuer::start().await.unwrap();
    let validator = logto.validator(SHOPPING_API).unwrap();
    let router = Router::new().route("/", get(async || "")).route_layer(AuthLayer::new(validator));
    let server = Server::start(router).await;
    let response = server.request("GET", "/").send().await.unwrap();
    assert_eq!(header(response.headers(), "www-authenticate"), "Bearer");
}

#[tokio::test]
async fn an_outer_layer_can_add_a_body_to_a_refusal() {
    let harness = Harness::start().await;
    let problem = axum::middleware::map_response(async |response: axum::response::Response| {
        match response.extensions().get::<AuthError>().cloned() {
            Some(error) => {
                let (parts, _) = response.into_parts();
                (parts.status, parts.headers, format!("refused: {}", error.status()))
                    .into_response()
            }
            None => response,
        }
    });
    let server = Server::start(routes(&harness).layer(problem)).await;
    let response = server.request("GET", "/").send().await.unwrap();
    assert_eq!(header(response.headers(), "www-authenticate"), challenge(""));
    assert_eq!(response.text().await.unwrap(), "refused: 401 Unauthorized");
}

#[tokio::test]
async fn a_grpc_caller_gets_a_grpc_status() {
    let harness = Harness::start().await;
    let server = Server::start(routes(&harness)).await;
    let good = harness.logto.token().audience(SHOPPING_API);
    let call = async |path: &str, token: Option<String>| {
        let request = server.request("POST", path).header("content-type", "application/grpc+proto");
        let request = request.header("te", "trailers");
        let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        let response = request.send().await.unwrap();
        let headers = response.headers();
        let status = header(headers, "grpc-status").to_owned();
        (response.status().as_u16(), status, header(headers, "grpc-message").to_owned())
    };
    let missing = (200, "16".into(), "the call has no access token".into());
    assert_eq!(call("/", None).await, missing);
    let expired =
        call("/", Some(harness.logto.token().audience(SHOPPING_API).expired().build())).await;
    assert_eq!(expired, (200, "16".into(), "the access token expired".into()));
    assert_eq!(call("/all", Some(good.build())).await.1, "7");
    let misconfigured = (200, "13".into(), "the service is misconfigured".into());
    assert_eq!(call("/no-layer", None).await, misconfigured);
    harness.logto.rotate();
    harness.logto.go_down();
    let unavailable = call("/", Some(harness.logto.token().audience(SHOPPING_API).build())).await;
    assert_eq!(unavailable, (200, "14".into(), "the access token cannot be checked now".into()));
}
