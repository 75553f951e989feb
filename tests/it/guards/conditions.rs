//! Tests every constructor of `Require` with every condition and every kind of token.

use std::sync::LazyLock;

use proptest::prelude::*;
use tower_logto::{
    AuthError, Require, TokenKind,
    error::{AuthErrorKind, FailedCondition},
    scopes,
};

use super::{REPORTS, SHOPPING_API, Tokens, by_header, pass, refusal, request};

scopes! {
    A = "a";
    AOfAnyKind = "a" for any_kind;
    AForGlobal = "a" for Global;
    AForResource = "a" for OrganizationResource;
    AForPermissions = "a" for OrganizationPermissions;
}

/// Returns the letter for this kind of refusal, or a dot if the guard accepted the token. With
/// letters, a row of the table fits on one line.
fn letter(refusal: Option<&AuthErrorKind>) -> char {
    match refusal {
        None => '.',
        Some(AuthErrorKind::WrongKind(_)) => 'K',
        Some(AuthErrorKind::WrongOrganization { .. }) => 'O',
        Some(AuthErrorKind::InsufficientScope { .. }) => 'S',
        Some(AuthErrorKind::FailedCondition(FailedCondition::Machine)) => 'm',
        Some(AuthErrorKind::FailedCondition(FailedCondition::User)) => 'u',
        Some(AuthErrorKind::FailedCondition(FailedCondition::ClientId(_))) => 'c',
        Some(AuthErrorKind::FailedCondition(FailedCondition::Issuer(_))) => 'i',
        Some(AuthErrorKind::FailedCondition(FailedCondition::Audience(_))) => 'a',
        Some(AuthErrorKind::Forbidden(_)) => 'F',
        Some(other) => panic!("{other:?}"),
    }
}

/// The names of the tokens, which are the columns of the table.
const TOKENS: [&str; 8] = [
    "global",
    "machine",
    "no client",
    "partner",
    "resource",
    "foreign resource",
    "permissions",
    "foreign permissions",
];

#[tokio::test]
async fn each_guard_accepts_exactly_the_tokens_in_its_table_row() {
    let tokens = Tokens::issue().await;
    let global = Require::global;
    let of_token = Require::organization_of_token;
    let any = Require::any_kind;
    let partner = tokens.partner();
    let forbid = || any().check(|_| Err(AuthError::forbidden("closed")));
    for (guard, row) in [
        (global(), "....KKKK"),
        (global().scopes(["a"]), "....KKKK"),
        (global().scopes(["a", "b"]), ".SSSKKKK"),
        (global().scopes(["A"]), "SSSSKKKK"),
        (global().any_scope(["b", "x"]), ".SSSKKKK"),
        (global().scope::<A>(), "....KKKK"),
        (global().scope::<AOfAnyKind>(), "....KKKK"),
        (global().scope::<AForGlobal>(), "....KKKK"),
        (global().machine(), "m.mmKKKK"),
        (global().user(), ".uu.KKKK"),
        (global().client_ids(["billing", "cron"]), "c.ccKKKK"),
        (global().issuer(&partner), "iii.KKKK"),
        (global().audience(REPORTS), "aaa.KKKK"),
        (global().audience(SHOPPING_API), "...aKKKK"),
        (global().check(|token| token.require_scopes(["b"])), ".SSSKKKK"),
        (by_header(), "OOOO.OKO"),
        (by_header().scopes(["a"]), "OOOO.OKO"),
        (by_header().scopes(["b"]), "OOOOSOKO"),
        (by_header().scope::<A>(), "OOOO.OKO"),
        (by_header().scope::<AOfAnyKind>(), "OOOO.OKO"),
        (by_header().scope::<AForResource>(), "OOOO.OKO"),
        (by_header().organization_permissions(), "OOOOKO.O"),
        (by_header().organization_permissions().scopes(["a"]), "OOOOKO.O"),
        (by_header().organization_permissions().scopes(["c"]), "OOOOKOSO"),
        (by_header().scope::<AForPermissions>(), "OOOOKO.O"),
        (by_header().scope::<AForPermissions>().organization_permissions(), "OOOOKO.O"),
        (by_header().check(|token| token.require_scopes(["a"])), "OOOO.OKO"),
        (of_token(), "OOOO..KK"),
        (of_token().any_scope(["c"]), "OOOO.SKK"),
        (of_token().organization_permissions(), "OOOOKK.."),
        (any(), "........"),
        (any().scopes(["c"]), "SSSS.SSS"),
        (any().scope::<A>(), "........"),
        (any().scope::<AForGlobal>(), "....KKKK"),
        (any().scope::<AForResource>(), "KKKK..KK"),
        (any().scope::<AForPermissions>(), "KKKKKK.."),
        (any().organization_permissions(), "KKKKKK.."),
        (any().machine(), "m.mmmmmm"),
        (any().client_ids(["web"]), ".ccc...."),
        (forbid(), "FFFFFFFF"),
        // If every alternative refuses a token, the error comes from the first alternative that
        // accepts tokens of the same kind. If no alternative accepts tokens of this kind, the error
        // comes from the first of all alternatives.
        (global().scopes(["b"]).or(by_header().scopes(["c"])), ".SSS.OKK"),
        (by_header().scopes(["c"]).or(global().scopes(["b"])), ".SSS.OKO"),
        (global().machine().or(global().client_ids(["web"])), "..mmKKKK"),
        (global().or(by_header()).or(by_header().organization_permissions()), ".....O.O"),
        (global().scopes(["b"]).or(any().scopes(["c"])), ".SSS.SSS"),
        // Conditions that are added after the call of `or` apply to every alternative.
        (global().or(by_header()).scopes(["c"]), "SSSS.OKK"),
    ] {
        let found: String =
            TOKENS.iter().map(|name| letter(refusal(&guard, tokens.get(name)).as_ref())).collect();
        assert_eq!(found, row, "{guard:?}");
    }
}

