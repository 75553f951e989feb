//! The settings and the state of the issuer, shared by its endpoints and by the test.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use crate::{
    Clock, Issuer,
    testing::{
        app::TestApp,
        server::{fault_switch::FaultSwitch, key_ring::KeyRing},
    },
};

#[derive(Debug)]
pub(crate) struct IssuerState {
    pub(crate) endpoint: String,
    pub(crate) issuer: Issuer,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) apps: Vec<TestApp>,
    /// The indicators of all API resources of the tenant.
    pub(crate) resources: BTreeSet<String>,
    pub(crate) token_ttl: Duration,
    pub(crate) faults: Faults,
    /// The number of responses with status 304.
    pub(crate) not_modified: AtomicU64,
    pub(crate) keys: Mutex<KeyRing>,
}

/// One switch per endpoint.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) discovery: FaultSwitch,
    pub(crate) jwks: FaultSwitch,
    pub(crate) token: FaultSwitch,
    pub(crate) management: FaultSwitch,
}

impl IssuerState {
    pub(crate) fn keys(&self) -> MutexGuard<'_, KeyRing> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The resource indicator of the Management API of a self-hosted Logto.
pub(crate) const MANAGEMENT_API: &str = "https://default.logto.app/api";

/// Logto's reserved resource. Every application may request a token for it, and gets every
/// organization permission of the tenant.
pub(crate) const ORGANIZATIONS_RESOURCE: &str = "urn:logto:resource:organizations";
