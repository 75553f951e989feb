//! Against a real server: oidc-provider, the engine inside Logto, of the major versions that Logto
//! uses. Its packages are installed by `npm ci` in this directory; without them nothing is tested.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper of a test fails it"
)]

mod load;
mod logto;
mod shop;

use std::time::Duration;

use http::{HeaderValue, Method, header};
use serde_json::{Value, json};
use tower_logto::m2m::{
    ClientAuthentication, ClientSecret, TokenClient, TokenRequest, TokenRequestErrorKind,
};

use crate::{
    load::{Load, kid_of},
    logto::Logto,
    shop::{SHOP, Shop},
};

/// Makes each scenario a test against each version.
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        mod oidc_provider_8 { $(#[test] fn $name() { crate::play(8, crate::$name); })+ }
        mod oidc_provider_9 { $(#[test] fn $name() { crate::play(9, crate::$name); })+ }
    };
}

scenarios! {
    each_kind_of_token_is_what_it_says,
    tokens_open_no_more_than_they_should,
    refused_token_requests_say_why,
    keys_rotate_under_load,
    killed_and_restarted_under_load,
    restarted_with_new_keys_under_load,
}

fn play(major: u8, scenario: impl AsyncFnOnce(Logto)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(logto) = Logto::start(major) else { return };
        tokio::time::timeout(LONG, scenario(logto)).await.expect("it comes to an end");
    });
}

async fn each_kind_of_token_is_what_it_says(logto: Logto) {
    let shop = Shop::open(&logto).await;
    let reader = logto.reader();
    let acme = || TokenRequest::organization("acme");
    let shop_of_acme = || TokenRequest::resource(SHOP).in_organization("acme");
    for (request, kind, audience, organization, scopes) in [
        (
            TokenRequest::resource(SHOP).scopes(["read:products"]),
            "Global",
            SHOP,
            None,
            vec!["read:products"],
        ),
        (TokenRequest::resource(SHOP), "Global", SHOP, None, vec![]),
        (
            shop_of_acme().scopes(["read:orders"]),
            "OrganizationResource",
            SHOP,
            Some("acme"),
            vec!["read:orders"],
        ),
        (shop_of_acme(), "OrganizationResource", SHOP, Some("acme"), vec![]),
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
        assert_eq!(kid_of(&token), logto.kid());
        assert_eq!(token.scopes().iter().collect::<Vec<_>>(), scopes, "{request}");
        let answer = shop.ask(Method::GET, "/whoami", token.authorization()).await;
        assert_eq!(answer.status(), 200, "{request}");
        let expected = json!({
            "sub": "reader",
            "client_id": "reader",
            "is_machine": true,
            "aud": [audience],
            "organization_id": organization,
            "kind": kind,
            "scopes": scopes,
        });
        assert_eq!(answer.json::<Value>().await.unwrap(), expected, "{request}");
    }
}

async fn tokens_open_no_more_than_they_should(logto: Logto) {
    let shop = Shop::open(&logto).await;
    let reader = logto.reader();
    let writer =
        TokenClient::builder(&logto.issuer(), "writer", ClientSecret::new("writer secret"))
            .authentication(ClientAuthentication::Post)
            .build()
            .unwrap();

    let global = TokenRequest::resource(SHOP).scopes(["read:products"]);
    let global = reader.token(&global).await.unwrap().authorization();
    let bare = reader.token(&TokenRequest::resource(SHOP)).await.unwrap().authorization();
    let both = TokenRequest::resource(SHOP).scopes(["read:products", "write:products"]);
    let both = writer.token(&both).await.unwrap().authorization();
    let orders = TokenRequest::resource(SHOP).in_organization("acme").scopes(["read:orders"]);
    let orders = reader.token(&orders).await.unwrap().authorization();
    let invite = TokenRequest::organization("acme").scopes(["invite:member"]);
    let invite = reader.token(&invite).await.unwrap().authorization();
    let globex = reader.token(&TokenRequest::organization("globex")).await.unwrap().authorization();
    let other = TokenRequest::resource("https://other.api").scopes(["read:products"]);
    let other = reader.token(&other).await.unwrap().authorization();
    let every_organization = every_organization_token(&logto).await;

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
        let answer = shop.ask(method.clone(), path, token.clone()).await;
        assert_eq!(answer.status(), status, "{name}: {method} {path}");
        let challenge = answer.headers().get(header::WWW_AUTHENTICATE);
        let challenge = challenge.map_or("", |value| value.to_str().unwrap());
        assert!(challenge.contains(code), "{name}: {method} {path}: {challenge}");
    }
}

