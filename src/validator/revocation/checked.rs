//! What the validator asks: whether a token is revoked.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    error::{AuthErrorKind, ConfigError, InvalidToken},
    issuer::Issuer,
    revocation::{Revocations, rules::TokenHashes, source::CLOSED},
    validator::token_claims::TokenClaims,
};

/// The sets of rules of a validator.
#[derive(Debug, Clone, Default)]
pub(crate) struct RevocationSets(Vec<Revocations>);

/// The set of rules for the tokens of one issuer, if there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct IssuerRevocations(Option<Revocations>);

/// What a token is compared with the rules by. It is kept with the token.
#[derive(Debug)]
pub(crate) struct Revocable(Option<Box<RevocableToken>>);

#[derive(Debug)]
struct RevocableToken {
    revocations: Revocations,
    /// The generation of the rules that accepted the token last.
    accepted_by: AtomicU64,
    hashes: TokenHashes,
    /// From `iat` to `exp`, or from the validation if there is no `iat`.
    life: Duration,
}

impl RevocationSets {
    pub(crate) fn add(&mut self, revocations: &Revocations) {
        self.0.push(revocations.clone());
    }

    /// The set for the tokens of an issuer.
    pub(crate) fn of(&self, issuer: &Issuer) -> IssuerRevocations {
        let mut sets = self.0.iter();
        IssuerRevocations(sets.find(|set| set.issuers().contains(issuer)).cloned())
    }

    /// Refuses a set that would never apply, and two sets for one issuer.
    pub(crate) fn check(&self, trusted: &[&Issuer]) -> Result<(), ConfigError> {
        for set in &self.0 {
            if !trusted.iter().any(|issuer| set.issuers().contains(issuer)) {
                let names: Vec<_> = set.issuers().iter().map(Issuer::as_str).collect();
                let advice = format!("no trusted issuer is one of {}", names.join(", "));
                return Err(ConfigError::new("revocations", advice));
            }
        }
        for issuer in trusted {
            if self.0.iter().filter(|set| set.issuers().contains(issuer)).count() > 1 {
                let advice = "two sets of revocations name this issuer: use one set per tenant";
                return Err(ConfigError::new("revocations", advice).of_issuer(issuer.as_str()));
            }
        }
        Ok(())
    }
}

impl IssuerRevocations {
    pub(crate) const fn are_set(&self) -> bool {
        self.0.is_some()
    }

    /// Returns whether the first rules are still being loaded.
    pub(crate) fn are_loading(&self) -> bool {
        self.0.as_ref().is_some_and(Revocations::are_loading)
    }

    /// Waits for the first rules, for up to 1 s.
    pub(crate) async fn loaded(&self) {
        if let Some(revocations) = self.0.as_ref().filter(|set| set.are_loading()) {
            revocations.loaded().await;
        }
    }

    /// Hashes the values of a token that rules may name.
    pub(crate) fn revocable(&self, claims: &TokenClaims, now: Duration) -> Revocable {
        Revocable(self.0.as_ref().map(|revocations| {
            let hasher = revocations.hasher();
            let subject = claims.get(claims.subject);
            let organization = claims.organization_id.map(|span| claims.get(span));
            if claims.client_id.map(|span| claims.get(span)) != Some(subject) {
                revocations.record_subject(subject);
            }
            let expires_at = Duration::from_secs(claims.lifetime.expires_at);
            let issued_at = claims.issued_at.map_or(now, Duration::from_secs);
            Box::new(RevocableToken {
                revocations: revocations.clone(),
                accepted_by: AtomicU64::new(NEVER),
                hashes: TokenHashes {
                    subject: hasher.subject(subject),
                    client: claims.client_id.map(|span| hasher.client(claims.get(span))),
                    organization: organization.map(|id| hasher.organization(id)),
                    member: organization.map(|id| hasher.member(id, subject)),
                    token_id: claims.jwt_id.map(|span| hasher.token_id(claims.get(span))),
                    issued_at: claims.issued_at.unwrap_or(0),
                },
                life: expires_at.saturating_sub(issued_at),
            })
        }))
    }
}

impl Revocable {
    /// Refuses the token if a rule does. The rules are looked up only if they changed.
    pub(crate) fn check(&self) -> Result<(), AuthErrorKind> {
        self.0.as_ref().map_or(Ok(()), |token| token.check())
    }

    /// The size on the heap in bytes.
    pub(crate) fn heap_size(&self) -> usize {
        self.0.as_ref().map_or(0, |_| size_of::<RevocableToken>())
    }
}

impl RevocableToken {
    fn check(&self) -> Result<(), AuthErrorKind> {
        let generation = self.revocations.generation();
        if self.accepted_by.load(Ordering::Relaxed) == generation {
            return Ok(());
        }
        if generation == CLOSED {
            return Err(AuthErrorKind::RevocationsUnavailable);
        }
        let longest = self.revocations.longest_token_life();
        if self.life > longest {
            return Err(InvalidToken::TooLongLife { life: self.life, longest }.into());
        }
        if self.revocations.revoke(&self.hashes) {
            return Err(InvalidToken::Revoked.into());
        }
        self.accepted_by.store(generation, Ordering::Relaxed);
        Ok(())
    }
}

/// No set of rules has this generation.
const NEVER: u64 = u64::MAX;
