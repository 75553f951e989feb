//! Tests with tokens and keys that were captured from a real Logto server. The manifest contains
//! the expected outcome of each token.

use serde::Deserialize;
use tower_logto::{
    AccessToken, AuthError, Issuer, TokenKind, TrustedIssuer, Validator, testing::ManualClock,
};

use crate::support::{NOW, Outcome, SHOPPING_API, fixtures};

#[derive(Deserialize)]
pub(crate) struct Manifest {
    issuer: String,
    audience: String,
    pub(crate) tokens: Vec<Captured>,
}

#[derive(Deserialize)]
pub(crate) struct Captured {
    pub(crate) file: String,
    header: Option<serde_json::Value>,
    claims: Option<serde_json::Value>,
    verdict: String,
}

impl Captured {
    pub(crate) fn token(&self) -> String {
        fixtures::read(&format!("logto-captures/{}", self.file)).trim().to_owned()
    }

    /// Returns a time between the `iat` and the `exp` of the token, in Unix seconds.
    pub(crate) fn valid_at(&self) -> u64 {
        self.claims.as_ref().map_or(NOW, |claims| claims["iat"].as_u64().unwrap() + 10)
    }
}

pub(crate) fn manifest() -> Manifest {
    serde_json::from_str(&fixtures::read("logto-captures/manifest.json")).unwrap()
}

pub(crate) fn trusted(manifest: &Manifest) -> TrustedIssuer {
    TrustedIssuer::new(&Issuer::new(&manifest.issuer).unwrap())
        .audience(&manifest.audience)
        .static_jwks(fixtures::captured_jwks("all"))
}

fn validate(trusted: TrustedIssuer, unix_time: u64, token: &str) -> Result<AccessToken, AuthError> {
    let clock = ManualClock::at(unix_time);
    let validator = Validator::builder().trust(trusted).clock(clock).build().unwrap();
    let first = validator.try_validate(token).expect("the keys are static");
    let second = validator.try_validate(token).expect("the keys are static");
    assert_eq!(first.is_ok(), second.is_ok(), "the cache changed the outcome");
    second
}

#[test]
fn captured_token_has_the_outcome_in_the_manifest() {
    let manifest = manifest();
    let (mut es384, mut rs256) = (0, 0);
    for captured in &manifest.tokens {
        let file = &captured.file;
        let outcome = validate(trusted(&manifest), captured.valid_at(), &captured.token());
        let expected = match captured.verdict.as_str() {
            "accept" => Outcome::Accepted,
            "wrong audience" => Outcome::WrongAudience,
            "unknown issuer" => Outcome::UntrustedIssuer,
            "not an access token" => Outcome::WrongType,
            "not a JWT" => Outcome::NotAJwt,
            other => panic!("{file}: {other}"),
        };
        assert_eq!(Outcome::of(&outcome), expected, "{file}");
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
        assert_eq!(token.audiences().collect::<Vec<_>>(), [SHOPPING_API], "{file}");
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
fn captured_organization_token_is_accepted_if_organizations_are_enabled() {
    let manifest = manifest();
    let mut accepted = Vec::new();
    for captured in &manifest.tokens {
        let trusted = trusted(&manifest).organizations();
        if let Ok(token) = validate(trusted, captured.valid_at(), &captured.token())
            && token.kind() == TokenKind::OrganizationPermissions
        {
            assert_eq!(token.organization_id(), Some("psx3zwj0stjw"));
            accepted.push(captured.file.as_str());
        }
    }
    // `reserved-organizations-resource.jwt` must not be accepted, because any machine-to-machine
    // application can get such a token.
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
fn expired_captured_token_is_refused_with_a_hint_about_the_clock() {
    let manifest = manifest();
    let captured = &manifest.tokens[0];
    let exp = captured.claims.as_ref().unwrap()["exp"].as_u64().unwrap();
    for (unix_time, is_valid) in
        [(exp, true), (exp + 29, true), (exp + 30, false), (exp + 9999, false)]
    {
        let outcome = validate(trusted(&manifest), unix_time, &captured.token());
        assert_eq!(outcome.is_ok(), is_valid, "{} s after exp", unix_time - exp);
        if let Err(error) = outcome {
            assert!(error.to_string().contains("clock"), "{error}");
        }
    }
}
