//! Attacks that misuse the issuer or the audience of a token (RFC 8725 §3.8–3.9, RFC 9068 §4).

use serde_json::json;
use tower_logto::{Issuer, TokenKind, TrustedIssuer, Validator, testing::SigningKey};

use super::Target;
use crate::support::{
    Harness,
    Outcome::{
        self, Accepted, AmbiguousAudience, BadSignature, MalformedClaim, MissingClaim,
        UntrustedIssuer, WrongAudience, WrongKind,
    },
    SHOPPING_API,
};

#[tokio::test]
async fn audience_must_match_exactly() {
    const BAD: Outcome = MalformedClaim("aud");
    let target = Target::start().await;
    let mut attacks = Vec::new();
    for (aud, expected) in [
        (json!(SHOPPING_API), Accepted),
        (json!([SHOPPING_API]), Accepted),
        (json!(["https://other.api", SHOPPING_API]), Accepted),
        (json!("https://shopping.ap"), WrongAudience),
        (json!("https://shopping.api2"), WrongAudience),
        (json!("https://shopping.api.evil.example"), WrongAudience),
        (json!("https://evil.example/https://shopping.api"), WrongAudience),
        (json!("https://evil.example?https://shopping.api"), WrongAudience),
        (json!("shopping.api"), WrongAudience),
        (json!("http://shopping.api"), WrongAudience),
        (json!("HTTPS://shopping.api"), WrongAudience),
        (json!("https://Shopping.api"), WrongAudience),
        (json!("https://shopping.api/"), WrongAudience),
        (json!("https://shopping.api//"), WrongAudience),
        (json!("https://shopping.api/v1"), WrongAudience),
        (json!("https://shopping.api/../"), WrongAudience),
        (json!("https://shopping.api."), WrongAudience),
        (json!("https://shopping.api:443"), WrongAudience),
        (json!("https://user@shopping.api"), WrongAudience),
        (json!("https://shopping.api?"), WrongAudience),
        (json!("https://shopping.api#"), WrongAudience),
        (json!("https://shopping%2eapi"), WrongAudience),
        (json!("https:shopping.api"), WrongAudience),
        (json!("https:\\\\shopping.api"), WrongAudience),
        (json!(" https://shopping.api"), WrongAudience),
        (json!("https://shopping.api "), WrongAudience),
        (json!("https://shopping.api\n"), WrongAudience),
        (json!("https://shopping.api\0"), WrongAudience),
        (json!("https://shopping.api\u{200b}"), WrongAudience),
        (json!("https://sh\u{43e}pping.api"), WrongAudience),
        (json!("https://shopping\u{3002}api"), WrongAudience),
        (json!("https://\u{ff53}hopping.api"), WrongAudience),
        (json!("https://shoppi\u{301}ng.api"), WrongAudience),
        (json!("https://shopping.api https://other.api"), WrongAudience),
        (json!("https://other.api,https://shopping.api"), WrongAudience),
        (json!("[\"https://shopping.api\"]"), WrongAudience),
        (json!("*"), WrongAudience),
        (json!(""), WrongAudience),
        (json!("null"), WrongAudience),
        (json!([]), WrongAudience),
        (json!([""]), WrongAudience),
        (json!(["https://shopping.api/", "https://shopping.ap", "i"]), WrongAudience),
        (json!([[SHOPPING_API]]), BAD),
        (json!([SHOPPING_API, null]), BAD),
        (json!([SHOPPING_API, 7]), BAD),
        (json!([SHOPPING_API, [SHOPPING_API]]), BAD),
        (json!({ "aud": SHOPPING_API }), BAD),
        (json!({ SHOPPING_API: true }), BAD),
        (json!({ "0": SHOPPING_API, "length": 1 }), BAD),
        (json!(null), BAD),
        (json!(7), BAD),
        (json!(true), BAD),
    ] {
        let token = target.token().claim("aud", aud.clone()).build();
        attacks.push((format!("aud {aud}"), token, expected));
    }
    let token = target.token().without_claim("aud").build();
    attacks.push(("no aud".into(), token, MissingClaim("aud")));
    let token = target.token().without_claim("aud").claim("resource", SHOPPING_API).build();
    attacks.push(("resource".into(), token, MissingClaim("aud")));
    target.assert_outcomes(attacks).await;
}

