//! A machine-to-machine application and what its roles give it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// A machine-to-machine application of a [`TestIssuer`](super::TestIssuer): its credentials and
/// what its roles grant.
///
/// A scope is given to a token when it was granted *and* asked for, as Logto does.
///
/// ```
/// use tower_logto::testing::TestApp;
///
/// let app = TestApp::new("reporting", "its secret")
///     .grant("https://shopping.api", ["read:products"])
///     .organization("acme", ["invite:member"])
///     .organization_grant("acme", "https://shopping.api", ["write:products"]);
/// ```
#[derive(Clone)]
pub struct TestApp {
    id: String,
    secret: String,
    expired: bool,
    /// By resource indicator.
    grants: BTreeMap<String, Vec<String>>,
    /// By organization.
    organizations: BTreeMap<String, Membership>,
}

#[derive(Debug, Clone, Default)]
struct Membership {
    scopes: Vec<String>,
    grants: BTreeMap<String, Vec<String>>,
}

impl TestApp {
    /// An application without any role.
    #[must_use]
    pub fn new(app_id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            id: app_id.into(),
            secret: secret.into(),
            expired: false,
            grants: BTreeMap::new(),
            organizations: BTreeMap::new(),
        }
    }

    /// Its roles grant these scopes of a global API resource.
    #[must_use]
    pub fn grant<'a>(
        mut self,
        resource: impl Into<String>,
        scopes: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let granted = self.grants.entry(resource.into()).or_default();
        granted.extend(scopes.into_iter().map(str::to_owned));
        self
    }

    /// It is a member of an organization, and its organization roles grant these organization
    /// permissions.
    #[must_use]
    pub fn organization<'a>(
        mut self,
        id: impl Into<String>,
        scopes: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let membership = self.organizations.entry(id.into()).or_default();
        membership.scopes.extend(scopes.into_iter().map(str::to_owned));
        self
    }

    /// It is a member of an organization, and its organization roles grant these scopes of an
    /// organization-level API resource.
    #[must_use]
    pub fn organization_grant<'a>(
        mut self,
        id: impl Into<String>,
        resource: impl Into<String>,
        scopes: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let membership = self.organizations.entry(id.into()).or_default();
        let granted = membership.grants.entry(resource.into()).or_default();
        granted.extend(scopes.into_iter().map(str::to_owned));
        self
    }

    /// Its secret is the right one, but has expired.
    #[must_use]
    pub const fn expired_secret(mut self) -> Self {
        self.expired = true;
        self
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn has_secret(&self, secret: &str) -> bool {
        self.secret == secret
    }

    pub(super) const fn is_expired(&self) -> bool {
        self.expired
    }

    pub(super) fn is_member_of(&self, organization: &str) -> bool {
        self.organizations.contains_key(organization)
    }

    /// The scopes of a resource, from the roles of one organization if one is named.
    pub(super) fn granted(&self, resource: &str, organization: Option<&str>) -> &[String] {
        let grants = match organization {
            None => Some(&self.grants),
            Some(id) => self.organizations.get(id).map(|membership| &membership.grants),
        };
        grants.and_then(|grants| grants.get(resource)).map_or(&[], Vec::as_slice)
    }

    /// The organization permissions in one organization.
    pub(super) fn organization_scopes(&self, organization: &str) -> &[String] {
        self.organizations.get(organization).map_or(&[], |membership| &membership.scopes)
    }

    /// Every resource that some grant mentions.
    pub(super) fn resources(&self) -> impl Iterator<Item = &String> {
        let in_organizations = self.organizations.values().flat_map(|own| own.grants.keys());
        self.grants.keys().chain(in_organizations)
    }

    /// Every organization permission that some role mentions.
    pub(super) fn all_organization_scopes(&self) -> BTreeSet<&String> {
        self.organizations.values().flat_map(|membership| &membership.scopes).collect()
    }
}

impl fmt::Debug for TestApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestApp")
            .field("id", &self.id)
            .field("grants", &self.grants)
            .field("organizations", &self.organizations)
            .finish_non_exhaustive()
    }
}
