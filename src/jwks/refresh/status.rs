//! The status of an issuer's keys, and the snapshot for a restart. Both are available without I/O.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{RemoteKeys, state::Snapshot};
use crate::{
    clock::Moment,
    jwks::{
        fetch::FetchedKeys,
        snapshot::IssuerSnapshot,
        status::{IssuerStatus, KeysState},
    },
};

impl RemoteKeys {
    /// See [`KeyStore::status`](crate::jwks::key_store::KeyStore::status).
    pub(crate) fn status(&self) -> IssuerStatus {
        let now = self.now();
        let last_error = self.lock().last_failure.as_ref().map(ToString::to_string);
        let held = self.snapshot.load();
        let state = match (held.is_some(), self.is_usable(held.as_deref(), now)) {
            (false, _) => KeysState::Missing,
            (true, false) => KeysState::Expired,
            (true, true) if last_error.is_some() => KeysState::Stale,
            (true, true) => KeysState::Current,
        };
        IssuerStatus {
            issuer: self.issuer.to_string(),
            state,
            keys: held.as_ref().map_or(0, |held| held.fetched.keys.jwk_count()),
            age_secs: held.as_ref().map(|held| now.since(held.fetched_at).as_secs()),
            last_error,
        }
    }

    /// Returns a snapshot of the current key set. Another validator can start with this key set.
    pub(crate) fn key_snapshot(&self) -> Option<IssuerSnapshot> {
        let held = self.snapshot.load_full()?;
        Some(IssuerSnapshot {
            issuer: self.issuer.clone(),
            fetched_at: held.fetched_at.unix.as_secs(),
            jwks: held.fetched.json.as_ref().into(),
        })
    }

    /// Starts with the key set of another validator. The first request then refreshes the key set.
    /// Ignores a key set in which no key is usable, for example because the accepted algorithms
    /// have changed.
    pub(crate) fn restore(&self, snapshot: &IssuerSnapshot) {
        let json = snapshot.jwks.as_bytes();
        let Ok(fetched) = FetchedKeys::from_json(json, &self.algorithms) else { return };
        let now = self.now();
        // The clock of the machine that took the snapshot may be ahead of this machine's clock.
        let unix = Duration::from_secs(snapshot.fetched_at).min(now.unix);
        let monotonic = now.monotonic.saturating_sub(now.unix.saturating_sub(unix));
        let fetched_at = Moment { unix, monotonic };
        self.snapshot.store(Some(Arc::new(Snapshot { fetched, fetched_at })));
        self.schedule.refresh_at.store(0, Ordering::Relaxed);
    }
}
