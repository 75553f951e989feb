//! Claims by table, and by property.

use proptest::prelude::*;

use super::*;
use crate::{access_token::{AccessToken, Verified}, jwks::key_set::{KeySet, Selection}};

const NOW: Duration = Duration::from_secs(1_000_000);

fn rules(organizations: bool) -> Rules {
    Rules {
        issuer: "https://t/oidc".into(),
        audiences: Arc::from(["https://shopping.api".into(), "https://other.api".into()]),
        organizations,
        algorithms: Algorithm::LOGTO.into(),
        clock_tolerance: Duration::from_secs(30),
    }
}

fn judged(json: &str, organizations: bool) -> Result<ValidClaims, InvalidToken> {
    let payload = Payload::parse(json)?;
    judge(&payload, &rules(organizations), NOW).map(|judged| judged.keep(json))
}

/// What a handler would hold; the key of RFC 7515, appendix A.3, signed nothing of it.
fn token(claims: ValidClaims) -> AccessToken {
    let jwks = r#"{"keys":[{
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
    }]}"#;
    let keys = KeySet::from_json(jwks.as_bytes(), &[Algorithm::ES256]).unwrap();
    let Selection::Key(key) = keys.select(None, Algorithm::ES256) else { unreachable!() };
    let (challenge, key) = (Arc::default(), Arc::clone(key));
    AccessToken::new(Verified { claims, challenge, key, issuer: 0 })
}

/// A good payload with some members in place of the usual ones; `null` in Rust's sense leaves
/// one out.
fn payload(changes: &[(&str, Option<&str>)]) -> String {
    let mut members = vec![
        ("iss", "\"https://t/oidc\""),
        ("sub", "\"alice\""),
        ("aud", "\"https://shopping.api\""),
        ("exp", "1000100"),
    ];
    for (name, value) in changes {
        members.retain(|(member, _)| member != name);
        members.extend(value.map(|value| (*name, value)));
    }
    let members = members.iter().map(|(name, value)| format!("\"{name}\":{value}"));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}
#[test]
fn claims_are_judged_by_rfc_9068_section_4() {
    use InvalidToken::{MalformedClaim, DuplicateMember, MissingClaim, SenderConstrained};
    judged(&payload(&[]), false).unwrap();
    for (changes, reason) in [
        (&[("iss", Some("7"))][..], MalformedClaim("iss")),
        (&[("iss", Some("[\"https://t/oidc\"]"))], MalformedClaim("iss")),
        (&[("sub", None)], MissingClaim("sub")),
        (&[("sub", Some("\"\""))], MissingClaim("sub")),
        (&[("sub", Some("null"))], MalformedClaim("sub")),
        (&[("aud", None)], MissingClaim("aud")),
        (&[("aud", Some("null"))], MalformedClaim("aud")),
        (&[("aud", Some("[1]"))], MalformedClaim("aud")),
        (&[("aud", Some("[[\"https://shopping.api\"]]"))], MalformedClaim("aud")),
        (&[("aud", Some("{\"x\":\"https://shopping.api\"}"))], MalformedClaim("aud")),
        (&[("scope", Some("[\"a\"]"))], MalformedClaim("scope")),
        (&[("scope", Some("null"))], MalformedClaim("scope")),
        (&[("client_id", Some("1"))], MalformedClaim("client_id")),
        (&[("organization_id", Some("null"))], MalformedClaim("organization_id")),
        (&[("organization_id", Some("\"\""))], MalformedClaim("organization_id")),
        (&[("exp", None)], MissingClaim("exp")),
        (&[("exp", Some("\"1000100\""))], MalformedClaim("exp")),
        (&[("exp", Some("null"))], MalformedClaim("exp")),
        (&[("exp", Some("true"))], MalformedClaim("exp")),
        (&[("exp", Some("-1"))], MalformedClaim("exp")),
        (&[("exp", Some("1e300"))], MalformedClaim("exp")),
        (&[("exp", Some("1e400"))], MalformedClaim("exp")),
        (&[("exp", Some("NaN"))], MalformedClaim("exp")),
        (&[("exp", Some("253402300800"))], MalformedClaim("exp")),
        (&[("nbf", Some("-1"))], MalformedClaim("nbf")),
        (&[("iat", Some("1e300"))], MalformedClaim("iat")),
        (&[("cnf", Some("{}"))], SenderConstrained),
        (&[("cnf", Some("null"))], SenderConstrained),
        (&[("x\":1,\"x", Some("2"))], DuplicateMember),
    ] {
        assert_eq!(judged(&payload(changes), false).unwrap_err(), reason, "{changes:?}");
    }
    let many = (0..70).map(|n| format!("\"m{n}\":1")).collect::<Vec<_>>().join(",");
    assert_eq!(judged(&format!("{{{many}}}"), false).unwrap_err(), DuplicateMember);
    assert!(judged("[\"https://t/oidc\"]", false).is_err());
}

