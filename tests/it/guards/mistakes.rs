//! Tests of guards that no token can pass. Such a guard panics when it is built, and the panic
//! message contains the file and the line that caused the panic.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Once,
};

use tower_logto::{Issuer, Require, scopes};

use super::by_header;
use crate::support::Harness;

scopes! {
    ForGlobal = "a" for Global;
    ForResource = "a" for OrganizationResource;
    ForPermissions = "a" for OrganizationPermissions;
}

thread_local! {
    /// The message and the location of the last panic of this thread. `None` while panics are not
    /// recorded.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a function that must panic. Returns the message and the location of the panic.
fn panic_of<T>(build: impl FnOnce() -> T) -> String {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANIC.with_borrow_mut(|recorded| match recorded {
                Some(text) => *text = info.to_string(),
                None => previous(info),
            });
        }));
    });
    PANIC.set(Some(String::new()));
    let built = catch_unwind(AssertUnwindSafe(build));
    let text = PANIC.take().unwrap();
    assert!(built.is_err(), "the guard was built");
    text
}

#[test]
fn a_guard_that_no_token_can_pass_panics_with_the_location_in_the_users_code() {
    let issuer = |tenant: &str| Issuer::logto(&format!("https://{tenant}.logto.app")).unwrap();
    let (one, other) = (issuer("one"), issuer("other"));
    let global = Require::global;
    let permissions = || by_header().organization_permissions();
    let nothing: [&str; 0] = [];
    for (text, expected) in [
        (panic_of(|| global().scopes(nothing)), "\"\" is not a scope"),
        (panic_of(|| global().any_scope(nothing)), "\"\" is not a scope"),
        (panic_of(|| global().scopes(["a", "read it"])), "\"read it\" is not a scope (RFC 6749"),
        (panic_of(|| global().any_scope([""])), "\"\" is not a scope"),
        (panic_of(|| global().client_ids(nothing)), "the list of client ids is empty"),
        (panic_of(|| global().audience("")), "the audience is empty"),
        (panic_of(|| global().machine().user()), "a machine or to a user"),
        (panic_of(|| global().user().machine()), "a machine or to a user"),
        (panic_of(|| global().issuer(&one).issuer(&other)), "two issuers"),
        (
            panic_of(|| global().organization_permissions()),
            "a token for a global API resource only",
        ),
        (
            panic_of(|| global().scope::<ForResource>()),
            "requires a token for an organization-level",
        ),
        (panic_of(|| global().scope::<ForPermissions>()), "an organization permission token"),
        (panic_of(|| by_header().scope::<ForGlobal>()), "requires a token for a global"),
        (
            panic_of(|| permissions().scope::<ForResource>()),
            "requires a token for an organization-l",
        ),
        (panic_of(|| by_header().scope::<ForResource>().organization_permissions()), "permission"),
        (
            panic_of(|| Require::any_kind().scope::<ForGlobal>().organization_permissions()),
            "a token for a global API resource only",
        ),
        (panic_of(|| global().or(by_header()).organization_permissions()), "global API resource"),
        (panic_of(|| by_header().or(global().machine()).user()), "a machine or to a user"),
    ] {
        assert!(text.contains("Require: no token can pass this guard: "), "{text}");
        assert!(text.contains(expected), "{expected:?} is missing in {text:?}");
        assert!(text.contains(file!()), "{text}");
    }
    let _ = global().issuer(&one).issuer(&one);
}

#[tokio::test]
async fn invalid_scope_in_a_handler_gets_500_for_a_literal_and_403_for_an_owned_string() {
    let harness = Harness::start().await;
    let text = harness.token().scopes(["read:products"]).build();
    let token = harness.validator().validate(&text).await.unwrap();
    for invalid in ["read write", "", "read\n", "caf\u{e9}"] {
        let literal = token.require_scopes(["read:products", invalid]).unwrap_err();
        let line = line!() - 1;
        assert_eq!((literal.status().as_u16(), literal.reason()), (500, "invalid_scope"));
        assert!(literal.to_string().contains(&format!("mistakes.rs:{line}:")), "{literal}");
        assert_eq!(token.require_any_scope([invalid]).unwrap_err().status(), 500);

        let owned = token.require_scopes([invalid.to_owned()]).unwrap_err();
        assert_eq!((owned.status().as_u16(), owned.reason()), (403, "insufficient_scope"));
    }
    token.require_scopes(["read:products".to_owned()]).unwrap();
}