#[tokio::test]
async fn error_contains_the_condition_and_the_found_and_expected_values() {
    let tokens = Tokens::issue().await;
    let any = Require::any_kind;
    for (guard, parts) in [
        (any().machine(), &["Require::machine"][..]),
        (
            any().client_ids(["billing", "cron"]),
            &["\"web\"", "\"billing\", \"cron\"", "client_ids"],
        ),
        (any().issuer(&tokens.partner()), &["iss is \"http", "expected \"http", "Require::issuer"]),
        (any().audience(REPORTS), &[SHOPPING_API, REPORTS, "Require::audience"]),
        (any().audience(format!("{SHOPPING_API}/")), &["mind the trailing slash"]),
        (any().any_scope(["x", "y"]), &["one of x y"]),
        (any().scopes(["x", "y"]), &["all of x y"]),
        (Require::organization_of_token(), &["organization_id"]),
    ] {
        let message = pass(&guard, request(tokens.get("global"))).unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "{part:?} is missing in {message:?}");
        }
    }
    let other = Require::organization_by(|_| None);
    let unnamed = pass(&other, request(tokens.get("resource"))).unwrap_err().to_string();
    assert!(unnamed.contains("is for the organization"), "{unnamed}");
    assert!(unnamed.contains("the request specifies none: send the organization"), "{unnamed}");
    let user = pass(&any().user(), request(tokens.get("machine"))).unwrap_err();
    assert!(user.to_string().contains("Require::user"), "{user}");
    for (name, advice) in [
        ("resource", "Require::organization_"),
        ("permissions", "`.organization_permissions()`"),
        ("global", "organization_id"),
    ] {
        let token = tokens.get(name);
        let only = |kind| match kind {
            TokenKind::Global => any().scope::<AForResource>(),
            _ => Require::global(),
        };
        let error = pass(&only(token.kind()), request(token)).unwrap_err();
        assert_eq!(error.kind(), &AuthErrorKind::WrongKind(token.kind()));
        assert!(error.to_string().contains(advice), "{error}");
    }
}

#[tokio::test]
async fn a_custom_check_gets_the_token_after_the_organization_check() {
    let tokens = Tokens::issue().await;
    let guard = Require::organization_of_token().check(|token| {
        token.require_scopes(["c"])?;
        match token.organization_id() {
            Some("acme") => Ok(()),
            other => Err(AuthError::forbidden(format!("{other:?} is not a customer"))),
        }
    });
    assert_eq!(refusal(&guard, tokens.get("resource")), None);
    let foreign = refusal(&guard, tokens.get("foreign resource"));
    assert!(matches!(foreign, Some(AuthErrorKind::InsufficientScope { .. })), "{foreign:?}");
}

type Condition = fn(Require) -> Require;

/// Conditions of different kinds. Each condition refuses at least one of the tokens.
const CONDITIONS: [Condition; 8] = [
    |guard| guard.scopes(["a", "b"]),
    |guard| guard.machine(),
    |guard| guard.client_ids(["web"]),
    |guard| guard.issuer(&TOKENS_OF_ALL_KINDS.partner()),
    |guard| guard.audience(SHOPPING_API),
    |guard| guard.organization_permissions(),
    |guard| guard.check(|_| Err(AuthError::forbidden("closed"))),
    |guard| guard.scope::<AForPermissions>(),
];

static TOKENS_OF_ALL_KINDS: LazyLock<Tokens> = LazyLock::new(|| {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(Tokens::issue())
});

proptest! {
    #[test]
    fn the_order_of_conditions_does_not_change_the_outcome(
        (chosen, shuffled) in proptest::sample::subsequence((0..CONDITIONS.len()).collect::<Vec<_>>(), 0..=6)
            .prop_flat_map(|chosen| (Just(chosen.clone()), Just(chosen).prop_shuffle())),
        model in 0..3_usize,
    ) {
        let guard = |order: &[usize]| {
            let model = [by_header, Require::organization_of_token, Require::any_kind][model]();
            order.iter().fold(model, |guard, condition| CONDITIONS[*condition](guard))
        };
        // Compares only the kinds of the refusals. If a token fails two conditions on scopes, the
        // scopes in the refusal depend on the order of the conditions.
        let outcome = |guard: &Require, name| {
            letter(refusal(guard, TOKENS_OF_ALL_KINDS.get(name)).as_ref())
        };
        let (one, other) = (guard(&chosen), guard(&shuffled));
        for name in TOKENS {
            prop_assert_eq!(outcome(&one, name), outcome(&other, name), "{:?} {:?}", one, other);
        }
    }
}
