//! Tests with a real server: oidc-provider, the OpenID Connect engine of Logto. The tests run with
//! both major versions that Logto uses. `npm ci` in this directory installs the packages of
//! oidc-provider. Without these packages, the tests are skipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing helper fails the test"
)]

mod load;
mod provider;
mod service;

// The module `support` is outside this folder, because other test binaries and benches use it too.
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use http::{HeaderValue, Method};
use serde_json::{Value, json};
use tower_logto::m2m::{
    ClientAuthentication, ClientSecret, TokenClient, TokenRequest, TokenRequestErrorKind,
};

use crate::{
    load::{Load, kid_of},
    provider::Provider,
    service::Service,
    support::{SECOND, SHOPPING_API, header},
};

/// Defines one test for each scenario and each major version of oidc-provider.
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        mod oidc_provider_8 { $(#[test] fn $name() { crate::run(8, crate::$name); })+ }
        mod oidc_provider_9 { $(#[test] fn $name() { crate::run(9, crate::$name); })+ }
    };
}

scenarios! {
    issued_token_has_its_kind_and_scopes,
    token_is_accepted_only_at_its_routes,
    refused_token_request_has_its_error_code,
    rotation_under_load_refuses_no_valid_token,
    restart_under_load_refuses_no_valid_token,
    new_keys_under_load_replace_the_old_ones,
}

fn run(major: u8, scenario: impl AsyncFnOnce(Provider)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(provider) = Provider::start(major) else { return };
        tokio::time::timeout(TIMEOUT, scenario(provider)).await.expect("the scenario ends in time");
    });
}

async fn issued_token_has_its_kind_and_scopes(provider: Provider) {
    let service = Service::start(&provider).await;
    let reader = provider.reader();
    let acme = || TokenRequest::organization("acme");
    let acme_resource = || TokenRequest::resource(SHOPPING_API).in_organization("acme");
    for (request, kind, audience, organization, scopes) in [
        (
            TokenRequest::resource(SHOPPING_API).scopes(["read:products"]),
            "Global",
            SHOPPING_API,
            None,
            vec!["read:products"],
        ),
        (TokenRequest::resource(SHOPPING_API), "Global", SHOPPING_API, None, vec![]),
        (
            acme_resource().scopes(["read:orders"]),
            "OrganizationResource",
            SHOPPING_API,
            Some("acme"),
            vec!["read:orders"],
        ),
        (acme_resource(), "OrganizationResource", SHOPPING_API, Some("acme"), vec![]),
        (
            acme().scopes(["invite:member"]),
            "OrganizationPermissions",
            "urn:logto:organization:acme",
            Some("acme"),
            vec!["invite:member"],
        ),
        (acme(), "OrganizationPermissions", "urn:logto:organization:acme", Some("acme"), vec![]),
    ] {
        let token = reader.token(&request).await.unwrap();
        assert_eq!(kid_of(&token), provider.kid());
        assert_eq!(token.scopes().iter().collect::<Vec<_>>(), scopes, "{request}");
        let response = service.request(Method::GET, "/whoami", token.authorization()).await;
        assert_eq!(response.status(), 200, "{request}");
        let expected = json!({
            "sub": "reader",
            "client_id": "reader",
            "is_machine": true,
            "aud": [audience],
            "organization_id": organization,
            "kind": kind,
            "scopes": scopes,
        });
        assert_eq!(response.json::<Value>().await.unwrap(), expected, "{request}");
    }
}

async fn token_is_accepted_only_at_its_routes(provider: Provider) {
    let service = Service::start(&provider).await;
    let reader = provider.reader();
    let writer =
        TokenClient::builder(&provider.issuer(), "writer", ClientSecret::new("writer secret"))
            .authentication(ClientAuthentication::Post)
            .build()
            .unwrap();

    let global = TokenRequest::resource(SHOPPING_API).scopes(["read:products"]);
    let global = reader.token(&global).await.unwrap().authorization();
    let bare = reader.token(&TokenRequest::resource(SHOPPING_API)).await.unwrap().authorization();
    let both = TokenRequest::resource(SHOPPING_API).scopes(["read:products", "write:products"]);
    let both = writer.token(&both).await.unwrap().authorization();
    let orders =
        TokenRequest::resource(SHOPPING_API).in_organization("acme").scopes(["read:orders"]);
    let orders = reader.token(&orders).await.unwrap().authorization();
    let invite = TokenRequest::organization("acme").scopes(["invite:member"]);
    let invite = reader.token(&invite).await.unwrap().authorization();
    let globex = reader.token(&TokenRequest::organization("globex")).await.unwrap().authorization();
    let other = TokenRequest::resource("https://other.api").scopes(["read:products"]);
    let other = reader.token(&other).await.unwrap().authorization();
    let every_organization = every_organization_token(&provider).await;

    let (get, post) = (Method::GET, Method::POST);
    for (name, method, path, token, status, code) in [
        ("global", &get, "/products", &global, 200, ""),
        ("global", &post, "/products", &global, 403, "insufficient_scope"),
        ("global", &get, "/orgs/acme/orders", &global, 403, "insufficient_scope"),
        ("bare", &get, "/products", &bare, 403, "insufficient_scope"),
        ("both", &get, "/products", &both, 200, ""),
        ("both", &post, "/products", &both, 200, ""),
        ("orders", &get, "/orgs/acme/orders", &orders, 200, ""),
        ("orders", &get, "/orgs/globex/orders", &orders, 403, "insufficient_scope"),
        ("orders", &get, "/orgs/acme/members", &orders, 403, "insufficient_scope"),
        ("orders", &get, "/products", &orders, 403, "insufficient_scope"),
        ("invite", &get, "/orgs/acme/members", &invite, 200, ""),
        ("invite", &get, "/orgs/globex/members", &invite, 403, "insufficient_scope"),
        ("invite", &get, "/orgs/acme/orders", &invite, 403, "insufficient_scope"),
        ("globex", &get, "/orgs/globex/members", &globex, 403, "insufficient_scope"),
        ("other", &get, "/products", &other, 401, "invalid_token"),
        ("every organization", &get, "/whoami", &every_organization, 401, "invalid_token"),
        (
            "every organization",
            &get,
            "/orgs/acme/members",
            &every_organization,
            401,
            "invalid_token",
        ),
    ] {
        let response = service.request(method.clone(), path, token.clone()).await;
        assert_eq!(response.status(), status, "{name}: {method} {path}");
        let challenge = header(response.headers(), "www-authenticate");
        assert!(challenge.contains(code), "{name}: {method} {path}: {challenge}");
    }
}

