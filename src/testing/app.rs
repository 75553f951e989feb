//! A machine-to-machine application and what its roles give it.

use std::fmt;

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
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) expired: bool,
    grants: Vec<Grant>,
}

/// Scopes of a resource, or organization permissions where none is named; from the roles of an
/// organization, or the global ones.
#[derive(Debug, Clone)]
struct Grant {
    organization: Option<String>,
    resource: Option<String>,
    scopes: Vec<String>,
}

impl TestApp {
    /// An application without any role.
    #[must_use]
    pub fn new(app_id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { id: app_id.into(), secret: secret.into(), expired: false, grants: Vec::new() }
    }

    /// Its roles grant these scopes of a global API resource.
    #[must_use]
    pub fn grant<'a>(
        self,
        resource: impl Into<String>,
        scopes: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        self.add(None, Some(resource.into()), scopes)
    }

    /// It is a member of an organization, and its organization roles grant these organization
    /// permissions.
    #[must_use]
    pub fn organization<'a>(
        self,
        id: impl Into<String>,
        scopes: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        self.add(Some(id.into()), None, scopes)
    }

    /// It is a member of an organization, and its organization roles grant these scopes of an
    /// organization-level API resource.
    #[must_use]
    pub fn organization_grant<'a>(
        self,
        id: impl Into<String>,
        resource: impl Into<String>,
        scopes: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        self.add(Some(id.into()), Some(resource.into()), scopes)
    }

    /// Its secret is the right one, but has expired.
    #[must_use]
    pub const fn expired_secret(mut self) -> Self {
        self.expired = true;
        self
    }

    pub(super) fn is_member_of(&self, organization: &str) -> bool {
        self.grants.iter().any(|grant| grant.organization.as_deref() == Some(organization))
    }

    /// What was granted for just these two, in the order of the roles.
    pub(super) fn granted(
        &self,
        organization: Option<&str>,
        resource: Option<&str>,
    ) -> impl Iterator<Item = &str> {
        let grants = self.grants.iter().filter(move |grant| {
            grant.organization.as_deref() == organization && grant.resource.as_deref() == resource
        });
        grants.flat_map(|grant| &grant.scopes).map(String::as_str)
    }

    /// Every resource that some grant mentions.
    pub(super) fn resources(&self) -> impl Iterator<Item = &String> {
        self.grants.iter().filter_map(|grant| grant.resource.as_ref())
    }

    /// Every organization permission that some role mentions.
    pub(super) fn organization_permissions(&self) -> impl Iterator<Item = &str> {
        let permissions = self.grants.iter().filter(|grant| grant.resource.is_none());
        permissions.flat_map(|grant| &grant.scopes).map(String::as_str)
    }

    fn add<'a>(
        mut self,
        organization: Option<String>,
        resource: Option<String>,
        scopes: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let scopes = scopes.into_iter().map(str::to_owned).collect();
        self.grants.push(Grant { organization, resource, scopes });
        self
    }
}

impl fmt::Debug for TestApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestApp")
            .field("id", &self.id)
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}
