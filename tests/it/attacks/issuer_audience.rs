//! Attacks by way of who signed and whom it is for (RFC 8725 §3.8–3.9, RFC 9068 §4).

use serde_json::json;
use tower_logto::{
    Issuer, TrustedIssuer, Validator,
    error::{AuthErrorKind, InvalidToken},
    testing::SigningKey,
};

use super::{LET_IN, Target};
use crate::support::{SHOP, Stage};

const AUDIENCE: &str = "InvalidToken(WrongAudience";
const AMBIGUOUS: &str = "InvalidToken(AmbiguousAudience)";
const ISSUER: &str = "InvalidToken(UntrustedIssuer";

#[tokio::test]
async fn audiences_that_are_almost_ours() {
    const BAD: &str = r#"InvalidToken(MalformedClaim("aud"))"#;
    let target = Target::set().await;
    let mut attacks = Vec::new();
    for (aud, reason) in [
        (json!(SHOP), LET_IN),
        (json!([SHOP]), LET_IN),
        (json!(["https://other.api", SHOP]), LET_IN),
        (json!("https://shopping.ap"), AUDIENCE),
        (json!("https://shopping.api2"), AUDIENCE),
        (json!("https://shopping.api.evil.example"), AUDIENCE),
        (json!("https://evil.example/https://shopping.api"), AUDIENCE),
        (json!("https://evil.example?https://shopping.api"), AUDIENCE),
        (json!("shopping.api"), AUDIENCE),
        (json!("http://shopping.api"), AUDIENCE),
        (json!("HTTPS://shopping.api"), AUDIENCE),
        (json!("https://Shopping.api"), AUDIENCE),
        (json!("https://shopping.api/"), AUDIENCE),
        (json!("https://shopping.api//"), AUDIENCE),
        (json!("https://shopping.api/v1"), AUDIENCE),
        (json!("https://shopping.api/../"), AUDIENCE),
        (json!("https://shopping.api."), AUDIENCE),
        (json!("https://shopping.api:443"), AUDIENCE),
        (json!("https://user@shopping.api"), AUDIENCE),
        (json!("https://shopping.api?"), AUDIENCE),
        (json!("https://shopping.api#"), AUDIENCE),
        (json!("https://shopping%2eapi"), AUDIENCE),
        (json!("https:shopping.api"), AUDIENCE),
        (json!("https:\\\\shopping.api"), AUDIENCE),
        (json!(" https://shopping.api"), AUDIENCE),
        (json!("https://shopping.api "), AUDIENCE),
        (json!("https://shopping.api\n"), AUDIENCE),
        (json!("https://shopping.api\0"), AUDIENCE),
        (json!("https://shopping.api\u{200b}"), AUDIENCE),
        (json!("https://sh\u{43e}pping.api"), AUDIENCE),
        (json!("https://shopping\u{3002}api"), AUDIENCE),
        (json!("https://\u{ff53}hopping.api"), AUDIENCE),
        (json!("https://shoppi\u{301}ng.api"), AUDIENCE),
        (json!("https://shopping.api https://other.api"), AUDIENCE),
        (json!("https://other.api,https://shopping.api"), AUDIENCE),
        (json!("[\"https://shopping.api\"]"), AUDIENCE),
        (json!("*"), AUDIENCE),
        (json!(""), AUDIENCE),
        (json!("null"), AUDIENCE),
        (json!([]), AUDIENCE),
        (json!([""]), AUDIENCE),
        (json!(["https://shopping.api/", "https://shopping.ap", "i"]), AUDIENCE),
        (json!([[SHOP]]), BAD),
        (json!([SHOP, null]), BAD),
        (json!([SHOP, 7]), BAD),
        (json!([SHOP, [SHOP]]), BAD),
        (json!({ "aud": SHOP }), BAD),
        (json!({ SHOP: true }), BAD),
        (json!({ "0": SHOP, "length": 1 }), BAD),
        (json!(null), BAD),
        (json!(7), BAD),
        (json!(true), BAD),
    ] {
        let token = target.token().claim("aud", aud.clone()).build();
        attacks.push((format!("aud {aud}"), token, reason));
    }
    let token = target.token().without_claim("aud").build();
    attacks.push(("no aud".into(), token, "InvalidToken(MissingClaim(\"aud\"))"));
    let token = target.token().without_claim("aud").claim("resource", SHOP).build();
    attacks.push(("resource".into(), token, "InvalidToken(MissingClaim(\"aud\"))"));
    target.repel(attacks).await;
}

