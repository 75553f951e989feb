//! The keys of one issuer: a static key set, or a key set that is fetched and refreshed.

use std::sync::Arc;

use crate::{
    algorithm::Algorithm,
    clock::{Clock, Moment},
    error::{AuthErrorKind, ConfigError, InvalidToken, KeysError},
    http_client::HttpClients,
    issuer::{JwksSource, TrustedIssuer},
    jwks::{
        fetch::JwksEndpoint,
        key_set::{KeySet, VerifyingKey},
        refresh::{RefreshPolicy, RemoteKeys},
        snapshot::{IssuerSnapshot, KeySnapshot},
        status::{IssuerStatus, KeysState},
    },
    url::check_url,
};

/// The keys of one issuer. Only the methods [`wait_for`](Self::wait_for) and [`load`](Self::load)
/// can wait.
#[derive(Debug)]
pub(crate) enum KeyStore {
    Static(KeySet),
    Remote(Arc<RemoteKeys>),
}

impl KeyStore {
    pub(crate) fn new(
        trusted: &TrustedIssuer,
        policy: RefreshPolicy,
        clients: &HttpClients,
        clock: Arc<dyn Clock>,
        initial_keys: Option<&KeySnapshot>,
    ) -> Result<Self, ConfigError> {
        match &trusted.jwks {
            JwksSource::Static(json) => KeySet::from_json(json.as_bytes(), &trusted.algorithms)
                .inspect(|keys| keys.log_warnings(None))
                .map(Self::Static)
                .map_err(|error| ConfigError::new("static_jwks", error.to_string())),
            JwksSource::Uri(uri) => {
                let url = check_url("jwks_uri", uri, trusted.transport)?;
                let endpoint = JwksEndpoint::new(url, clients.clone());
                let algorithms = trusted.algorithms.as_slice().into();
                let remote =
                    RemoteKeys::new(trusted.issuer.as_str(), endpoint, algorithms, policy, clock);
                let issuer = trusted.issuer.as_str();
                let mut snapshots = initial_keys.into_iter().flat_map(|keys| &keys.issuers);
                if let Some(snapshot) = snapshots.find(|one| &*one.issuer == issuer) {
                    remote.restore(snapshot);
                }
                Ok(Self::Remote(Arc::new(remote)))
            }
        }
    }

    /// Finds a token's key among the current keys. Returns `None` if the answer depends on a
    /// refresh of the key set. The caller must then call [`wait_for`](Self::wait_for).
    pub(crate) fn find(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        now: impl FnOnce() -> Moment,
    ) -> Result<Option<Arc<VerifyingKey>>, AuthErrorKind> {
        match self {
            Self::Static(keys) => find_static(keys, kid, algorithm).map(Some),
            Self::Remote(remote) => remote.find(kid, algorithm, now()),
        }
    }

    /// Finds a token's key. If the answer depends on a refresh of the key set, waits for the
    /// refresh. All waiters share one refresh.
    pub(crate) async fn wait_for(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<VerifyingKey>, AuthErrorKind> {
        match self {
            Self::Static(keys) => find_static(keys, kid, algorithm),
            Self::Remote(remote) => remote.wait_for(kid, algorithm).await,
        }
    }

    /// Returns the ids of the current keys, escaped and in quotes.
    pub(crate) fn quoted_kids(&self, now: Moment) -> Vec<String> {
        match self {
            Self::Static(keys) => keys.quoted_kids(),
            Self::Remote(remote) => remote.quoted_kids(now),
        }
    }

    /// Returns whether this key may still be used. Does not wait.
    pub(crate) fn holds(&self, key: &Arc<VerifyingKey>, now: Moment) -> bool {
        match self {
            Self::Static(keys) => keys.holds(key),
            Self::Remote(remote) => remote.holds(key, now),
        }
    }

    /// Checks whether this key is still in the issuer's key set. Does not wait. If the key set is
    /// old and its refresh is in flight, this method searches the old key set. In the same case,
    /// [`holds`](Self::holds) returns `false`, so that the request waits for the fresh keys.
    pub(crate) fn recheck(
        &self,
        key: &Arc<VerifyingKey>,
        now: Moment,
    ) -> Result<(), AuthErrorKind> {
        let is_held = match self {
            Self::Static(keys) => keys.holds(key),
            Self::Remote(remote) => {
                remote.usable_keys(now).holds(key).ok_or_else(|| remote.unavailable())?
            }
        };
        if is_held { Ok(()) } else { Err(InvalidToken::unknown_key(key.kid()).into()) }
    }

    /// Returns the status of the keys, without I/O.
    pub(crate) fn status(&self, issuer: &str) -> IssuerStatus {
        match self {
            Self::Static(keys) => IssuerStatus {
                issuer: issuer.into(),
                state: KeysState::Static,
                keys: keys.jwk_count(),
                age_secs: None,
                last_error: None,
            },
            Self::Remote(remote) => remote.status(),
        }
    }

    /// Returns the fetched key set, or `None` if the keys are static or were not fetched yet.
    pub(crate) fn snapshot(&self) -> Option<IssuerSnapshot> {
        match self {
            Self::Static(_) => None,
            Self::Remote(remote) => remote.key_snapshot(),
        }
    }

    /// Fetches the keys, unless the current keys are usable.
    pub(crate) async fn load(&self) -> Result<(), KeysError> {
        match self {
            Self::Static(_) => Ok(()),
            Self::Remote(remote) => remote.load().await,
        }
    }
}

fn find_static(
    keys: &KeySet,
    kid: Option<&str>,
    algorithm: Algorithm,
) -> Result<Arc<VerifyingKey>, AuthErrorKind> {
    let key = keys.select(kid, algorithm)?.ok_or_else(|| InvalidToken::unknown_key(kid))?;
    Ok(Arc::clone(key))
}
