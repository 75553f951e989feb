//! Tests of the axum extractors with missing, valid and invalid tokens, and with custom claims.

use axum::{Router, routing::get};
use serde::Deserialize;
use tower_logto::{AccessToken, Anonymous, AuthLayer, Claims, Scoped, scopes};

use crate::support::{Harness, SHOPPING_API, Server};

scopes! {
    ReadProducts = "read:products";
    Manage = all["read:products", "write:products"];
    Either = any["read:products", "write:products"];
    OfAnyKind = "read:products" for any_kind;
    InviteMember = "invite:member" for OrganizationPermissions;
}

#[derive(Deserialize)]
struct Tier {
    tier: String,
}

fn routes(layer: AuthLayer) -> Router {
    Router::new()
        .route("/token", get(async |token: AccessToken| token.subject().to_owned()))
        .route(
            "/maybe",
            get(async |token: Option<AccessToken>| {
                token.map_or("anonymous".into(), |token| token.subject().to_owned())
            }),
        )
        .route("/claims", get(async |Claims(claims): Claims<Tier>| claims.tier))
        .route(
            "/maybe-claims",
            get(async |claims: Option<Claims<Tier>>| {
                claims.map_or("anonymous".into(), |Claims(claims)| claims.tier)
            }),
        )
        .route(
            "/read",
            get(async |token: Scoped<ReadProducts>| token.into_token().subject().to_owned()),
        )
        .route("/manage", get(async |_: Scoped<Manage>| "managed"))
        .route("/either", get(async |_: Scoped<Either>| "either"))
        .route("/any-kind", get(async |_: Scoped<OfAnyKind>| "any kind"))
        .route("/invite", get(async |_: Scoped<InviteMember>| "invited"))
        .route(
            "/maybe-read",
            get(
                async |token: Option<Scoped<ReadProducts>>| {
                    if token.is_some() { "scoped" } else { "anonymous" }
                },
            ),
        )
        .route(
            "/extension",
            get(
                async |anonymous: Option<axum::Extension<Anonymous>>| {
                    if anonymous.is_some() { "anonymous" } else { "token" }
                },
            ),
        )
        .route_layer(layer)
}

#[tokio::test]
async fn each_extractor_accepts_and_refuses_the_expected_callers() {
    let harness = Harness::start().await;
    let server = Server::start(routes(AuthLayer::new(harness.validator()).optional())).await;
    let token =
        || harness.logto.token().audience(SHOPPING_API).subject("alice").scopes(["read:products"]);
    let good = token().claim("tier", "gold").build();
    let bad = token().bad_signature().build();
    let organization = token().organization_resource("acme").build();
    let callers = [None, Some(&good), Some(&bad), Some(&organization)];
    for (path, expected) in [
        ("/token", [(401, ""), (200, "alice"), (401, ""), (200, "alice")]),
        ("/maybe", [(200, "anonymous"), (200, "alice"), (401, ""), (200, "alice")]),
        ("/claims", [(401, ""), (200, "gold"), (401, ""), (403, "")]),
        ("/maybe-claims", [(200, "anonymous"), (200, "gold"), (401, ""), (403, "")]),
        ("/read", [(401, ""), (200, "alice"), (401, ""), (403, "")]),
        ("/manage", [(401, ""), (403, ""), (401, ""), (403, "")]),
        ("/either", [(401, ""), (200, "either"), (401, ""), (403, "")]),
        ("/any-kind", [(401, ""), (200, "any kind"), (401, ""), (200, "any kind")]),
        ("/invite", [(401, ""), (403, ""), (401, ""), (403, "")]),
        ("/maybe-read", [(200, "anonymous"), (200, "scoped"), (401, ""), (403, "")]),
        ("/extension", [(200, "anonymous"), (200, "token"), (401, ""), (200, "token")]),
    ] {
        for (caller, (status, body)) in callers.iter().zip(expected) {
            let request = server.request("GET", path);
            let request = caller.iter().fold(request, |request, token| request.bearer_auth(token));
            let response = request.send().await.unwrap();
            let found = (response.status().as_u16(), response.text().await.unwrap());
            assert_eq!(found, (status, body.to_owned()), "{path} {:?}", caller.map(|t| &t[..20]));
        }
    }
}

#[tokio::test]
async fn claims_that_do_not_match_the_type_are_refused_and_the_error_contains_the_field() {
    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code, reason = "the test is about the error")]
    struct Plan {
        tier: String,
    }
    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code, reason = "the test is about the error")]
    struct Custom {
        plans: Vec<Plan>,
    }
    let harness = Harness::start().await;
    let validator = harness.validator();
    let missing = serde_json::json!([{ "tier": "gold" }, {}]);
    let wrong = serde_json::json!([{ "tier": { "secret": "value" } }]);
    for (plans, expected) in [
        (Some(missing), "\"plans[1]\": the field \"tier\" is missing"),
        (Some(wrong), "\"plans[0].tier\": a value has the wrong type"),
        (None, "the field \"plans\" is missing"),
    ] {
        let token = harness.token();
        let token = plans.into_iter().fold(token, |token, plans| token.claim("plans", plans));
        let token = validator.validate(&token.build()).await.unwrap();
        let error = token.claims::<Custom>().unwrap_err();
        assert_eq!((error.status().as_u16(), error.reason()), (403, "custom_claims"));
        let text = error.to_string();
        assert!(text.contains(expected) && !text.contains("value\""), "{text}");
    }
}

#[tokio::test]
async fn debug_output_shows_the_claims_but_not_the_token() {
    let harness = Harness::start().await;
    let text = harness.logto.token().audience(SHOPPING_API).subject("alice").build();
    let token = harness.validator().validate(&text).await.unwrap();
    let debug = format!("{token:?}");
    assert!(debug.contains("alice"), "{debug}");
    for part in text.split('.') {
        assert!(!debug.contains(part), "{debug}");
    }
}
