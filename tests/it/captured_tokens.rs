//! Tokens and key sets of a real Logto, with the verdict a validator owes to each.

use serde::Deserialize;
use tower_logto::{
    AccessToken, AuthError, Issuer, TokenKind, TrustedIssuer, Validator,
    error::{AuthErrorKind, InvalidToken},
    testing::ManualClock,
};

use crate::support::fixture;

#[derive(Deserialize)]
struct Manifest {
    issuer: String,
    audience: String,
    tokens: Vec<Captured>,
}

#[derive(Deserialize)]
struct Captured {
    file: String,
    header: Option<serde_json::Value>,
    claims: Option<serde_json::Value>,
    verdict: String,
}

impl Captured {
    fn token(&self) -> String {
        fixture(&format!("logto-captures/{}", self.file)).trim().to_owned()
    }

    /// A moment between `iat` and `exp`.
    fn moment(&self) -> u64 {
        self.claims.as_ref().map_or(1_795_342_800, |claims| claims["iat"].as_u64().unwrap() + 10)
    }
}

fn manifest() -> Manifest {
    serde_json::from_str(&fixture("logto-captures/manifest.json")).unwrap()
}

fn trusted(manifest: &Manifest) -> TrustedIssuer {
    TrustedIssuer::new(&Issuer::new(&manifest.issuer).unwrap())
        .audience(&manifest.audience)
        .static_jwks(fixture("logto-captures/jwks/all.json"))
}

fn validate(trusted: TrustedIssuer, at: u64, token: &str) -> Result<AccessToken, AuthError> {
    let clock = ManualClock::at(at);
    let validator = Validator::builder().trust(trusted).clock(clock).build().unwrap();
    let first = validator.try_validate(token).expect("the keys are static");
    let second = validator.try_validate(token).expect("the keys are static");
    assert_eq!(first.is_ok(), second.is_ok(), "the cache changed the verdict");
    second
}

#[test]
fn every_captured_token_gets_its_verdict() {
    let manifest = manifest();
    let (mut es384, mut rs256) = (0, 0);
    for captured in &manifest.tokens {
        let file = &captured.file;
        let outcome = validate(trusted(&manifest), captured.moment(), &captured.token());
        let reason = match &outcome {
            Ok(_) => None,
            Err(error) => match error.kind() {
                AuthErrorKind::InvalidToken(reason) => Some(reason),
                other => panic!("{file}: {other:?}"),
            },
        };
        match (captured.verdict.as_str(), reason) {
            ("accept", None)
            | ("wrong audience", Some(InvalidToken::WrongAudience { .. }))
            | ("unknown issuer", Some(InvalidToken::UntrustedIssuer { .. }))
            | ("not an access token", Some(InvalidToken::WrongType(_)))
            | ("not a JWT", Some(InvalidToken::NotAJwt)) => {}
            (verdict, reason) => panic!("{file}: {verdict} is owed, found {reason:?}"),
        }
        let Ok(token) = outcome else { continue };
        let claims = captured.claims.as_ref().unwrap();
        let text = |name: &str| claims[name].as_str();
        assert_eq!(Some(token.issuer()), text("iss"), "{file}");
        assert_eq!(Some(token.subject()), text("sub"), "{file}");
        assert_eq!(token.client_id(), text("client_id"), "{file}");
        assert_eq!(token.organization_id(), text("organization_id"), "{file}");
        assert_eq!(token.jwt_id(), text("jti"), "{file}");
        assert_eq!(token.scopes().as_str(), text("scope").unwrap_or_default(), "{file}");
        assert_eq!(token.is_machine(), text("sub") == text("client_id"), "{file}");
        assert_eq!(token.actor().as_deref(), claims["act"]["sub"].as_str(), "{file}");
        assert_eq!(token.audiences().collect::<Vec<_>>(), ["https://shopping.api"], "{file}");
        assert_eq!(&token.claims::<serde_json::Value>().unwrap(), claims, "{file}");
        match captured.header.as_ref().unwrap()["alg"].as_str() {
            Some("ES384") => es384 += 1,
            Some("RS256") => rs256 += 1,
            other => panic!("{file}: {other:?}"),
        }
    }
    assert!(es384 >= 10 && rs256 >= 3, "{es384} ES384 and {rs256} RS256 tokens accepted");
}

#[test]
fn organization_permission_tokens_are_accepted_where_they_are_asked_for() {
    let manifest = manifest();
    let mut accepted = Vec::new();
    for captured in &manifest.tokens {
        let trusted = trusted(&manifest).organizations();
        if let Ok(token) = validate(trusted, captured.moment(), &captured.token())
            && token.kind() == TokenKind::OrganizationPermissions
        {
            assert_eq!(token.organization_id(), Some("psx3zwj0stjw"));
            accepted.push(captured.file.as_str());
        }
    }
    // Never `reserved-organizations-resource.jwt`, which any app can get.
    assert_eq!(
        accepted,
        [
            "tokens/org.jwt",
            "tokens/org-empty-scope.jwt",
            "tokens/user-org.jwt",
            "tokens/rs256-org.jwt"
        ]
    );
}

#[test]
fn an_expired_capture_is_refused_with_the_advice_to_look_at_the_clock() {
    let manifest = manifest();
    let captured = &manifest.tokens[0];
    let exp = captured.claims.as_ref().unwrap()["exp"].as_u64().unwrap();
    for (moment, good) in [(exp, true), (exp + 29, true), (exp + 30, false), (exp + 9999, false)] {
        let outcome = validate(trusted(&manifest), moment, &captured.token());
        assert_eq!(outcome.is_ok(), good, "{} s after exp", moment - exp);
        if let Err(error) = outcome {
            assert!(error.to_string().contains("clock"), "{error}");
        }
    }
}
