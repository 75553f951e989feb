//! The status of a validator.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    clock::Moment,
    jwks::{snapshot::KeySnapshot, status::IssuerStatus},
    validator::Validator,
};

/// The status of a [`Validator`](crate::Validator), for the operator. Do not send it to callers.
///
/// ```
/// use tower_logto::{Issuer, Validator};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let status = Validator::new(&issuer, "https://shopping.api")?.status();
/// assert!(!status.is_ready(), "no keys were fetched yet");
/// println!("{}", serde_json::to_string(&status)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The keys of each trusted issuer.
    pub issuers: Vec<IssuerStatus>,
    /// The number of cached tokens. While tokens are added, this number can be slightly out of
    /// date. Derived validators share the cache, so they report the same number.
    pub cached_tokens: u64,
    /// `true` while signature checks are queued because of a flood of tokens with bad signatures.
    pub is_flooded: bool,
    /// The number of signature checks that wait in the queue.
    pub queued_checks: usize,
}

impl Status {
    /// Returns whether tokens of every issuer can be validated without a fetch.
    pub fn is_ready(&self) -> bool {
        self.issuers.iter().all(|issuer| issuer.state.is_usable())
    }
}

impl Validator {
    /// Returns the status of the keys, the cache and the queue. This method sends no request and
    /// starts no refresh.
    ///
    /// A readiness probe should call [`warm_up`](Self::warm_up) instead. A service that is not
    /// ready receives no requests, so no request starts a fetch. If the probe did not fetch the
    /// keys either, the service would never become ready. See
    /// [the guide](crate::guide::operations#probes).
    pub fn status(&self) -> Status {
        let now = Moment::now(&*self.0.clock);
        let status = |entry: &Arc<super::IssuerEntry>| entry.keys.status(&entry.rules.issuer);
        Status {
            issuers: self.0.issuers.iter().map(status).collect(),
            cached_tokens: self.0.cache.count(),
            is_flooded: self.0.signatures.are_queued(now),
            queued_checks: self.0.signatures.queue_length(),
        }
    }

    /// Returns the most recently fetched key set of each issuer. Another validator can start with
    /// these key sets: see
    /// [`ValidatorBuilder::initial_keys`](crate::ValidatorBuilder::initial_keys).
    ///
    /// This method sends no request. The key sets contain no secrets.
    pub fn key_snapshot(&self) -> KeySnapshot {
        let issuers = self.0.issuers.iter();
        KeySnapshot { issuers: issuers.filter_map(|entry| entry.keys.snapshot()).collect() }
    }
}
