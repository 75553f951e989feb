//! Key sets that survive a restart of the service.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

/// The key sets of a validator. Another validator can start with them while Logto is down.
///
/// [`Validator::key_snapshot`](crate::Validator::key_snapshot) returns a snapshot, and
/// [`ValidatorBuilder::initial_keys`](crate::ValidatorBuilder::initial_keys) starts a validator
/// with it. You can store a snapshot in any serde format. The crate itself stores no snapshots.
///
/// **Anyone who can change the stored snapshot can sign tokens that the validator accepts.**
/// Protect the snapshot like a configuration file that contains a key set. The snapshot contains no
/// secrets.
///
/// ```no_run
/// use std::{fs, time::Duration};
/// use tower_logto::{settings::Settings, warm_start::KeySnapshot};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// const FILE: &str = "/var/lib/shop/keys.json";
///
/// let mut builder = Settings::from_env()?.validator_builder()?;
/// if let Ok(stored) = fs::read_to_string(FILE) {
///     builder = builder.initial_keys(serde_json::from_str::<KeySnapshot>(&stored)?);
/// }
/// let validator = builder.build()?;
///
/// // Store the keys every ten minutes. Because of the rename, a crash leaves no incomplete file.
/// let keys = validator.clone();
/// tokio::spawn(async move {
///     loop {
///         let snapshot = keys.key_snapshot();
///         if snapshot.fetched_at().is_some() {
///             let stored = serde_json::to_string(&snapshot).unwrap_or_default();
///             let temporary = format!("{FILE}.new");
///             let _ = fs::write(&temporary, stored).and_then(|()| fs::rename(&temporary, FILE));
///         }
///         tokio::time::sleep(Duration::from_secs(600)).await;
///     }
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySnapshot {
    pub(crate) issuers: Vec<IssuerSnapshot>,
}

/// The key set of one issuer.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssuerSnapshot {
    pub(crate) issuer: Box<str>,
    /// The time of the fetch, in seconds since the Unix epoch.
    pub(crate) fetched_at: u64,
    /// The JSON of the key set, as the issuer sent it.
    pub(crate) jwks: Box<str>,
}

impl KeySnapshot {
    /// Returns the fetch time of the oldest key set, or `None` if the snapshot has no key set.
    pub fn fetched_at(&self) -> Option<SystemTime> {
        let oldest = self.issuers.iter().map(|one| one.fetched_at).min()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(oldest))
    }
}

/// Shows the issuers and the times of the fetches.
impl fmt::Debug for KeySnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.issuers.iter().map(|one| (&one.issuer, one.fetched_at));
        f.debug_map().entries(entries).finish()
    }
}