#[tokio::test]
async fn audience_reserved_by_logto_determines_the_token_kind() {
    let target = Target::start().await;
    let organization = "urn:logto:organization:acme";
    let mut attacks = Vec::new();
    for (aud, organization_id, expected) in [
        // Any machine-to-machine application can request a token for this audience. Such a token
        // contains every organization scope that the application requests.
        (json!("urn:logto:resource:organizations"), None, WrongAudience),
        (json!(["urn:logto:resource:organizations"]), Some("acme"), WrongAudience),
        (json!(["urn:logto:resource:organizations", SHOPPING_API]), None, AmbiguousAudience),
        (json!([SHOPPING_API, "urn:logto:resource:organizations"]), None, AmbiguousAudience),
        (json!(["urn:logto:resource:organizations", organization]), None, WrongAudience),
        (json!([organization, "urn:logto:resource:organizations"]), None, AmbiguousAudience),
        (json!("urn:logto:organization:"), None, WrongAudience),
        (json!("urn:logto:organization"), None, WrongAudience),
        (json!("urn:logto:organization:*"), Some("acme"), AmbiguousAudience),
        (json!("URN:LOGTO:ORGANIZATION:acme"), None, WrongAudience),
        (json!(" urn:logto:organization:acme"), None, WrongAudience),
        (json!([organization, "urn:logto:organization:evil"]), None, AmbiguousAudience),
        (json!([organization, SHOPPING_API]), None, AmbiguousAudience),
        (json!([SHOPPING_API, organization]), Some("acme"), AmbiguousAudience),
        (json!(organization), Some("evil"), AmbiguousAudience),
        (json!("https://default.logto.app/api"), None, WrongAudience),
        // These tokens are valid, but `/read` refuses organization tokens.
        (json!(organization), None, Accepted),
        (json!(organization), Some("acme"), Accepted),
    ] {
        let scopes = "read:products write:products all read:members invite:member";
        let token = target.token().claim("aud", aud.clone()).claim("scope", scopes);
        let token = match organization_id {
            Some(id) => token.claim("organization_id", id),
            None => token,
        };
        attacks.push((format!("aud {aud}, claim {organization_id:?}"), token.build(), expected));
    }
    target.assert_outcomes(attacks.clone()).await;
    let guarded = attacks.into_iter().map(|(name, token, expected)| {
        (
            name,
            token,
            if expected == Accepted {
                WrongKind(TokenKind::OrganizationPermissions)
            } else {
                expected
            },
        )
    });
    target.assert_outcomes_at("/read", guarded.collect::<Vec<_>>()).await;
    let mut forged = Vec::new();
    for (id, expected) in [
        (json!("acme"), WrongKind(TokenKind::OrganizationResource)),
        (json!(""), MalformedClaim("organization_id")),
        (json!(null), MalformedClaim("organization_id")),
        (json!(7), MalformedClaim("organization_id")),
        (json!(["acme"]), MalformedClaim("organization_id")),
        (json!(false), MalformedClaim("organization_id")),
    ] {
        let token = target.token().claim("organization_id", id.clone()).build();
        forged.push((format!("organization_id {id}"), token, expected));
    }
    target.assert_outcomes_at("/read", forged).await;
}

#[tokio::test]
async fn issuer_must_match_exactly() {
    const BAD: Outcome = MalformedClaim("iss");
    let target = Target::start().await;
    let issuer = target.harness.logto.issuer().to_string();
    let requests = target.harness.logto.jwks_requests();
    let endpoint = target.harness.logto.endpoint();
    let mut attacks = Vec::new();
    for (iss, expected) in [
        (json!(format!("{issuer}/")), UntrustedIssuer),
        (json!(format!("{issuer}//")), UntrustedIssuer),
        (json!(format!("{issuer}/jwks")), UntrustedIssuer),
        (json!(format!("{issuer}#")), UntrustedIssuer),
        (json!(format!("{issuer}?")), UntrustedIssuer),
        (json!(format!("{issuer} ")), UntrustedIssuer),
        (json!(format!(" {issuer}")), UntrustedIssuer),
        (json!(format!("{issuer}\n")), UntrustedIssuer),
        (json!(format!("{issuer}\0")), UntrustedIssuer),
        (json!(format!("{issuer}\u{200b}")), UntrustedIssuer),
        (json!(format!("{issuer},https://evil.example")), UntrustedIssuer),
        (json!(issuer.to_uppercase()), UntrustedIssuer),
        (json!(issuer.replace("http://", "HTTP://")), UntrustedIssuer),
        (json!(issuer.replace("http://", "https://")), UntrustedIssuer),
        (json!(issuer.replace("http://", "//")), UntrustedIssuer),
        (json!(issuer.replace("127.0.0.1", "127.0.0.1.")), UntrustedIssuer),
        (json!(issuer.replace("127.0.0.1", "127.1")), UntrustedIssuer),
        (json!(issuer.replace("127.0.0.1", "localhost")), UntrustedIssuer),
        (json!(issuer.replace("127.0.0.1", "2130706433")), UntrustedIssuer),
        (json!(issuer.replace("127.0.0.1", "[::ffff:127.0.0.1]")), UntrustedIssuer),
        (json!(issuer.replace("127.0.0.1", "\u{ff11}27.0.0.1")), UntrustedIssuer),
        (json!(issuer.replace("127.0.0.1", "xn--127-0-0-1")), UntrustedIssuer),
        (json!(issuer.replace("oidc", "o\u{456}dc")), UntrustedIssuer),
        (json!(issuer.replace("oidc", "%6fidc")), UntrustedIssuer),
        (json!(issuer.replace("oidc", "x/../oidc")), UntrustedIssuer),
        (json!(issuer.replace("http://", "http://user@")), UntrustedIssuer),
        (json!(format!("https://evil.example/?{issuer}")), UntrustedIssuer),
        (json!(endpoint), UntrustedIssuer),
        (json!(issuer[..issuer.len() - 1]), UntrustedIssuer),
        (json!("https://evil.example/oidc"), UntrustedIssuer),
        (json!("http://169.254.169.254/latest/meta-data"), UntrustedIssuer),
        (json!(""), UntrustedIssuer),
        (json!([issuer]), BAD),
        (json!([issuer, "https://evil.example"]), BAD),
        (json!({ "iss": issuer }), BAD),
        (json!(null), BAD),
        (json!(7), BAD),
    ] {
        let token = target.token().claim("iss", iss.clone()).build();
        attacks.push((format!("iss {iss}"), token, expected));
    }
    let token = target.token().without_claim("iss").build();
    attacks.push(("no iss".into(), token, MissingClaim("iss")));
    target.assert_outcomes(attacks).await;
    assert_eq!(target.harness.logto.jwks_requests(), requests, "refused before any I/O");
}

