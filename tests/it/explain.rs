//! Tests of `Validator::explain`. The explanation must reach the same verdict as `validate`, and
//! its text must help the operator.

use proptest::prelude::*;
use tower_logto::{
    Issuer, Validator,
    explain::{Outcome, Verdict},
    testing::{ManualClock, TestIssuer, TokenBuilder},
};

use crate::{
    captured_tokens::{manifest, trusted},
    support::{HOUR, Harness, SHOPPING_API, fixtures, new_runtime, snapshot},
};

/// The advice of the first failed check must equal the error message of `try_validate`.
#[tokio::test]
async fn captured_tokens_are_explained_as_in_the_snapshot() {
    let manifest = manifest();
    let mut text = String::new();
    for captured in &manifest.tokens {
        let clock = ManualClock::at(captured.valid_at());
        let validator =
            Validator::builder().trust(trusted(&manifest)).clock(clock).build().unwrap();
        let token = captured.token();
        let explanation = validator.explain(&token).await;
        let outcome = validator.try_validate(&token).unwrap();
        assert_eq!(explanation.verdict() == Verdict::Accepted, outcome.is_ok(), "{explanation}");
        if let Err(error) = outcome {
            let first = explanation.checks().find(|check| check.outcome == Outcome::Failed);
            assert_eq!(first.unwrap().advice.as_deref(), Some(&*error.to_string()));
        }
        let explanation = explanation.require_scopes(["read:products"]);
        assert!(!explanation.to_string().contains(&token), "{explanation}");
        text.push_str(&format!("# {}\n{explanation}\n", captured.file));
    }
    snapshot::assert("explain-captured.txt", &text);
}

#[tokio::test]
async fn one_token_per_failing_check_is_explained_as_in_the_snapshot() {
    let clock = ManualClock::default();
    let issuer = Issuer::logto("https://tenant.logto.app").unwrap();
    let builder = TestIssuer::builder().clock(clock.clone()).issuer(&issuer);
    let logto = builder.start().await.unwrap();
    let trusted = logto.trusted(SHOPPING_API).organizations();
    let validator = Validator::builder().trust(trusted).clock(clock).build().unwrap();
    let token = || logto.token().audience(SHOPPING_API).claim("jti", "1").claim("client_id", "app");
    let scoped = |token: TokenBuilder| token.scopes(["read:products"]);
    let cases: Vec<(&str, String)> = vec![
        ("accepted", scoped(token()).build()),
        ("opaque", "qwq400v2qajyvqwo0uuq9".into()),
        ("with the scheme", format!("Bearer {}", token().build())),
        ("ID token", logto.id_token().build()),
        ("audience with a slash", scoped(token().audience("https://shopping.api/")).build()),
        ("other audience", scoped(token().audience("https://x")).build()),
        ("other tenant", scoped(token().claim("iss", "https://other.logto.app/oidc")).build()),
        ("organization token", scoped(token().organization_resource("acme")).build()),
        ("expired", scoped(token().lifetime(HOUR).expired()).build()),
        ("not yet valid", scoped(token().claim("nbf", crate::support::NOW + 300)).build()),
        ("issued in the future", scoped(token().claim("iat", crate::support::NOW + 300)).build()),
        ("unknown key", scoped(token().kid("rotated-away")).build()),
        ("bad signature", scoped(token().bad_signature()).build()),
        ("no scope", token().build()),
        ("app without a role", token().subject("app").build()),
        ("bound to a key", scoped(token().claim("cnf", "x")).build()),
        ("no subject", scoped(token().without_claim("sub")).build()),
    ];
    let mut text = String::new();
    for (name, token) in cases {
        let explanation = validator.explain(&token).await.require_scopes(["read:products"]);
        text.push_str(&format!("# {name}\n{explanation}\n"));
    }
    let text = text.replace(&logto.current_kid(), "current-kid");
    snapshot::assert("explain-checks.txt", &text);
}

#[tokio::test]
async fn verdict_is_undecided_while_keys_are_unavailable() {
    let harness = Harness::start().await;
    harness.logto.go_down();
    let explanation = harness.validator().explain(&harness.token().build()).await;
    assert_eq!(explanation.verdict(), Verdict::Undecided);
    let refused = harness.validator().explain(&harness.token().audience("https://x").build()).await;
    assert_eq!(refused.verdict(), Verdict::Refused, "another check failed");
}

#[tokio::test]
async fn organization_check_of_a_route_is_explained() {
    let harness = Harness::start().await;
    let validator = harness.validator();
    let acme = harness.token().organization_resource("acme").scopes(["read:members"]).build();
    for (organization, verdict) in [("acme", Verdict::Accepted), ("other", Verdict::Refused)] {
        let explanation = validator.explain(&acme).await;
        let explanation = explanation.require_organization(organization);
        assert_eq!(explanation.require_scopes(["read:members"]).verdict(), verdict);
    }
    let on_global_route = validator.explain(&acme).await.require_scopes(["read:members"]);
    assert_eq!(on_global_route.verdict(), Verdict::Refused);
    assert!(on_global_route.to_string().contains("Require::organization_"), "{on_global_route}");
}

proptest! {
    /// Replaces one byte of a captured token, and compares the verdict of `explain` with the
    /// outcome of `try_validate`.
    #[test]
    fn verdict_of_explain_equals_verdict_of_validate(position in 0_usize..700, byte in 33_u8..127) {
        let token = fixtures::captured_token("api-read-write");
        let mut bytes = token.into_bytes();
        let position = position % bytes.len();
        bytes[position] = byte;
        let token = String::from_utf8(bytes).unwrap();
        let manifest = manifest();
        let clock = ManualClock::at(manifest.tokens[0].valid_at());
        let validator = Validator::builder().trust(trusted(&manifest)).clock(clock).build().unwrap();
        let explanation = new_runtime().block_on(validator.explain(&token));
        let outcome = validator.try_validate(&token).unwrap();
        prop_assert_eq!(explanation.verdict() == Verdict::Accepted, outcome.is_ok());
    }
}
