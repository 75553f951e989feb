//! Table-driven tests and property tests for the validation of claims.

use proptest::prelude::*;

use super::*;
use crate::{
    access_token::{AccessToken, VerifiedToken},
    jwks::{key_set::KeySet, key_store::KeyStore},
    validator::revocation::IssuerRevocations,
};

const NOW: Duration = Duration::from_secs(1_000_000);

fn rules(organizations: bool) -> ClaimRules {
    ClaimRules {
        issuer: "https://t/oidc".into(),
        audiences: Arc::from(["https://shopping.api".into(), "https://other.api".into()]),
        organizations,
        organization_tokens_only: false,
        algorithms: Algorithm::LOGTO.into(),
        clock_tolerance: Duration::from_secs(30),
    }
}

fn validated(json: &str, organizations: bool) -> Result<TokenClaims, InvalidToken> {
    let payload = Payload::parse(json)?;
    let claims = validate(&payload, &rules(organizations), NOW)?;
    Ok(claims.to_token_claims(json))
}

/// Returns the `AccessToken` that a handler would receive. An `AccessToken` contains the key that
/// verified its signature. These tests verify no signature, so any key is suitable. The function
/// uses the example key of RFC 7515, appendix A.3.
fn token(claims: TokenClaims) -> AccessToken {
    let jwks = r#"{"keys":[{
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
    }]}"#;
    let keys = KeySet::from_json(jwks.as_bytes(), &[Algorithm::ES256]).unwrap();
    let key = Arc::clone(keys.select(None, Algorithm::ES256).unwrap().unwrap());
    let (challenge, keys) = (Arc::default(), Arc::new(KeyStore::Static(keys)));
    let revocable = IssuerRevocations::default().revocable(&claims);
    AccessToken::new(VerifiedToken { claims, challenge, key, keys, revocable })
}

/// Applies these changes to a valid payload, and returns the result. If the new value of a member
/// is `None`, the member is removed.
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
fn claims_are_validated_as_rfc_9068_section_4_requires() {
    use InvalidToken::{DuplicateMember, MalformedClaim, MissingClaim, SenderConstrained};
    validated(&payload(&[]), false).unwrap();
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
        assert_eq!(validated(&payload(changes), false).unwrap_err(), reason, "{changes:?}");
    }
    let many = (0..70).map(|n| format!("\"m{n}\":1")).collect::<Vec<_>>().join(",");
    assert_eq!(validated(&format!("{{{many}}}"), false).unwrap_err(), DuplicateMember);
    assert!(validated("[\"https://t/oidc\"]", false).is_err());
}

#[test]
fn exp_and_nbf_have_a_tolerance_and_rounding_shortens_the_lifetime() {
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
        let outcome = validated(&payload(&[(claim, Some(value))]), false);
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
            let kind = validated(&payload(&changes), organizations).map(|claims| claims.kind);
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
    let token = token(validated(&json, false).unwrap());
    assert_eq!(token.subject(), "alice");
    assert_eq!(token.client_id(), Some("app"));
    assert_eq!(token.audiences().collect::<Vec<_>>(), ["https://shopping.api", "https://x"]);
    assert!(token.scopes().contains("b"));
    assert_eq!(token.claims::<serde_json::Value>().unwrap()["sub"], "alice");
}

proptest! {
    #[test]
    fn arbitrary_payloads_do_not_panic(json in ".*") {
        let _ = validated(&json, true);
    }

    #[test]
    fn claims_of_arbitrary_types_do_not_panic(
        name in "iss|sub|aud|exp|nbf|iat|jti|scope|client_id|organization_id|cnf",
        value in "-?[0-9]{1,30}(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,4})?|\"\\PC*\"|\\[[0-9,]*\\]|null",
    ) {
        let _ = validated(&payload(&[(&name, Some(&value))]), true);
    }

    #[test]
    fn claims_are_kept_as_they_were_sent(sub in "\\PC{1,20}", scope in "[a-z:\\\\\"é ]{0,20}") {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let json = payload(&[("sub", Some(&quoted(&sub))), ("scope", Some(&quoted(&scope)))]);
        let token = token(validated(&json, false).unwrap());
        prop_assert_eq!(token.subject(), sub);
        prop_assert_eq!(token.scopes().as_str(), scope);
    }
}
