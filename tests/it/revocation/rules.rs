//! Checks which tokens each revocation rule refuses. The validator has a token cache.

use std::time::{Duration, SystemTime};

use tower_logto::{
    AccessToken, AuthError, Issuer, TrustedIssuer, Validator,
    error::{AuthErrorKind, InvalidToken},
    revocation::{Revocations, Rule},
    testing::{ManualClock, TestIssuer, TokenBuilder},
};

use crate::support::{HOUR, Harness, LogCapture, MINUTE, NOW, SECOND, SHOPPING_API};

struct Setup {
    harness: Harness,
    revocations: Revocations,
    validator: Validator,
}

impl Setup {
    async fn start() -> Self {
        let harness = Harness::start().await;
        let revocations = Revocations::builder([&harness.logto.issuer()])
            .clock(harness.clock.clone())
            .build()
            .unwrap();
        let validator = harness.builder().revocations(&revocations).build().unwrap();
        validator.warm_up().await.unwrap();
        Self { harness, revocations, validator }
    }

    fn token(&self) -> TokenBuilder {
        self.harness.token().subject("alice").client_id("shop").lifetime(HOUR)
    }

    fn outcome(&self, token: &str) -> &'static str {
        outcome(&self.validator.try_validate(token).unwrap())
    }

    async fn store(&self, rule: Rule) {
        self.revocations.store([rule]).await.unwrap();
    }
}

fn outcome(outcome: &Result<AccessToken, AuthError>) -> &'static str {
    outcome.as_ref().map_or_else(AuthError::reason, |_| "accepted")
}

fn at(unix_time: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(unix_time)
}

type Make = fn(SystemTime) -> Rule;
type Form = fn(TokenBuilder) -> TokenBuilder;

#[tokio::test]
async fn a_cut_off_refuses_the_tokens_of_its_target() {
    let plain: Form = |token| token;
    let organization: Form = |token| token.organization_resource("acme");
    let with_id: Form = |token| token.claim("jti", "one");
    let table: [(Make, Form, &str); 14] = [
        (|at| Rule::revoke_subject("alice", at), plain, "revoked"),
        (|at| Rule::revoke_subject("bob", at), plain, "accepted"),
        (|at| Rule::revoke_client("shop", at), plain, "revoked"),
        (|at| Rule::revoke_client("alice", at), plain, "accepted"),
        (|at| Rule::revoke_organization("acme", at), organization, "revoked"),
        (|at| Rule::revoke_organization("acme", at), plain, "accepted"),
        (|at| Rule::revoke_organization("other", at), organization, "accepted"),
        (|at| Rule::revoke_member("acme", "alice", at), organization, "revoked"),
        (|at| Rule::revoke_member("acme", "alice", at), plain, "accepted"),
        (|at| Rule::revoke_member("acme", "bob", at), organization, "accepted"),
        (|at| Rule::revoke_member("acm", "ealice", at), organization, "accepted"),
        (|at| Rule::revoke_token("one", at), with_id, "revoked"),
        (|at| Rule::revoke_token("two", at), with_id, "accepted"),
        (Rule::revoke_everyone, plain, "revoked"),
    ];
    for (make, form, expected) in table {
        let setup = Setup::start().await;
        let rule = make(at(NOW));
        let cached = form(setup.token()).build();
        assert_eq!(setup.outcome(&cached), "accepted", "before {rule:?}");
        setup.store(rule.clone()).await;
        assert_eq!(setup.outcome(&cached), expected, "cached, {rule:?}");
        assert_eq!(setup.outcome(&cached), expected, "cached, again, {rule:?}");
        assert_eq!(setup.outcome(&form(setup.token()).build()), expected, "new, {rule:?}");
    }
}