/// Requests a token for the resource that Logto reserves for organizations. The token is valid, and
/// contains every organization scope. `TokenClient` never requests such a token.
async fn every_organization_token(provider: &Provider) -> HeaderValue {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "writer"),
        ("client_secret", "writer secret"),
        ("resource", "urn:logto:resource:organizations"),
        ("scope", "invite:member"),
    ];
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("{}/token", provider.issuer())).form(&form);
    let response = request.send().await.unwrap().json::<Value>().await.unwrap();
    assert_eq!(response["scope"], "invite:member", "{response}");
    format!("Bearer {}", response["access_token"].as_str().unwrap()).parse().unwrap()
}

async fn refused_token_request_has_its_error_code(provider: Provider) {
    let reader = provider.reader();
    let wrong_secret =
        TokenClient::new(&provider.issuer(), "reader", ClientSecret::new("a guess")).unwrap();
    let resource = || TokenRequest::resource(SHOPPING_API);
    for (client, request, status, error) in [
        (&wrong_secret, resource(), 401, "invalid_client"),
        (&reader, TokenRequest::resource("https://unknown.api"), 400, "invalid_target"),
        (&reader, TokenRequest::organization("unknown"), 403, "access_denied"),
        (&reader, resource().in_organization("unknown"), 403, "access_denied"),
    ] {
        let refusal = client.token(&request).await.unwrap_err();
        assert_eq!(refusal.kind(), TokenRequestErrorKind::Refused, "{refusal}");
        assert_eq!(refusal.status().unwrap(), status, "{refusal}");
        assert_eq!(refusal.code(), Some(error), "{refusal}");
    }
    let refusal = reader.token(&resource().scopes(["write:products"])).await.unwrap_err();
    assert_eq!(refusal.kind(), TokenRequestErrorKind::MissingScopes);
    assert_eq!(refusal.missing_scopes().collect::<Vec<_>>(), ["write:products"]);
}

async fn rotation_under_load_refuses_no_valid_token(mut provider: Provider) {
    let service = Service::start(&provider).await;
    let first = provider.kid();
    let mut load = Load::start("keys rotate", &provider, service).await;

    provider.rotate_to("RS256");
    let second = provider.kid();
    load.accepted(&second).await;
    load.accepted(&first).await;
    load.refreshed_with(&second).await;
    load.report("ES384 to RS256");

    load.retire(&first).await;
    provider.rotate_to("ES384");
    let third = provider.kid();
    load.accepted(&third).await;
    load.accepted(&second).await;
    load.refreshed_with(&third).await;
    load.report("RS256 to ES384");
    load.stop().await;

    for (kid, status) in [(&first, 401), (&second, 200), (&third, 200)] {
        let token = load.token_of(kid).authorization();
        assert_eq!(load.service().get("/products", token).await, status);
    }
    let fetches = provider.requests_for("/oidc/jwks");
    // The service fetches the keys once for the first token, and once after each of the two
    // rotations. The token that the removed key signed can cause one more fetch.
    assert!((3..=4).contains(&fetches), "{fetches} fetches");
}

async fn restart_under_load_refuses_no_valid_token(mut provider: Provider) {
    // The keys are fresh for only 1 s, and therefore become stale during the outage.
    let service = Service::start_with(&provider, |builder| builder.keys_fresh_for(SECOND)).await;
    let kid = provider.kid();
    let mut load = Load::start("killed and restarted", &provider, service).await;

    provider.kill();
    load.without_token().await;
    load.accepted(&kid).await;
    load.report("down");

    provider.restart_with_its_keys();
    assert_eq!(provider.kid(), kid);
    load.refreshed_with(&kid).await;
    load.accepted(&kid).await;
    load.report("up again");
    load.stop().await;
}

async fn new_keys_under_load_replace_the_old_ones(mut provider: Provider) {
    let service = Service::start(&provider).await;
    let late = Service::start(&provider).await;
    let old = provider.kid();
    let mut load = Load::start("restarted with new keys", &provider, service).await;

    provider.kill();
    load.accepted(&old).await;
    load.report("down");
    let without_keys = late.get("/products", load.token_of(&old).authorization()).await;
    assert_eq!(without_keys, 503);

    load.retire(&old).await;
    provider.restart_with_new_keys();
    let new = provider.kid();
    load.refreshed_with(&new).await;
    load.accepted(&new).await;
    load.report("up again");
    load.stop().await;

    for (kid, status) in [(&old, 401), (&new, 200)] {
        let token = load.token_of(kid).authorization();
        assert_eq!(load.service().get("/products", token).await, status);
    }
    let token = load.token_of(&new).authorization();
    let mut status = late.get("/products", token.clone()).await;
    while status == 503 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        status = late.get("/products", token.clone()).await;
    }
    assert_eq!(status, 200);
}

const TIMEOUT: Duration = Duration::from_secs(180);
