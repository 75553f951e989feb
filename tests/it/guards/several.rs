//! Tests of guards for validators with several issuers or audiences, and tests of validators that
//! are derived from another validator.

use std::{
    convert::Infallible,
    sync::{Arc, RwLock},
};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::get,
};
use tower::{Layer as _, ServiceExt as _};
use tower_logto::{
    AccessToken, AuthError, AuthLayer, Require, Scoped, Validator,
    error::{AuthErrorKind, InvalidToken},
    scopes,
    testing::ManualClock,
};

use super::{REPORTS, by_header, refusal, validate};
use crate::support::{Harness, LogCapture, SHOPPING_API, Server, status};

scopes! {
    A = "a";
    AOfAnyKind = "a" for any_kind;
    AForPermissions = "a" for OrganizationPermissions;
}

/// Two tenants, each with an organization that has the id `acme`.
struct TwoTenants {
    ours: Harness,
    theirs: Harness,
}

impl TwoTenants {
    async fn start() -> Self {
        Self { ours: Harness::start().await, theirs: Harness::start().await }
    }

    fn builder(&self) -> tower_logto::ValidatorBuilder {
        self.ours.builder().trust(self.theirs.logto.trusted(SHOPPING_API))
    }

    /// Returns a token of the organization `acme` in our tenant, and a token of the organization
    /// `acme` in the other tenant.
    async fn tokens(&self, validator: &Validator) -> [AccessToken; 2] {
        let token =
            |harness: &Harness| harness.token().organization_resource("acme").scopes(["a"]).build();
        [
            validate(validator, &token(&self.ours)).await,
            validate(validator, &token(&self.theirs)).await,
        ]
    }
}

#[tokio::test]
async fn a_guard_without_an_issuer_answers_500_if_the_validator_trusts_several() {
    let tenants = TwoTenants::start().await;
    let [ours, theirs] = tenants.tokens(&tenants.builder().build().unwrap()).await;
    let our_issuer = tenants.ours.logto.issuer();
    for token in [&ours, &theirs] {
        for guard in [
            by_header(),
            Require::global(),
            Require::any_kind().scopes(["a"]),
            Require::global().issuer(&our_issuer).or(by_header()),
        ] {
            assert_eq!(refusal(&guard, token), Some(AuthErrorKind::UnnamedIssuer), "{guard:?}");
        }
        for refused in [
            token.require_organization("acme").map(drop),
            token.require_scopes(["a"]),
            token.require_scope::<AOfAnyKind>(),
        ] {
            assert_eq!(refused.unwrap_err().kind(), &AuthErrorKind::UnnamedIssuer);
        }
    }
    let guard = by_header().issuer(&our_issuer).scopes(["a"]);
    assert_eq!(refusal(&guard, &ours), None);
    let theirs_refused = refusal(&guard, &theirs);
    assert!(
        matches!(theirs_refused, Some(AuthErrorKind::FailedCondition(_))),
        "{theirs_refused:?}"
    );
    let named = ours.require_issuer(&our_issuer).unwrap();
    named.require_organization("acme").unwrap().require_scopes(["a"]).unwrap();
    assert_eq!(theirs.require_issuer(&our_issuer).unwrap_err().status(), 403);

    let [ours, theirs] =
        tenants.tokens(&tenants.builder().trust_all_alike().build().unwrap()).await;
    for token in [ours, theirs] {
        assert_eq!(refusal(&by_header().scopes(["a"]), &token), None);
        token.require_organization("acme").unwrap().require_scopes(["a"]).unwrap();
    }
}