#[tokio::test]
async fn revoking_an_organization_revokes_its_organization_permission_tokens() {
    let setup = Setup::start().await;
    let trusted = setup.harness.logto.trusted(SHOPPING_API).organizations();
    let builder = Validator::builder().trust(trusted).clock(setup.harness.clock.clone());
    let validator = builder.revocations(&setup.revocations).build().unwrap();
    validator.warm_up().await.unwrap();
    let token = setup.token().organization_permissions("acme").build();
    assert_eq!(outcome(&validator.try_validate(&token).unwrap()), "accepted");
    setup.store(Rule::revoke_organization("acme", at(NOW))).await;
    assert_eq!(outcome(&validator.try_validate(&token).unwrap()), "revoked");
}

#[tokio::test]
async fn a_cut_off_refuses_tokens_until_a_margin_after_the_change() {
    let setup = Setup::start().await;
    let token = |iat: u64| setup.token().claim("iat", iat).build();
    let changed = at(NOW) + Duration::from_millis(999);
    setup.store(Rule::revoke_subject("alice", changed)).await;
    for (iat, expected) in [(NOW - 1, "revoked"), (NOW + 2, "revoked"), (NOW + 3, "accepted")] {
        assert_eq!(setup.outcome(&token(iat)), expected, "iat {iat}");
    }
}

#[tokio::test]
async fn token_without_iat_is_refused_because_it_could_be_older_than_a_cut_off() {
    let setup = Setup::start().await;
    let token = setup.token().without_claim("iat").build();
    assert_eq!(setup.outcome(&token), "missing_claim");
    setup.store(Rule::block_subject("bob", at(NOW))).await;
    assert_eq!(setup.outcome(&token), "missing_claim");
}

#[tokio::test]
async fn a_block_refuses_new_tokens_until_a_later_reactivation() {
    let setup = Setup::start().await;
    let later = setup.token().claim("iat", NOW + 100);
    for (rule, expected) in [
        (Rule::block_subject("alice", at(NOW)), "revoked"),
        (Rule::reactivate_subject("alice", at(NOW - 1)), "revoked"),
        (Rule::reactivate_subject("alice", at(NOW)), "revoked"),
        (Rule::reactivate_subject("alice", at(NOW + 1)), "accepted"),
        (Rule::block_subject("alice", at(NOW)), "accepted"),
        (Rule::block_subject("alice", at(NOW + 2)), "revoked"),
        (Rule::reactivate_subject("alice", at(NOW + 3)), "accepted"),
    ] {
        setup.store(rule.clone()).await;
        assert_eq!(setup.outcome(&later.clone().build()), expected, "{rule:?}");
        assert_eq!(setup.outcome(&setup.token().build()), "revoked", "issued before, {rule:?}");
    }
    // Unlike a cut-off, a block does not expire.
    setup.store(Rule::block_subject("bob", at(NOW))).await;
    setup.harness.clock.advance(400 * 24 * HOUR);
    setup.store(Rule::revoke_subject("carol", at(NOW + 400 * 86_400))).await;
    let token = setup.token().subject("bob").build();
    setup.validator.warm_up().await.unwrap();
    assert_eq!(outcome(&setup.validator.validate(&token).await), "revoked");
}

#[tokio::test]
async fn a_deleted_subject_stays_refused_after_a_reactivation() {
    let setup = Setup::start().await;
    setup.store(Rule::delete_subject("alice", at(NOW))).await;
    setup.store(Rule::reactivate_subject("alice", at(NOW + 60))).await;
    let token = setup.token().claim("iat", NOW + 100).build();
    assert_eq!(setup.outcome(&token), "revoked");
}

#[tokio::test]
async fn order_and_repetition_of_rules_make_no_difference() {
    let rules = [
        Rule::block_subject("alice", at(NOW + 1)),
        Rule::reactivate_subject("alice", at(NOW + 2)),
        Rule::revoke_client("shop", at(NOW)),
        Rule::revoke_client("shop", at(NOW - 5)),
        Rule::block_subject("bob", at(NOW + 5)),
        Rule::reactivate_subject("bob", at(NOW + 4)),
    ];
    for start in 0..rules.len() {
        let setup = Setup::start().await;
        for n in 0..2 * rules.len() {
            setup.store(rules[(start + n * 5) % rules.len()].clone()).await;
        }
        for (subject, iat, expected) in [
            ("alice", NOW + 2, "revoked"),
            ("alice", NOW + 5, "accepted"),
            ("bob", NOW + 100, "revoked"),
            ("carol", NOW + 2, "revoked"),
            ("carol", NOW + 3, "accepted"),
        ] {
            let token = setup.token().subject(subject).claim("iat", iat).build();
            assert_eq!(setup.outcome(&token), expected, "{subject} {iat} {start}");
        }
    }
}

