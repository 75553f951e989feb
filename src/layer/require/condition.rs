//! A condition that a token must satisfy to pass a guard.

use std::{fmt, sync::Arc};

use crate::{
    access_token::AccessToken,
    error::{AuthError, AuthErrorKind, FailedCondition, Mismatch},
    scope::ScopePolicy,
};

type CheckFn = dyn Fn(&AccessToken) -> Result<(), AuthError> + Send + Sync;

#[derive(Debug, Clone)]
pub(super) enum Condition {
    Issuer(Arc<[Box<str>]>),
    Audience(Arc<[Box<str>]>),
    Machine,
    User,
    ClientIds(Arc<[Box<str>]>),
    Scopes(ScopePolicy),
    Check(Function<CheckFn>),
}

impl Condition {
    /// Returns the position of this check in the order of a guard's checks.
    pub(super) const fn rank(&self) -> u8 {
        match self {
            Self::Issuer(_) => 0,
            Self::Audience(_) => 1,
            Self::Machine | Self::User => 2,
            Self::ClientIds(_) => 3,
            Self::Scopes(_) => 4,
            Self::Check(_) => 5,
        }
    }

    pub(super) fn check(&self, token: &AccessToken) -> Result<(), AuthError> {
        let client_id = token.client_id();
        let failed = match self {
            Self::Issuer(expected) if !contains(expected, token.issuer()) => {
                FailedCondition::Issuer(Mismatch::new(token.issuer(), expected))
            }
            Self::Audience(expected) if !token.audiences().any(|aud| contains(expected, aud)) => {
                let found = token.audiences().next().unwrap_or_default();
                FailedCondition::Audience(Mismatch::new(found, expected))
            }
            Self::Machine if !token.is_machine() => FailedCondition::Machine,
            // Without a `client_id`, a user cannot be told apart from an application, so the check
            // fails closed.
            Self::User if client_id.is_none_or(|id| id == token.subject()) => FailedCondition::User,
            Self::ClientIds(expected) if !client_id.is_some_and(|id| contains(expected, id)) => {
                FailedCondition::ClientId(Mismatch::new(client_id.unwrap_or_default(), expected))
            }
            Self::Scopes(policy) if !policy.is_satisfied_by(token.scopes()) => {
                return Err(token.insufficient_scope(policy));
            }
            Self::Check(check) => return check.0(token).map_err(|refusal| token.adopt(refusal)),
            _ => return Ok(()),
        };
        Err(token.refuse(AuthErrorKind::FailedCondition(failed)))
    }

    /// Panics if no token can satisfy both this condition and all conditions in `others`.
    #[track_caller]
    pub(super) fn assert_can_hold_with(&self, others: &[Self]) {
        match self {
            Self::Scopes(policy) => {
                if let Some(scope) = policy.first_invalid() {
                    never_passes(&format!("{scope:?} is not a scope (RFC 6749 §3.3)"));
                }
            }
            Self::ClientIds(ids) if ids.is_empty() => {
                never_passes("the list of client ids is empty")
            }
            Self::Audience(audience) if contains(audience, "") => {
                never_passes("the audience is empty")
            }
            _ => {}
        }
        for other in others {
            match (self, other) {
                (Self::Machine, Self::User) | (Self::User, Self::Machine) => {
                    never_passes("a token belongs to a machine or to a user, never to both");
                }
                (Self::Issuer(one), Self::Issuer(other)) if one != other => {
                    never_passes(&format!("the guard requires two issuers: {other:?} and {one:?}"));
                }
                _ => {}
            }
        }
    }
}

/// Panics. The panic message contains the file and the line at which the user's code builds the
/// guard.
#[track_caller]
#[allow(
    clippy::panic,
    reason = "a mistake in a guard causes a panic, just as an invalid path causes a panic in axum"
)]
pub(super) fn never_passes(reason: &str) -> ! {
    panic!("Require: no token can pass this guard: {reason}")
}

fn contains(expected: &[Box<str>], found: &str) -> bool {
    expected.iter().any(|one| one.as_ref() == found)
}

/// A function from the user's code. `Debug` does not show it.
pub(super) struct Function<F: ?Sized>(pub(super) Arc<F>);

impl<F: ?Sized> Clone for Function<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: ?Sized> fmt::Debug for Function<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fn")
    }
}