#[tokio::test]
async fn a_guard_without_an_audience_answers_500_if_the_validator_has_several() {
    let harness = Harness::start().await;
    let trusted = || harness.logto.trusted(SHOPPING_API).audience(REPORTS).organizations();
    let builder = || Validator::builder().clock(harness.clock.clone()).trust(trusted());
    let validator = builder().build().unwrap();
    let token = |audience: &str| harness.logto.token().audience(audience).scopes(["a"]).build();
    let shop = validate(&validator, &token(SHOPPING_API)).await;
    let reports = validate(&validator, &token(REPORTS)).await;
    let permissions = harness.logto.token().organization_permissions("acme").scopes(["a"]);
    let permissions = validate(&validator, &permissions.build()).await;
    for guard in [Require::global().scopes(["a"]), Require::any_kind(), by_header()] {
        for token in [&shop, &reports, &permissions] {
            assert_eq!(refusal(&guard, token), Some(AuthErrorKind::UnnamedAudience), "{guard:?}");
        }
    }
    let refused = shop.require_scopes(["a"]).unwrap_err();
    assert_eq!(refused.kind(), &AuthErrorKind::UnnamedAudience);
    let guard = Require::global().audience(SHOPPING_API).scopes(["a"]);
    assert_eq!(refusal(&guard, &shop), None);
    let refused = refusal(&guard, &reports);
    assert!(matches!(refused, Some(AuthErrorKind::FailedCondition(_))), "{refused:?}");
    shop.require_audience(SHOPPING_API).unwrap().require_scopes(["a"]).unwrap();
    assert_eq!(shop.require_audience(REPORTS).unwrap_err().status(), 403);
    // The audience of an organization permission token is its organization, so the guard does not
    // have to name an audience.
    let guard = by_header().organization_permissions().scopes(["a"]);
    assert_eq!(refusal(&guard, &permissions), None);
    let refused = refusal(&guard, &shop);
    assert!(matches!(refused, Some(AuthErrorKind::WrongOrganization { .. })), "{refused:?}");
    permissions.require_organization("acme").unwrap().require_scope::<AForPermissions>().unwrap();

    let validator = builder().trust_all_alike().build().unwrap();
    let reports = validate(&validator, &token(REPORTS)).await;
    assert_eq!(refusal(&Require::global().scopes(["a"]), &reports), None);
}

#[tokio::test]
async fn extractors_accept_tokens_inside_a_guard_that_names_the_issuer() {
    let tenants = TwoTenants::start().await;
    let log = LogCapture::start();
    let validator = tenants.builder().build().unwrap();
    let scoped = || get(async |_: Scoped<A>| "welcome");
    let checked = get(async |token: AccessToken| -> Result<&str, AuthError> {
        token.require_scopes(["a"])?;
        Ok("welcome")
    });
    let ours = tenants.ours.logto.issuer();
    let guarded = Router::new()
        .route("/scoped", scoped())
        .route("/checked", checked)
        .route("/nested", scoped().route_layer(Require::global().scopes(["a"])))
        .route_layer(Require::any_kind().issuer(&ours));
    let router = guarded.route("/unnamed", scoped()).route_layer(AuthLayer::new(validator));
    let server = Server::start(router).await;
    let (our, their) =
        (tenants.ours.token().scopes(["a"]).build(), tenants.theirs.token().scopes(["a"]).build());
    for (path, of_ours, of_theirs) in [
        ("/scoped", 200, 403),
        ("/checked", 200, 403),
        ("/nested", 200, 403),
        ("/unnamed", 500, 500),
    ] {
        assert_eq!(server.get(path, &our).await.status(), of_ours, "{path}");
        assert_eq!(server.get(path, &their).await.status(), of_theirs, "{path}");
    }
    let text = log.text();
    assert!(text.contains("the validator trusts several issuers"), "{text}");
}

#[tokio::test]
async fn a_derived_validator_shares_keys_and_verified_tokens() {
    let tenants = TwoTenants::start().await;
    let (ours, theirs) = (&tenants.ours, &tenants.theirs);
    let base = ours.validator();
    let token = ours.token().build();
    base.validate(&token).await.unwrap();
    let wider = base
        .derive()
        .trust(ours.logto.trusted(SHOPPING_API))
        .trust(theirs.logto.trusted(SHOPPING_API))
        .realm("wider")
        .build()
        .unwrap();
    // `wider` shares the key set and the cache with `base`. It therefore accepts this token without
    // a fetch and without a signature check.
    wider.try_validate(&token).unwrap().unwrap();
    wider.try_validate(&ours.token().subject("bob").build()).unwrap().unwrap();
    wider.validate(&theirs.token().build()).await.unwrap();
    assert_eq!((ours.logto.jwks_requests(), theirs.logto.jwks_requests()), (1, 1));
    // `narrower` trusts only one of the two issuers.
    let narrower = wider.derive().trust(theirs.logto.trusted(SHOPPING_API)).build().unwrap();
    narrower.try_validate(&theirs.token().build()).unwrap().unwrap();
    assert_eq!(theirs.logto.jwks_requests(), 1);
    // `wider` uses its own realm.
    let refused = wider.try_validate("opaque").unwrap().unwrap_err();
    assert!(refused.challenge().unwrap().to_str().unwrap().contains("realm=\"wider\""));
}