#[tokio::test]
async fn audiences_of_logtos_own() {
    let target = Target::set().await;
    let organization = "urn:logto:organization:acme";
    let mut attacks = Vec::new();
    for (aud, organization_id, reason) in [
        // Any machine may ask for this one, and gets every organization scope.
        (json!("urn:logto:resource:organizations"), None, AUDIENCE),
        (json!(["urn:logto:resource:organizations"]), Some("acme"), AUDIENCE),
        (json!(["urn:logto:resource:organizations", SHOP]), None, AMBIGUOUS),
        (json!([SHOP, "urn:logto:resource:organizations"]), None, AMBIGUOUS),
        (json!(["urn:logto:resource:organizations", organization]), None, AUDIENCE),
        (json!([organization, "urn:logto:resource:organizations"]), None, AMBIGUOUS),
        (json!("urn:logto:organization:"), None, AUDIENCE),
        (json!("urn:logto:organization"), None, AUDIENCE),
        (json!("urn:logto:organization:*"), Some("acme"), AMBIGUOUS),
        (json!("URN:LOGTO:ORGANIZATION:acme"), None, AUDIENCE),
        (json!(" urn:logto:organization:acme"), None, AUDIENCE),
        (json!([organization, "urn:logto:organization:evil"]), None, AMBIGUOUS),
        (json!([organization, SHOP]), None, AMBIGUOUS),
        (json!([SHOP, organization]), Some("acme"), AMBIGUOUS),
        (json!(organization), Some("evil"), AMBIGUOUS),
        (json!("https://default.logto.app/api"), None, AUDIENCE),
        // Good, and of a kind that opens the guarded routes to no one.
        (json!(organization), None, LET_IN),
        (json!(organization), Some("acme"), LET_IN),
    ] {
        let scopes = "read:products write:products all read:members invite:member";
        let token = target.token().claim("aud", aud.clone()).claim("scope", scopes);
        let token = match organization_id {
            Some(id) => token.claim("organization_id", id),
            None => token,
        };
        attacks.push((format!("aud {aud}, claim {organization_id:?}"), token.build(), reason));
    }
    target.repel(attacks.clone()).await;
    let guarded = attacks.into_iter().map(|(name, token, reason)| {
        (name, token, if reason == LET_IN { "WrongKind(OrganizationPermissions)" } else { reason })
    });
    target.repel_at("/read", guarded.collect::<Vec<_>>()).await;
    let mut forged = Vec::new();
    for (id, reason) in [
        (json!("acme"), "WrongKind(OrganizationResource)"),
        (json!(""), r#"InvalidToken(MalformedClaim("organization_id"))"#),
        (json!(null), r#"InvalidToken(MalformedClaim("organization_id"))"#),
        (json!(7), r#"InvalidToken(MalformedClaim("organization_id"))"#),
        (json!(["acme"]), r#"InvalidToken(MalformedClaim("organization_id"))"#),
        (json!(false), r#"InvalidToken(MalformedClaim("organization_id"))"#),
    ] {
        let token = target.token().claim("organization_id", id.clone()).build();
        forged.push((format!("organization_id {id}"), token, reason));
    }
    target.repel_at("/read", forged).await;
}

#[tokio::test]
async fn issuers_that_are_almost_the_trusted_one() {
    const BAD: &str = r#"InvalidToken(MalformedClaim("iss"))"#;
    let target = Target::set().await;
    let issuer = target.stage.logto.issuer().to_string();
    let asked = target.stage.logto.jwks_requests();
    let endpoint = target.stage.logto.endpoint();
    let mut attacks = Vec::new();
    for (iss, reason) in [
        (json!(format!("{issuer}/")), ISSUER),
        (json!(format!("{issuer}//")), ISSUER),
        (json!(format!("{issuer}/jwks")), ISSUER),
        (json!(format!("{issuer}#")), ISSUER),
        (json!(format!("{issuer}?")), ISSUER),
        (json!(format!("{issuer} ")), ISSUER),
        (json!(format!(" {issuer}")), ISSUER),
        (json!(format!("{issuer}\n")), ISSUER),
        (json!(format!("{issuer}\0")), ISSUER),
        (json!(format!("{issuer}\u{200b}")), ISSUER),
        (json!(format!("{issuer},https://evil.example")), ISSUER),
        (json!(issuer.to_uppercase()), ISSUER),
        (json!(issuer.replace("http://", "HTTP://")), ISSUER),
        (json!(issuer.replace("http://", "https://")), ISSUER),
        (json!(issuer.replace("http://", "//")), ISSUER),
        (json!(issuer.replace("127.0.0.1", "127.0.0.1.")), ISSUER),
        (json!(issuer.replace("127.0.0.1", "127.1")), ISSUER),
        (json!(issuer.replace("127.0.0.1", "localhost")), ISSUER),
        (json!(issuer.replace("127.0.0.1", "2130706433")), ISSUER),
        (json!(issuer.replace("127.0.0.1", "[::ffff:127.0.0.1]")), ISSUER),
        (json!(issuer.replace("127.0.0.1", "\u{ff11}27.0.0.1")), ISSUER),
        (json!(issuer.replace("127.0.0.1", "xn--127-0-0-1")), ISSUER),
        (json!(issuer.replace("oidc", "o\u{456}dc")), ISSUER),
        (json!(issuer.replace("oidc", "%6fidc")), ISSUER),
        (json!(issuer.replace("oidc", "x/../oidc")), ISSUER),
        (json!(issuer.replace("http://", "http://user@")), ISSUER),
        (json!(format!("https://evil.example/?{issuer}")), ISSUER),
        (json!(endpoint), ISSUER),
        (json!(issuer[..issuer.len() - 1]), ISSUER),
        (json!("https://evil.example/oidc"), ISSUER),
        (json!("http://169.254.169.254/latest/meta-data"), ISSUER),
        (json!(""), ISSUER),
        (json!([issuer]), BAD),
        (json!([issuer, "https://evil.example"]), BAD),
        (json!({ "iss": issuer }), BAD),
        (json!(null), BAD),
        (json!(7), BAD),
    ] {
        let token = target.token().claim("iss", iss.clone()).build();
        attacks.push((format!("iss {iss}"), token, reason));
    }
    let token = target.token().without_claim("iss").build();
    attacks.push(("no iss".into(), token, "InvalidToken(MissingClaim(\"iss\"))"));
    target.repel(attacks).await;
    assert_eq!(target.stage.logto.jwks_requests(), asked, "refused before any I/O");
}

#[tokio::test]
async fn a_key_of_one_issuer_under_the_name_of_another() {
    let (target, other) = (Target::set().await, Stage::set().await);
    // Two tenants, two keys, one key id.
    let publish = |stage: &Stage, key: &SigningKey| {
        let mut jwk = key.jwk();
        jwk["kid"] = "shared".into();
        stage.logto.publish(json!({ "keys": [jwk] }).to_string());
    };
    publish(&target.stage, &target.key());
    publish(&other, &other.logto.signing_key());
    let validator = Validator::builder()
        .trust(target.stage.logto.trusted(SHOP))
        .trust(other.logto.trusted("https://other.api"))
        .clock(target.stage.clock.clone())
        .build()
        .unwrap();
    let (ours, theirs) = (target.stage.logto.token(), other.logto.token());
    let (ours, theirs) = (ours.kid("shared"), theirs.audience("https://other.api").kid("shared"));
    validator.validate(&ours.clone().build()).await.unwrap();
    validator.validate(&theirs.clone().build()).await.unwrap();
    type Refusal = fn(&InvalidToken) -> bool;
    let is_signature: Refusal = |reason| *reason == InvalidToken::BadSignature;
    let is_audience: Refusal = |reason| matches!(reason, InvalidToken::WrongAudience { .. });
    let their_key = other.logto.signing_key();
    let our_key = target.key();
    for (name, token, expected) in [
        ("theirs as ours", ours.clone().signed_by(&their_key), is_signature),
        ("ours as theirs", theirs.clone().signed_by(&our_key), is_signature),
        ("theirs for us", theirs.clone().audience(SHOP), is_audience),
        ("ours for them", ours.clone().audience("https://other.api"), is_audience),
        ("their iss on ours", ours.claim("iss", other.logto.issuer().as_str()), is_audience),
        (
            "their iss and audience on ours",
            theirs.signed_by(&our_key).claim("iss", other.logto.issuer().as_str()),
            is_signature,
        ),
    ] {
        println!("attack: {name}");
        let refusal = validator.validate(&token.kid("shared").build()).await.unwrap_err();
        let AuthErrorKind::InvalidToken(reason) = refusal.kind() else { panic!("{refusal:?}") };
        assert!(expected(reason), "{name}: {reason:?}");
        assert_eq!(refusal.status(), 401);
    }
    // And the target's own validator, to which the other tenant is a stranger.
    let stranger = other.logto.token().kid("shared").build();
    let forged = target.token().signed_by(&their_key).kid("shared").build();
    target.repel([("a stranger's", stranger, ISSUER)]).await;
    let refusal = target.server.get("/", &forged).await;
    assert_eq!(refusal.status(), 401);
}

#[test]
fn settings_that_would_open_the_door() {
    let issuer = Issuer::logto("https://tenant.logto.app").unwrap();
    let build = |audience: &str| {
        let trusted = TrustedIssuer::new(&issuer).audience(audience);
        Validator::builder().trust(trusted).build()
    };
    build(SHOP).unwrap();
    for audience in
        ["", " ", "urn:logto:resource:organizations", "urn:logto:organization:acme", "a b"]
    {
        assert_eq!(build(audience).unwrap_err().setting(), "audience", "{audience:?}");
    }
}
