//! A machine-to-machine application and the scopes that its roles grant.

use std::fmt;

/// A machine-to-machine application of a [`TestIssuer`](crate::testing::TestIssuer): its
/// credentials and the scopes that its roles grant.
///
/// The token endpoint adds a scope to a token only if the scope is both granted and requested.
/// Logto does the same.
///
/// ```
/// use tower_logto::testing::TestApp;
///
/// let app = TestApp::new("reporting", "reporting-secret")
///     .grant("https://shopping.api", ["read:products"])
///     .organization("acme", ["invite:member"])
///     .organization_grant("acme", "https://shopping.api", ["write:products"]);
/// ```
#[derive(Clone)]
#[must_use = "pass the application to TestIssuerBuilder::app"]
pub struct TestApp {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) expired: bool,
    grants: Vec<Grant>,
}

/// The scopes that one role grants.
///
/// Without a resource, the scopes are organization permissions. Without an organization, the role
/// is a global role.
#[derive(Debug, Clone)]
struct Grant {
    organization: Option<String>,
    resource: Option<String>,
    scopes: Vec<String>,
}

impl TestApp {
    /// Creates an application without roles.
    ///
    /// The secret is a plain `String`, because it exists only in your test and protects nothing.
    /// `Debug` does not print the secret.
    pub fn new(app_id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { id: app_id.into(), secret: secret.into(), expired: false, grants: Vec::new() }
    }

    /// Grants scopes of a global API resource.
    pub fn grant<'a>(
        self,
        resource: impl Into<String>,
        scopes: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        self.add(None, Some(resource.into()), scopes)
    }

    /// Makes the application a member of an organization, and grants permissions of this
    /// organization.
    pub fn organization<'a>(
        self,
        id: impl Into<String>,
        scopes: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        self.add(Some(id.into()), None, scopes)
    }

    /// Makes the application a member of an organization, and grants scopes of an
    /// organization-level API resource. The scopes are granted only in this organization.
    pub fn organization_grant<'a>(
        self,
        id: impl Into<String>,
        resource: impl Into<String>,
        scopes: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        self.add(Some(id.into()), Some(resource.into()), scopes)
    }

    /// Marks the secret as expired. The token endpoint then responds with 400.
    pub const fn expired_secret(mut self) -> Self {
        self.expired = true;
        self
    }

    pub(super) fn is_member_of(&self, organization: &str) -> bool {
        self.grants.iter().any(|grant| grant.organization.as_deref() == Some(organization))
    }

    /// Returns the scopes that are granted for exactly this organization and resource, in the order
    /// of the roles.
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

    /// Returns the resources of all grants.
    pub(super) fn resources(&self) -> impl Iterator<Item = &String> {
        self.grants.iter().filter_map(|grant| grant.resource.as_ref())
    }

    /// Returns the organization permissions of all grants.
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
