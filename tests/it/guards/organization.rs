//! Tests of how a guard finds the id of the organization: in the path, in a header, with a
//! function, or in the token.

use std::borrow::Cow;

use axum::{Router, routing::get};
use http::{Request, Response, request::Parts};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_logto::{
    AccessToken, AuthLayer, Require,
    error::{AuthErrorKind, InvalidRequest},
    scopes,
};

use super::{Tokens, by_header, pass, request};
use crate::support::{Harness, SHOPPING_API, Server};

scopes! {
    A = "a";
    AForPermissions = "a" for OrganizationPermissions;
}

fn open() -> axum::routing::MethodRouter {
    get(async || "welcome")
}

#[tokio::test]
async fn organization_in_the_path_may_be_percent_encoded_nested_or_repeated() {
    let harness = Harness::start().await;
    let guard = || Require::organization_in_path("org");
    let layered = Router::new().route("/a/{org}", open()).route_layer(guard());
    let nested =
        Router::new().nest("/{org}", Router::new().route("/b", open()).route_layer(guard()));
    let repeated = Router::new()
        .nest("/c/{org}", Router::new().route("/d/{org}", open()).route_layer(guard()));
    let on_the_handler = Router::new().route("/e/{org}", open().layer(guard()));
    let router = layered.merge(nested).merge(repeated).merge(on_the_handler);
    let server = Server::start(router.route_layer(AuthLayer::new(harness.validator()))).await;
    let token =
        |id: &str| harness.logto.token().audience(SHOPPING_API).organization_resource(id).build();
    for (id, path, status) in [
        ("acme", "/a/acme", 200),
        ("acme", "/a/%61cme", 200),
        ("a b/c", "/a/a%20b%2Fc", 200),
        ("acme", "/a/ACME", 403),
        ("acme", "/a/acme%00", 403),
        ("acme", "/a/%ff", 403),
        ("acme", "/acme/b", 200),
        ("acme", "/evil/b", 403),
        ("acme", "/c/acme/d/acme", 200),
        ("acme", "/c/acme/d/evil", 403),
        ("acme", "/c/evil/d/acme", 403),
        ("acme", "/e/acme", 200),
        ("acme", "/e/evil", 403),
    ] {
        assert_eq!(server.get(path, &token(id)).await.status(), status, "{id:?} at {path}");
    }
    let global = harness.logto.token().audience(SHOPPING_API).build();
    assert_eq!(server.get("/a/acme", &global).await.status(), 403);
}

#[tokio::test]
async fn the_organization_header_must_have_exactly_one_value() {
    let harness = Harness::start().await;
    let router = Router::new()
        .route("/", open())
        .route_layer(by_header().scopes(["a"]))
        .route_layer(AuthLayer::new(harness.validator()));
    let server = Server::start(router).await;
    let token = harness
        .logto
        .token()
        .audience(SHOPPING_API)
        .organization_resource("acme")
        .scopes(["a"])
        .build();
    for (values, status) in [
        (&[&b"acme"[..]][..], 200),
        (&[b"evil"], 403),
        (&[b""], 403),
        (&[b"acme, evil"], 403),
        (&[], 400),
        (&[b"acme", b"acme"], 400),
        (&[b"evil", b"acme"], 400),
        (&[b"acm\xe9"], 400),
    ] {
        let mut request = server.request("GET", "/").bearer_auth(&token);
        for value in values {
            request = request.header("x-organization", *value);
        }
        assert_eq!(request.send().await.unwrap().status(), status, "{values:?}");
    }
}

fn subdomain(parts: &Parts) -> Option<Cow<'_, str>> {
    parts.uri.host()?.strip_suffix(".shop.example").map(Cow::Borrowed)
}