#[test]
fn exp_and_nbf_have_a_tolerance_and_count_fractions_against_the_token() {
    for (claim, value, good) in [
        ("exp", "1000000", true),
        ("exp", "999971", true),
        ("exp", "999970", false),
        ("exp", "999970.9", false),
        ("exp", "999971.9", true),
        ("exp", "1000100.5", true),
        ("exp", "1.0001e6", true),
        ("exp", "0", false),
        ("nbf", "1", true),
        ("nbf", "1000030", true),
        ("nbf", "1000030.1", false),
        ("nbf", "1000031", false),
        ("iat", "9999999", true),
        ("iat", "5.5", true),
    ] {
        let outcome = judged(&payload(&[(claim, Some(value))]), false);
        assert_eq!(outcome.is_ok(), good, "{claim} = {value}: {outcome:?}");
    }
}

#[test]
fn the_audience_decides_the_kind() {
    use TokenKind::{Global, OrganizationPermissions, OrganizationResource};
    let ours = "https://shopping.api";
    let refused = Err(());
    for (aud, claim, with_organizations, without) in [
        (&[ours][..], None, Ok(Global), Ok(Global)),
        (&[ours], Some("acme"), Ok(OrganizationResource), Ok(OrganizationResource)),
        (&["https://x", ours], None, Ok(Global), Ok(Global)),
        (&[ours, "https://other.api"], None, Ok(Global), Ok(Global)),
        (&["urn:logto:organization:acme"], None, Ok(OrganizationPermissions), refused),
        (&["urn:logto:organization:acme"], Some("acme"), Ok(OrganizationPermissions), refused),
        (&["urn:logto:organization:acme"], Some("evil"), refused, refused),
        (&["urn:logto:organization:"], None, refused, refused),
        (&["urn:logto:organization:a", "urn:logto:organization:b"], None, refused, refused),
        (&["urn:logto:organization:a", "https://x"], None, refused, refused),
        (&["https://x", "urn:logto:organization:a"], None, refused, refused),
        (&[ours, "urn:logto:organization:a"], None, refused, refused),
        (&["urn:logto:organization:a", ours], Some("a"), refused, refused),
        (&[ours, "urn:logto:organization:"], None, refused, refused),
        (&["urn:logto:resource:organizations"], None, refused, refused),
        (&[ours, "urn:logto:resource:organizations"], None, refused, refused),
        (&["https://shopping.api/"], None, refused, refused),
        (&["https://shopping.ap"], None, refused, refused),
        (&["https://shopping.api.evil"], None, refused, refused),
        (&["HTTPS://SHOPPING.API"], None, refused, refused),
        (&[""], None, refused, refused),
        (&[], None, refused, refused),
    ] {
        for (organizations, expected) in [(true, with_organizations), (false, without)] {
            let array = serde_json::to_string(aud).unwrap();
            let claim = claim.map(|claim| format!("\"{claim}\""));
            let mut changes = vec![("aud", Some(array.as_str()))];
            changes.extend(claim.as_deref().map(|claim| ("organization_id", Some(claim))));
            let kind = judged(&payload(&changes), organizations).map(|claims| claims.kind);
            assert_eq!(kind.map_err(drop), expected, "{aud:?}, {claim:?}, {organizations}");
        }
    }
}

#[test]
fn escaped_claims_are_kept_unescaped() {
    let json = payload(&[
        ("sub", Some("\"\\u0061li\\u0063e\"")),
        ("aud", Some("[\"https:\\/\\/shopping.api\",\"https://x\"]")),
        ("client_id", Some("\"app\"")),
        ("scope", Some("\"a \\u0062\"")),
    ]);
    let token = token(judged(&json, false).unwrap());
    assert_eq!(token.subject(), "alice");
    assert_eq!(token.client_id(), Some("app"));
    assert_eq!(token.audiences().collect::<Vec<_>>(), ["https://shopping.api", "https://x"]);
    assert!(token.scopes().contains("b"));
    assert_eq!(token.claims::<serde_json::Value>().unwrap()["sub"], "alice");
}

proptest! {
    #[test]
    fn no_payload_panics(json in ".*") {
        let _ = judged(&json, true);
    }

    #[test]
    fn no_claim_of_any_type_panics(
        name in "iss|sub|aud|exp|nbf|iat|jti|scope|client_id|organization_id|cnf",
        value in "-?[0-9]{1,30}(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,4})?|\"\\PC*\"|\\[[0-9,]*\\]|null",
    ) {
        let _ = judged(&payload(&[(&name, Some(&value))]), true);
    }

    #[test]
    fn what_is_kept_is_what_was_said(sub in "\\PC{1,20}", scope in "[a-z:\\\\\"é ]{0,20}") {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let json = payload(&[("sub", Some(&quoted(&sub))), ("scope", Some(&quoted(&scope)))]);
        let token = token(judged(&json, false).unwrap());
        prop_assert_eq!(token.subject(), sub);
        prop_assert_eq!(token.scopes().as_str(), scope);
    }
}