/// A token that TokenClient would not ask for: valid, with the scopes of every organization.
async fn every_organization_token(logto: &Logto) -> HeaderValue {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "writer"),
        ("client_secret", "writer secret"),
        ("resource", "urn:logto:resource:organizations"),
        ("scope", "invite:member"),
    ];
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("{}/token", logto.issuer())).form(&form);
    let answer = request.send().await.unwrap().json::<Value>().await.unwrap();
    assert_eq!(answer["scope"], "invite:member", "{answer}");
    format!("Bearer {}", answer["access_token"].as_str().unwrap()).parse().unwrap()
}

async fn refused_token_requests_say_why(logto: Logto) {
    let reader = logto.reader();
    let impostor =
        TokenClient::new(&logto.issuer(), "reader", ClientSecret::new("a guess")).unwrap();
    let shop = || TokenRequest::resource(SHOP);
    for (client, request, status, error) in [
        (&impostor, shop(), 401, "invalid_client"),
        (&reader, TokenRequest::resource("https://unknown.api"), 400, "invalid_target"),
        (&reader, TokenRequest::organization("strangers"), 403, "access_denied"),
        (&reader, shop().in_organization("strangers"), 403, "access_denied"),
    ] {
        let refusal = client.token(&request).await.unwrap_err();
        assert_eq!(refusal.kind(), TokenRequestErrorKind::Refused, "{refusal}");
        assert_eq!(refusal.status().unwrap(), status, "{refusal}");
        assert_eq!(refusal.code(), Some(error), "{refusal}");
    }
    let refusal = reader.token(&shop().scopes(["write:products"])).await.unwrap_err();
    assert_eq!(refusal.kind(), TokenRequestErrorKind::MissingScopes);
    assert_eq!(refusal.missing_scopes().collect::<Vec<_>>(), ["write:products"]);
}

async fn keys_rotate_under_load(mut logto: Logto) {
    let shop = Shop::open(&logto).await;
    let first = logto.kid();
    let mut load = Load::start("keys rotate", &logto, shop).await;

    logto.rotate_to("RS256");
    let second = logto.kid();
    load.serves(&second).await;
    load.serves(&first).await;
    load.lives_on(&second).await;
    load.ends("ES384 to RS256");

    load.retire(&first).await;
    logto.rotate_to("ES384");
    let third = logto.kid();
    load.serves(&third).await;
    load.serves(&second).await;
    load.lives_on(&third).await;
    load.ends("RS256 to ES384");
    load.stop().await;

    for (kid, status) in [(&first, 401), (&second, 200), (&third, 200)] {
        let token = load.token_of(kid).authorization();
        assert_eq!(load.shop().get("/products", token).await, status);
    }
    let fetches = logto.requests_for("/oidc/jwks");
    // The first load, one for each rotation, and one for the token of the key that is gone.
    assert!((3..=4).contains(&fetches), "{fetches} fetches");
}

async fn killed_and_restarted_under_load(mut logto: Logto) {
    // The keys stop being fresh during the outage.
    let shop = Shop::open_with(&logto, |shop| shop.keys_fresh_for(Duration::from_secs(1))).await;
    let kid = logto.kid();
    let mut load = Load::start("killed and restarted", &logto, shop).await;

    logto.kill();
    load.is_out_of_tokens().await;
    load.serves(&kid).await;
    load.ends("down");

    logto.restart_with_its_keys();
    assert_eq!(logto.kid(), kid);
    load.lives_on(&kid).await;
    load.serves(&kid).await;
    load.ends("up again");
    load.stop().await;
}

async fn restarted_with_new_keys_under_load(mut logto: Logto) {
    let shop = Shop::open(&logto).await;
    let late = Shop::open(&logto).await;
    let old = logto.kid();
    let mut load = Load::start("restarted with new keys", &logto, shop).await;

    logto.kill();
    load.serves(&old).await;
    load.ends("down");
    let without_keys = late.get("/products", load.token_of(&old).authorization()).await;
    assert_eq!(without_keys, 503);

    load.retire(&old).await;
    logto.restart_with_new_keys();
    let new = logto.kid();
    load.lives_on(&new).await;
    load.serves(&new).await;
    load.ends("up again");
    load.stop().await;

    for (kid, status) in [(&old, 401), (&new, 200)] {
        let token = load.token_of(kid).authorization();
        assert_eq!(load.shop().get("/products", token).await, status);
    }
    let token = load.token_of(&new).authorization();
    let mut status = late.get("/products", token.clone()).await;
    while status == 503 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        status = late.get("/products", token.clone()).await;
    }
    assert_eq!(status, 200);
}

const LONG: Duration = Duration::from_secs(180);