#[tokio::test]
async fn key_of_another_issuer_is_refused_despite_the_same_kid() {
    let (target, other) = (Target::start().await, Harness::start().await);
    // The two tenants publish different keys with the same key id.
    let publish = |harness: &Harness, key: &SigningKey| {
        let mut jwk = key.jwk();
        jwk["kid"] = "shared".into();
        harness.logto.publish(json!({ "keys": [jwk] }).to_string());
    };
    publish(&target.harness, &target.key());
    publish(&other, &other.logto.signing_key());
    let validator = Validator::builder()
        .trust(target.harness.logto.trusted(SHOPPING_API))
        .trust(other.logto.trusted("https://other.api"))
        .clock(target.harness.clock.clone())
        .build()
        .unwrap();
    let (ours, theirs) = (target.harness.logto.token(), other.logto.token());
    let (ours, theirs) = (ours.kid("shared"), theirs.audience("https://other.api").kid("shared"));
    validator.validate(&ours.clone().build()).await.unwrap();
    validator.validate(&theirs.clone().build()).await.unwrap();
    let their_key = other.logto.signing_key();
    let our_key = target.key();
    for (name, token, expected) in [
        ("their key, our issuer", ours.clone().signed_by(&their_key), BadSignature),
        ("our key, their issuer", theirs.clone().signed_by(&our_key), BadSignature),
        ("their token, our audience", theirs.clone().audience(SHOPPING_API), WrongAudience),
        ("our token, their audience", ours.clone().audience("https://other.api"), WrongAudience),
        ("our token, their iss", ours.claim("iss", other.logto.issuer().as_str()), WrongAudience),
        (
            "our key, their iss and audience",
            theirs.signed_by(&our_key).claim("iss", other.logto.issuer().as_str()),
            BadSignature,
        ),
    ] {
        println!("attack: {name}");
        let refusal = validator.validate(&token.kid("shared").build()).await.unwrap_err();
        assert_eq!(Outcome::of_error(&refusal), expected, "{name}");
        assert_eq!(refusal.status(), 401);
    }
    // The validator of `target` does not trust the tenant of `other`.
    let foreign = other.logto.token().kid("shared").build();
    let forged = target.token().signed_by(&their_key).kid("shared").build();
    target.assert_outcomes([("a token of the other tenant", foreign, UntrustedIssuer)]).await;
    let refusal = target.server.get("/", &forged).await;
    assert_eq!(refusal.status(), 401);
}

#[test]
fn empty_or_reserved_audience_setting_is_an_error() {
    let issuer = Issuer::logto("https://tenant.logto.app").unwrap();
    let build = |audience: &str| {
        let trusted = TrustedIssuer::new(&issuer).audience(audience);
        Validator::builder().trust(trusted).build()
    };
    build(SHOPPING_API).unwrap();
    for audience in
        ["", " ", "urn:logto:resource:organizations", "urn:logto:organization:acme", "a b"]
    {
        assert_eq!(build(audience).unwrap_err().setting(), "audience", "{audience:?}");
    }
}
