//! Scopes and organizations per route: Logto's three permission models fail closed.

use axum::{Router, routing::get};
use http::{HeaderName, StatusCode};
use tower_logto::{
    AccessToken, AuthError, AuthLayer, RequireOrganization, RequireScopes, TokenKind,
    error::AuthErrorKind, testing::TokenBuilder,
};

use crate::support::{SHOP, Server, Stage};

fn open() -> axum::routing::MethodRouter {
    get(async || "welcome")
}

/// A route with these guards, the last of which runs first.
fn guarded(path: &str, scopes: RequireScopes, organization: Option<RequireOrganization>) -> Router {
    let router = Router::new().route(path, open()).route_layer(scopes);
    match organization {
        Some(organization) => router.route_layer(organization),
        None => router,
    }
}

#[tokio::test]
async fn a_token_opens_only_routes_for_its_kind() {
    let stage = Stage::set().await;
    let a = || RequireScopes::all(["a"]);
    let by_path = || Some(RequireOrganization::path("org"));
    let permissions = || a().kind(TokenKind::OrganizationPermissions);
    let router = Router::new()
        .merge(guarded("/global", a(), None))
        .merge(guarded("/global-only", a().kind(TokenKind::Global), None))
        .merge(guarded("/any-kind", a().any_kind(), None))
        .merge(guarded("/{org}/resource", a(), by_path()))
        .merge(guarded("/{org}/permissions", permissions(), by_path()))
        .merge(guarded("/permissions-untied", permissions(), None))
        .merge(
            Router::new()
                .route("/{org}/only", open())
                .route_layer(RequireOrganization::path("org")),
        )
        .route_layer(AuthLayer::new(stage.validator()));
    let server = Server::start(router).await;
    let token = || stage.logto.token().scopes(["a"]);
    let tokens: [(&str, TokenBuilder); 5] = [
        ("global", token().audience(SHOP)),
        ("acme resource", token().audience(SHOP).organization_resource("acme")),
        ("acme permissions", token().organization_permissions("acme")),
        ("evil resource", token().audience(SHOP).organization_resource("evil")),
        ("evil permissions", token().organization_permissions("evil")),
    ];
    for (path, opened_by) in [
        ("/global", &["global"][..]),
        ("/global-only", &["global"]),
        (
            "/any-kind",
            &["global", "acme resource", "acme permissions", "evil resource", "evil permissions"],
        ),
        ("/acme/resource", &["acme resource"]),
        ("/acme/permissions", &["acme permissions"]),
        ("/permissions-untied", &[]),
        ("/acme/only", &["acme resource", "acme permissions"]),
    ] {
        for (name, token) in &tokens {
            let status = server.get(path, &token.clone().build()).await.status();
            let expected = if opened_by.contains(name) { 200 } else { 403 };
            assert_eq!(status, expected, "{name} at {path}");
        }
    }
}

#[tokio::test]
async fn guards_in_the_wrong_order_fail_closed() {
    let stage = Stage::set().await;
    // RequireScopes runs first here, before anything tied the token to the organization.
    let router = Router::new()
        .route("/{org}", open())
        .route_layer(RequireOrganization::path("org"))
        .route_layer(RequireScopes::all(["a"]))
        .route_layer(AuthLayer::new(stage.validator()));
    let server = Server::start(router).await;
    let token =
        stage.logto.token().audience(SHOP).organization_resource("acme").scopes(["a"]).build();
    assert_eq!(server.get("/acme", &token).await.status(), 403);
}

#[tokio::test]
async fn the_organization_comes_from_the_path_decoded_nested_and_repeated() {
    let stage = Stage::set().await;
    let guard = || RequireOrganization::path("org");
    let layered = Router::new().route("/a/{org}", open()).route_layer(guard());
    let nested =
        Router::new().nest("/{org}", Router::new().route("/b", open()).route_layer(guard()));
    let repeated = Router::new()
        .nest("/c/{org}", Router::new().route("/d/{org}", open()).route_layer(guard()));
    let on_the_handler = Router::new().route("/e/{org}", open().layer(guard()));
    let router = layered.merge(nested).merge(repeated).merge(on_the_handler);
    let server = Server::start(router.route_layer(AuthLayer::new(stage.validator()))).await;
    let token = |id: &str| stage.logto.token().audience(SHOP).organization_resource(id).build();
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
    let global = stage.logto.token().audience(SHOP).build();
    assert_eq!(server.get("/a/acme", &global).await.status(), 403);
}

#[tokio::test]
async fn the_organization_comes_from_exactly_one_header() {
    let stage = Stage::set().await;
    let name = HeaderName::from_static("x-organization");
    let router = Router::new()
        .route("/", open())
        .route_layer(RequireScopes::all(["a"]))
        .route_layer(RequireOrganization::header(name))
        .route_layer(AuthLayer::new(stage.validator()));
    let server = Server::start(router).await;
    let token =
        stage.logto.token().audience(SHOP).organization_resource("acme").scopes(["a"]).build();
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

#[tokio::test]
async fn the_checks_stand_in_a_handlers_body_too() {
    async fn invite(token: AccessToken) -> Result<StatusCode, AuthError> {
        let tied = token.in_organization("acme")?;
        tied.require_any_scope(["b", "a"])?;
        Ok(StatusCode::ACCEPTED)
    }
    let stage = Stage::set().await;
    let router = Router::new().route("/", get(invite));
    let server = Server::start(router.route_layer(AuthLayer::new(stage.validator()))).await;
    let token = || stage.logto.token().audience(SHOP);
    for (token, status) in [
        (token().organization_resource("acme").scopes(["a"]), 202),
        (token().organization_resource("acme").scopes(["c"]), 403),
        (token().organization_resource("evil").scopes(["a"]), 403),
        (token().scopes(["a"]), 403),
        (stage.logto.token().organization_permissions("acme").scopes(["a"]), 403),
    ] {
        assert_eq!(server.get("/", &token.build()).await.status(), status);
    }
}

#[tokio::test]
async fn the_refusal_says_which_guard_would_let_it_in() {
    let stage = Stage::set().await;
    let validator = stage.validator();
    let refusal = async |token: TokenBuilder| {
        let token = validator.validate(&token.build()).await.unwrap();
        token.require_scopes(["a"]).unwrap_err()
    };
    let token = || stage.logto.token().scopes(["a"]);
    let resource = refusal(token().audience(SHOP).organization_resource("acme")).await;
    assert!(matches!(resource.kind(), AuthErrorKind::WrongKind(TokenKind::OrganizationResource)));
    assert!(resource.to_string().contains("RequireOrganization"), "{resource}");
    let permissions = refusal(token().organization_permissions("acme")).await;
    assert!(permissions.to_string().contains(".kind(TokenKind::OrganizationPermissions)"));
}

#[test]
#[should_panic(expected = "\"read products\" is not a scope")]
fn a_guard_that_nothing_could_pass_is_found_at_start() {
    let _ = RequireScopes::all(["read:products", "read products"]);
}

#[test]
#[should_panic(expected = "RequireScopes: \"\" is not a scope")]
fn a_guard_without_scopes_is_found_at_start() {
    let _ = RequireScopes::any::<&str>([]);
}

/// The same demand that makes `RequireScopes::all` panic at start.
#[tokio::test]
async fn no_scopes_at_all_are_no_permission() {
    let stage = Stage::set().await;
    let token = stage.validator().validate(&stage.logto.token().build()).await.unwrap();
    token.require_scopes([]).unwrap_err();
}