#[tokio::test]
async fn a_cached_token_is_refused_by_a_derived_validator_that_does_not_trust_it() {
    let tenants = TwoTenants::start().await;
    let (ours, theirs) = (&tenants.ours, &tenants.theirs);
    let base = tenants.builder().build().unwrap();
    let tokens = [ours.token().build(), theirs.token().build()];
    let permissions = ours.logto.token().organization_permissions("acme").build();
    for token in tokens.iter().chain([&permissions]) {
        validate(&base, token).await;
    }
    let without_them = base.derive().trust(ours.logto.trusted(SHOPPING_API)).build().unwrap();
    let reports = base.derive().trust(ours.logto.trusted(REPORTS)).build().unwrap();
    let organizations_only = ours.logto.trusted(SHOPPING_API).organization_tokens_only();
    let organizations_only = base.derive().trust(organizations_only).build().unwrap();
    for _ in 0..2 {
        assert_eq!(status(&without_them.try_validate(&tokens[0]).unwrap()), 200);
        for (validator, token) in [
            (&without_them, &tokens[1]),
            (&without_them, &permissions),
            (&reports, &tokens[0]),
            (&organizations_only, &tokens[0]),
        ] {
            assert_eq!(status(&validator.try_validate(token).unwrap()), 401);
        }
        // A refusal by a derived validator does not remove the token from the shared cache.
        for token in tokens.iter().chain([&permissions]) {
            assert_eq!(status(&base.try_validate(token).unwrap()), 200);
        }
    }
}

#[tokio::test]
async fn derived_validator_with_another_clock_or_key_setting_shares_nothing() {
    let ours = Harness::start().await;
    let base = ours.validator();
    let token = ours.token().build();
    base.validate(&token).await.unwrap();
    for builder in [
        base.derive().clock(ManualClock::default()),
        base.derive().max_waiting(1),
        base.derive().token_cache_capacity(0),
    ] {
        let validator = builder.trust(ours.logto.trusted(SHOPPING_API)).build().unwrap();
        assert!(validator.try_validate(&token).is_none(), "the keys must be fetched");
    }
}

#[tokio::test]
async fn a_global_token_is_refused_if_only_organization_tokens_are_accepted() {
    let harness = Harness::start().await;
    let trusted = harness.logto.trusted(SHOPPING_API).organizations().organization_tokens_only();
    let validator =
        Validator::builder().trust(trusted).clock(harness.clock.clone()).build().unwrap();
    validate(&validator, &harness.token().organization_resource("acme").build()).await;
    validate(&validator, &harness.logto.token().organization_permissions("acme").build()).await;
    let error = validator.validate(&harness.token().build()).await.unwrap_err();
    assert_eq!(error.kind(), &AuthErrorKind::InvalidToken(InvalidToken::NoOrganization));
    assert!(error.to_string().contains("`organization_id`"), "{error}");
}

/// The middleware from the docs of `Validator::derive`, with a lock of the standard library instead
/// of an `ArcSwap`.
async fn authenticate(
    State(current): State<Arc<RwLock<Validator>>>,
    request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    let validator = current.read().unwrap().clone();
    AuthLayer::new(validator).layer(next).oneshot(request).await
}

#[tokio::test]
async fn a_validator_can_be_replaced_while_the_service_runs() {
    let tenants = TwoTenants::start().await;
    let current = Arc::new(RwLock::new(tenants.ours.validator()));
    let router = Router::new()
        .route("/", get(async |_: AccessToken| "welcome"))
        .route_layer(from_fn_with_state(Arc::clone(&current), authenticate));
    let server = Server::start(router).await;
    let (our, their) = (tenants.ours.token().build(), tenants.theirs.token().build());
    assert_eq!(server.get("/", &our).await.status(), 200);
    assert_eq!(server.get("/", &their).await.status(), 401);
    let all = [&tenants.ours, &tenants.theirs].map(|one| one.logto.trusted(SHOPPING_API));
    let derived = current.read().unwrap().derive();
    let derived = all.into_iter().fold(derived, tower_logto::ValidatorBuilder::trust);
    *current.write().unwrap() = derived.build().unwrap();
    assert_eq!(server.get("/", &our).await.status(), 200);
    assert_eq!(server.get("/", &their).await.status(), 200);
    assert_eq!(tenants.ours.logto.jwks_requests(), 1);
}
