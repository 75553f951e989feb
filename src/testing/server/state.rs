//! The settings and the state of the issuer, shared by its endpoints and by the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use serde_json::{Value, json};

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
    pub(crate) users: Mutex<BTreeMap<String, TestUser>>,
    /// The failed webhooks, newest first. Each item is a pair: a webhook's id, and the log entry.
    pub(crate) failed_webhooks: Mutex<Vec<(String, Value)>>,
}

/// A user whom a test changed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TestUser {
    Active {
        is_suspended: bool,
        updated_at: Duration,
    },
    #[cfg_attr(
        not(feature = "revocation"),
        expect(dead_code, reason = "only webhooks delete users, and webhooks need the feature")
    )]
    Deleted,
}

/// The fault switches of the endpoints.
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

    pub(crate) fn users(&self) -> MutexGuard<'_, BTreeMap<String, TestUser>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn failed_webhooks(&self) -> MutexGuard<'_, Vec<(String, Value)>> {
        self.failed_webhooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TestUser {
    #[cfg(feature = "revocation")]
    pub(crate) const fn updated_at(&self) -> Duration {
        match self {
            Self::Active { updated_at, .. } => *updated_at,
            Self::Deleted => Duration::ZERO,
        }
    }

    /// Returns the user as JSON with Logto's member names, or `None` for a deleted user.
    pub(crate) fn to_json(self, id: &str) -> Option<Value> {
        let Self::Active { is_suspended, updated_at } = self else { return None };
        let updated_at = u64::try_from(updated_at.as_millis()).unwrap_or(u64::MAX);
        Some(json!({ "id": id, "isSuspended": is_suspended, "updatedAt": updated_at }))
    }
}

/// The resource indicator of the Management API in self-hosted Logto.
pub(crate) const MANAGEMENT_API: &str = "https://default.logto.app/api";

/// Logto's reserved resource. Every application may request a token for this resource. The token
/// can contain any organization permission of the tenant.
pub(crate) const ORGANIZATIONS_RESOURCE: &str = "urn:logto:resource:organizations";