#[tokio::test]
async fn a_token_with_a_longer_lifetime_than_the_cut_offs_is_refused() {
    let setup = Setup::start().await;
    for (life, expected) in [(24 * HOUR, "accepted"), (24 * HOUR + SECOND, "too_long_life")] {
        assert_eq!(setup.outcome(&setup.token().lifetime(life).build()), expected);
    }
    let error = setup.validator.try_validate(&setup.token().lifetime(25 * HOUR).build());
    let error = error.unwrap().unwrap_err().to_string();
    assert!(error.contains("90000 s") && error.contains("longest_token_life"), "{error}");
}

#[tokio::test]
async fn cut_off_is_kept_until_every_token_that_it_refuses_has_expired() {
    let setup = Setup::start().await;
    setup.store(Rule::revoke_client("shop", at(NOW))).await;
    // This is the last token that the cut-off refuses. The token was issued at the end of the
    // margin, and it has the longest lifetime that the set accepts.
    let token = setup.token().claim("iat", NOW + 2).claim("exp", NOW + 2 + 86_400).build();
    // The clock tolerance is 30 s. Without the cut-off, the token would therefore be accepted until
    // 30 s after its `exp`.
    setup.harness.clock.advance(24 * HOUR + 31 * SECOND);
    setup.store(Rule::revoke_client("other", at(NOW + 86_431))).await;
    assert_eq!(outcome(&setup.validator.validate(&token).await), "revoked");
}

