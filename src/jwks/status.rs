//! The status of an issuer's keys.

use serde::Serialize;

/// The status of one issuer's keys, from [`Validator::status`](crate::Validator::status).
///
/// The status is for operators only, because [`last_error`](Self::last_error) contains addresses.
///
/// ```
/// use tower_logto::{Issuer, Validator, status::KeysState};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let validator = Validator::new(&issuer, "https://shopping.api")?;
/// let status = validator.status();
/// assert_eq!(status.issuers[0].issuer, "https://tenant.logto.app/oidc");
/// assert_eq!(status.issuers[0].state, KeysState::Missing);
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IssuerStatus {
    /// The value of the claim `iss` in the issuer's tokens.
    pub issuer: String,
    /// Whether the keys can be used.
    pub state: KeysState,
    /// The number of JWKs that can verify tokens.
    pub keys: usize,
    /// The time since the last successful fetch, in seconds. `None` if no fetch has succeeded, or
    /// if the keys are static.
    pub age_secs: Option<u64>,
    /// The error of the last fetch. `None` if the last fetch succeeded, or if there has been no
    /// fetch yet.
    pub last_error: Option<String>,
}

/// Whether the keys of an issuer can be used.
///
/// ```
/// use tower_logto::{Issuer, Validator, status::KeysState};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let status = Validator::new(&issuer, "https://shopping.api")?.status();
/// assert!(!status.issuers[0].state.is_usable(), "no keys were fetched yet");
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeysState {
    /// No keys have been fetched yet. The first request fetches the keys.
    Missing,
    /// The keys are part of the configuration, and are never fetched.
    Static,
    /// The keys are usable, and the last fetch succeeded.
    Current,
    /// The keys are usable, but the last fetch failed.
    Stale,
    /// The keys are older than
    /// [`serve_stale_keys_for`](crate::ValidatorBuilder::serve_stale_keys_for).
    Expired,
}

impl KeysState {
    /// Returns whether tokens can be validated with the keys.
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Static | Self::Current | Self::Stale)
    }
}