#[tokio::test]
async fn a_function_can_return_the_organization_of_a_request() {
    let tokens = Tokens::issue().await;
    let guard = Require::organization_by(subdomain).scopes(["a"]);
    let wrong = |found: Option<&str>, requested: Option<&str>| {
        let (found, requested) = (found.map(Into::into), requested.map(Into::into));
        Some(AuthErrorKind::WrongOrganization { found, requested })
    };
    for (uri, token, refusal) in [
        ("https://acme.shop.example/", "resource", None),
        ("https://acme.shop.example/", "foreign resource", wrong(Some("evil"), Some("acme"))),
        ("https://acme.shop.example/", "global", wrong(None, Some("acme"))),
        ("https://evil.shop.example/", "resource", wrong(Some("acme"), Some("evil"))),
        ("https://.shop.example/", "resource", wrong(Some("acme"), Some(""))),
        ("https://acme.example/", "resource", wrong(Some("acme"), None)),
        ("/", "resource", wrong(Some("acme"), None)),
    ] {
        let mut request = request(tokens.get(token));
        *request.uri_mut() = uri.parse().unwrap();
        let found = pass(&guard, request).err().map(|error| error.kind().clone());
        assert_eq!(found, refusal, "{token} at {uri}");
    }
}

#[tokio::test]
async fn the_organization_function_gets_all_parts_and_the_handler_gets_the_whole_request() {
    #[derive(Clone)]
    struct Tenant(&'static str);

    let tokens = Tokens::issue().await;
    let guard = Require::organization_by(|parts| {
        assert_eq!((parts.method.as_str(), parts.uri.path()), ("PUT", "/orders"));
        assert_eq!(parts.version, http::Version::HTTP_2);
        assert!(parts.extensions.get::<AccessToken>().is_some());
        let Tenant(id) = parts.extensions.get::<Tenant>()?;
        Some(Cow::Owned((*id).to_owned()))
    });
    let handler = service_fn(async |request: Request<&'static str>| {
        assert_eq!((request.method().as_str(), request.uri().path()), ("PUT", "/orders"));
        assert_eq!(request.headers()["x-organization"], "acme");
        assert!(request.extensions().get::<Tenant>().is_some());
        let token = request.extensions().get::<AccessToken>().unwrap();
        token.require_scope::<A>().unwrap();
        Ok::<_, std::convert::Infallible>(Response::new(*request.body()))
    });
    let mut request = request(tokens.get("resource")).map(|()| "body");
    *request.method_mut() = http::Method::PUT;
    *request.uri_mut() = "/orders".parse().unwrap();
    *request.version_mut() = http::Version::HTTP_2;
    request.extensions_mut().insert(Tenant("acme"));
    let response = guard.layer(handler).oneshot(request).await.unwrap();
    assert_eq!((response.status().as_u16(), *response.body()), (200, "body"));
}

#[tokio::test]
async fn the_handler_gets_a_token_whose_organization_was_checked() {
    let tokens = Tokens::issue().await;
    let unchecked = tokens.get("resource");
    unchecked.require_scope::<A>().unwrap_err();
    for guard in
        [by_header(), Require::organization_of_token(), Require::organization_by(subdomain)]
    {
        let token = pass(&guard, request(unchecked)).unwrap();
        token.require_scope::<A>().unwrap();
        token.require_scopes(["c"]).unwrap();
        let permissions = tokens.get("permissions");
        let token = pass(&guard.organization_permissions(), request(permissions)).unwrap();
        token.require_scope::<AForPermissions>().unwrap();
        token.require_scope::<A>().unwrap_err();
    }
    let token = pass(&Require::any_kind(), request(unchecked)).unwrap();
    token.require_scope::<A>().unwrap_err();
}

#[tokio::test]
async fn a_missing_organization_header_is_an_error_only_for_tokens_that_need_the_header() {
    let tokens = Tokens::issue().await;
    let guard = Require::global().or(by_header());
    for (token, refusal) in [
        ("global", None),
        ("resource", Some(AuthErrorKind::InvalidRequest(InvalidRequest::OrganizationHeader))),
        ("permissions", Some(AuthErrorKind::WrongKind(tokens.get("permissions").kind()))),
    ] {
        let mut request = request(tokens.get(token));
        request.headers_mut().clear();
        let found = pass(&guard, request).err().map(|error| error.kind().clone());
        assert_eq!(found, refusal, "{token}");
    }
}