#[tokio::test]
async fn block_at_the_unix_epoch_is_a_block_and_nobody_can_block_everyone() {
    let setup = Setup::start().await;
    for key in [r#""block","target":"everyone""#, r#""delete","target":{"client":"shop"}"#] {
        let rule = format!(r#"{{"change":{key},"at":{NOW}000}}"#);
        setup.store(serde_json::from_str(&rule).unwrap()).await;
    }
    assert_eq!(setup.outcome(&setup.token().build()), "accepted");
    assert_eq!(setup.revocations.status().rules, 0);
    setup.store(Rule::block_subject("alice", SystemTime::UNIX_EPOCH)).await;
    assert_eq!(setup.outcome(&setup.token().build()), "revoked");
}

#[tokio::test]
async fn explanation_shows_why_the_set_refuses_a_token() {
    let setup = Setup::start().await;
    setup.store(Rule::block_subject("bob", at(NOW))).await;
    for (token, expected) in [
        (setup.token().subject("bob"), ["a rule", "no rule", "revoked"]),
        (setup.token().lifetime(25 * HOUR), ["90000 s", "86400 s", "longest_token_life"]),
        (setup.token().without_claim("iat"), ["none", "iat", "the claim iat is missing"]),
    ] {
        let explanation = setup.validator.explain(&token.build()).await.to_string();
        let line = explanation.lines().find(|line| line.contains("revocation")).unwrap();
        let contains = |part: &str| explanation.contains(part);
        assert!(line.contains("FAILED") && expected.into_iter().all(contains), "{explanation}");
    }
}

#[tokio::test]
async fn times_in_the_far_future_and_past_are_limited() {
    let setup = Setup::start().await;
    setup.store(Rule::revoke_subject("alice", at(NOW + 100_000))).await;
    let token = |iat: u64| setup.token().claim("iat", iat).build();
    assert_eq!(setup.outcome(&token(NOW + 302)), "revoked", "5 min and the margin");
    assert_eq!(setup.outcome(&token(NOW + 303)), "accepted");
    // A cut-off is kept for 24 h (`longest_token_life`) + 2 s (the margin) + 5 min (the maximum
    // clock tolerance).
    setup.store(Rule::revoke_client("shop", at(NOW - 86_703))).await;
    assert_eq!(setup.revocations.status().rules, 1);
    setup.store(Rule::revoke_client("shop", at(NOW - 86_701))).await;
    assert_eq!(setup.revocations.status().rules, 2);
}

#[tokio::test]
async fn old_cut_offs_are_dropped_and_old_blocks_are_kept() {
    let setup = Setup::start().await;
    setup.store(Rule::revoke_client("shop", at(NOW))).await;
    setup.store(Rule::block_subject("alice", at(NOW))).await;
    setup.harness.clock.advance(24 * HOUR + 6 * MINUTE);
    setup.store(Rule::revoke_client("other", at(NOW + 86_760))).await;
    let status = setup.revocations.status();
    assert_eq!((status.rules, status.blocked_subjects, status.dropped_rules), (2, 1, 0));
}

#[tokio::test]
async fn beyond_max_rules_the_oldest_cut_offs_are_dropped_and_an_error_is_logged() {
    let log = LogCapture::start();
    let issuer = Issuer::logto("https://tenant.logto.app").unwrap();
    let clock = ManualClock::at(NOW);
    let builder = Revocations::builder([&issuer]).max_rules(1_000).clock(clock);
    let revocations = builder.build().unwrap();
    let blocks = (0..100).map(|n| Rule::block_subject(format!("user-{n}"), at(NOW - 3_000)));
    revocations.store(blocks).await.unwrap();
    let client = |n: u64| Rule::revoke_client(format!("client-{n}"), at(NOW - 2_000 + n));
    revocations.store((0..900).map(client)).await.unwrap();
    assert_eq!(revocations.status().dropped_rules, 0);
    revocations.store([client(901)]).await.unwrap();
    let status = revocations.status();
    assert_eq!((status.rules, status.blocked_subjects, status.dropped_rules), (938, 100, 63));
    let rules = revocations.rules();
    assert!(!rules.contains(&client(62)) && rules.contains(&client(63)));
    assert!(log.text().contains("max_rules"), "{}", log.text());
}

#[tokio::test]
async fn rules_apply_only_to_the_issuers_of_their_set() {
    let setup = Setup::start().await;
    let other = TestIssuer::builder().clock(setup.harness.clock.clone()).start().await.unwrap();
    let builder = Validator::builder()
        .trust(setup.harness.logto.trusted(SHOPPING_API))
        .trust(other.trusted(SHOPPING_API))
        .trust_all_alike()
        .clock(setup.harness.clock.clone());
    let validator = builder.revocations(&setup.revocations).build().unwrap();
    validator.warm_up().await.unwrap();
    setup.store(Rule::block_subject("alice", at(NOW))).await;
    let of_other = other.token().audience(SHOPPING_API).subject("alice").build();
    assert_eq!(outcome(&validator.try_validate(&setup.token().build()).unwrap()), "revoked");
    assert_eq!(outcome(&validator.try_validate(&of_other).unwrap()), "accepted");
}

#[tokio::test]
async fn a_set_without_a_trusted_issuer_and_two_sets_for_one_issuer_are_config_errors() {
    let issuer = Issuer::logto("https://tenant.logto.app").unwrap();
    let other = Issuer::logto("https://other.logto.app").unwrap();
    let build = |sets: &[&Revocations]| {
        let trusted = TrustedIssuer::new(&issuer).audience(SHOPPING_API);
        let builder = Validator::builder().trust(trusted);
        sets.iter().fold(builder, |builder, set| builder.revocations(set)).build()
    };
    let (set, both) = (Revocations::new([&issuer]), Revocations::new([&issuer, &other]));
    let (set, both, never) = (set.unwrap(), both.unwrap(), Revocations::new([&other]).unwrap());
    assert!(build(&[&set]).is_ok() && build(&[&both]).is_ok());
    for (sets, advice) in [
        (&[&never][..], "the rules are for https://other.logto.app/oidc, but the validator"),
        (&[&set, &both][..], "use one set per tenant"),
    ] {
        let error = build(sets).unwrap_err();
        assert_eq!(error.setting(), "revocations");
        assert!(error.to_string().contains(advice), "{error}");
    }
    for (builder, setting) in [
        (Revocations::builder([]), "issuers"),
        (Revocations::builder([&issuer]).margin(301 * SECOND), "margin"),
        (Revocations::builder([&issuer]).longest_token_life(59 * SECOND), "longest_token_life"),
        (Revocations::builder([&issuer]).max_rules(999), "max_rules"),
    ] {
        assert_eq!(builder.build().unwrap_err().setting(), setting);
    }
}

/// The response to a revoked token contains only the code and a fixed description. The signature is
/// checked before the rules, so a caller with a forged token cannot learn whether a user is
/// blocked.
#[tokio::test]
async fn a_revoked_token_gets_the_code_invalid_token_and_a_forged_token_does_not_reveal_rules() {
    let setup = Setup::start().await;
    let token = setup.token().build();
    setup.revocations.block_subject("alice").await.unwrap();
    let error = setup.validator.try_validate(&token).unwrap().unwrap_err();
    assert_eq!((error.status().as_u16(), error.code()), (401, Some("invalid_token")));
    assert!(matches!(error.kind(), AuthErrorKind::InvalidToken(InvalidToken::Revoked)));
    assert_eq!(error.description(), Some("the access token was revoked"));
    let forged = setup.token().bad_signature().build();
    assert_eq!(setup.outcome(&forged), "bad_signature");
    let explained = setup.validator.explain(&token).await.to_string();
    assert!(explained.contains("FAILED  revocation"), "{explained}");
}

#[tokio::test]
async fn recheck_refuses_a_token_after_a_rule_change_or_its_expiry() {
    let setup = Setup::start().await;
    let token = setup.validator.validate(&setup.token().build()).await.unwrap();
    let mut changes = setup.revocations.changes();
    assert!(setup.validator.recheck(&token).is_ok());
    setup.store(Rule::block_subject("bob", at(NOW))).await;
    changes.next().await;
    assert!(setup.validator.recheck(&token).is_ok());
    setup.store(Rule::block_subject("alice", at(NOW))).await;
    changes.next().await;
    assert_eq!(setup.validator.recheck(&token).unwrap_err().reason(), "revoked");

    let token = setup.token().subject("carol").build();
    let token = setup.validator.validate(&token).await.unwrap();
    setup.harness.clock.advance(2 * HOUR);
    assert_eq!(setup.validator.recheck(&token).unwrap_err().reason(), "expired");
}

#[tokio::test]
async fn derived_validators_have_the_same_rules_and_share_the_cache() {
    let setup = Setup::start().await;
    let trusted = setup.harness.logto.trusted(SHOPPING_API);
    let derived = setup.validator.derive().trust(trusted).build().unwrap();
    let token = setup.token().build();
    assert_eq!(setup.outcome(&token), "accepted");
    assert_eq!(outcome(&derived.try_validate(&token).unwrap()), "accepted");
    setup.store(Rule::block_subject("alice", at(NOW))).await;
    assert_eq!(outcome(&derived.try_validate(&token).unwrap()), "revoked");
    assert_eq!(setup.outcome(&token), "revoked");
}

#[tokio::test]
async fn rules_can_be_saved_as_json_and_restored_after_a_restart() {
    let setup = Setup::start().await;
    setup.store(Rule::block_subject("alice", at(NOW))).await;
    setup.store(Rule::revoke_everyone(at(NOW - 60))).await;
    let json = serde_json::to_string(&setup.revocations.rules()).unwrap();
    let restarted = Setup::start().await;
    let rules: Vec<Rule> = serde_json::from_str(&json).unwrap();
    restarted.revocations.store(rules).await.unwrap();
    let bob = restarted.token().subject("bob");
    assert_eq!(restarted.outcome(&restarted.token().build()), "revoked");
    assert_eq!(restarted.outcome(&bob.clone().claim("iat", NOW - 60).build()), "revoked");
    assert_eq!(restarted.outcome(&bob.build()), "accepted");
}
