//! Without the feature `revocation`, no token is revoked.

use crate::{
    error::{AuthErrorKind, ConfigError},
    issuer::Issuer,
    validator::token_claims::TokenClaims,
};

#[derive(Debug, Clone, Default)]
pub(crate) struct RevocationSets(());

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct IssuerRevocations;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Revocable;

impl RevocationSets {
    #[allow(clippy::unused_self, reason = "the same signature as with the feature")]
    pub(crate) const fn of(&self, _: &Issuer) -> IssuerRevocations {
        IssuerRevocations
    }

    pub(crate) const fn check(&self, _: &[&Issuer]) -> Result<(), ConfigError> {
        Ok(())
    }
}

impl IssuerRevocations {
    pub(crate) const fn are_set(self) -> bool {
        false
    }

    pub(crate) const fn are_loading(self) -> bool {
        false
    }

    pub(crate) async fn loaded(self) {}

    pub(crate) const fn record(self, _: &TokenClaims) {}

    pub(crate) const fn revocable(self, _: &TokenClaims) -> Revocable {
        Revocable
    }
}

impl Revocable {
    pub(crate) const fn check(self) -> Result<(), AuthErrorKind> {
        Ok(())
    }

    pub(crate) const fn heap_size(self) -> usize {
        0
    }
}
