//! Checks whether a revocation rule applies to a token.

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

/// The sets of revocation rules that a validator applies.
#[derive(Debug, Clone, Default)]
pub(crate) struct RevocationSets(Vec<Revocations>);

/// The set of revocation rules for the tokens of one issuer. `None` if the issuer has no set.
#[derive(Debug, Clone, Default)]
pub(crate) struct IssuerRevocations(Option<Revocations>);

/// The token data that the revocation check needs. This data is stored with the token. `None` if no
/// rules apply to the issuer of the token.
#[derive(Debug)]
pub(crate) struct Revocable(Option<Box<RevocableToken>>);

#[derive(Debug)]
struct RevocableToken {
    revocations: Revocations,
    /// The generation of the rules at the time when the token was last accepted.
    accepted_by: AtomicU64,
    hashes: TokenHashes,
    /// The time from `iat` to `exp`. `None` if the token has no `iat`, although RFC 9068 §2.2
    /// requires this claim. The lifetime of such a token is unknown. The token is refused, because
    /// it can outlive a rule that revokes it.
    life: Option<Duration>,
}

impl RevocationSets {
    pub(crate) fn add(&mut self, revocations: &Revocations) {
        self.0.push(revocations.clone());
    }

    /// Returns the set of revocation rules that applies to the tokens of an issuer.
    pub(crate) fn of(&self, issuer: &Issuer) -> IssuerRevocations {
        let mut sets = self.0.iter();
        IssuerRevocations(sets.find(|set| set.issuers().contains(issuer)).cloned())
    }

    /// Returns an error if a set applies to no trusted issuer, or if several sets apply to the same
    /// trusted issuer.
    pub(crate) fn check(&self, trusted: &[&Issuer]) -> Result<(), ConfigError> {
        for set in &self.0 {
            if !trusted.iter().any(|issuer| set.issuers().contains(issuer)) {
                let names: Vec<_> = set.issuers().iter().map(Issuer::as_str).collect();
                let advice = format!(
                    "the rules are for {}, but the validator trusts none of these issuers",
                    names.join(", ")
                );
                return Err(ConfigError::new("revocations", advice));
            }
        }
        for issuer in trusted {
            if self.0.iter().filter(|set| set.issuers().contains(issuer)).count() > 1 {
                let advice = "two sets of revocations are for this issuer: use one set per tenant";
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

    /// Waits until the first rules are loaded, for up to 1 s.
    pub(crate) async fn loaded(&self) {
        if let Some(revocations) = self.0.as_ref().filter(|set| set.are_loading()) {
            revocations.loaded().await;
        }
    }

    /// Records the user of a valid token, so that `SubjectChecks` can check this user.
    pub(crate) fn record(&self, claims: &TokenClaims) {
        let subject = claims.get(claims.subject);
        let is_user = claims.client_id.map(|span| claims.get(span)) != Some(subject);
        if let Some(revocations) = self.0.as_ref().filter(|_| is_user) {
            revocations.record_subject(subject);
        }
    }

    /// Hashes the claims that rules can refer to.
    pub(crate) fn revocable(&self, claims: &TokenClaims) -> Revocable {
        Revocable(self.0.as_ref().map(|revocations| {
            let hasher = revocations.hasher();
            let subject = claims.get(claims.subject);
            let organization = claims.organization_id.map(|span| claims.get(span));
            let expires_at = Duration::from_secs(claims.lifetime.expires_at);
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
                life: claims.issued_at.map(|at| expires_at.saturating_sub(Duration::from_secs(at))),
            })
        }))
    }
}

impl Revocable {
    /// Refuses the token if a rule revokes it, if its lifetime is unknown or too long, or if the
    /// rules are unavailable. Looks up the rules only if they changed since the token was last
    /// accepted.
    pub(crate) fn check(&self) -> Result<(), AuthErrorKind> {
        self.0.as_ref().map_or(Ok(()), |token| token.check())
    }

    /// Returns the size on the heap in bytes.
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
        let life = self.life.ok_or(InvalidToken::MissingClaim("iat"))?;
        if life > longest {
            return Err(InvalidToken::TooLongLife { life, longest }.into());
        }
        if self.revocations.revoke(&self.hashes) {
            return Err(InvalidToken::Revoked.into());
        }
        self.accepted_by.store(generation, Ordering::Relaxed);
        Ok(())
    }
}

/// The initial value of `accepted_by`. No set of rules has this generation.
const NEVER: u64 = u64::MAX;
