//! What an access token is asked for: resource, organization, scopes.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use form_urlencoded::Serializer;

use crate::{issuer::ORGANIZATION_AUDIENCE, scope};

/// What a machine-to-machine access token is asked for; equal requests share one token.
///
/// Logto has three permission models, and its Management API is a resource of its own:
///
/// | for | ask with |
/// |---|---|
/// | a global API resource | [`resource`](Self::resource) |
/// | organization permissions | [`organization`](Self::organization) |
/// | an organization-level API resource | `resource(…)`[`.in_organization(…)`](Self::in_organization) |
/// | the Management API | [`management_api`](Self::management_api), [`self_hosted_management_api`](Self::self_hosted_management_api) |
///
/// Logto grants only scopes that are asked for. The order of scopes has no meaning.
///
/// ```
/// use tower_logto::m2m::TokenRequest;
///
/// let read = TokenRequest::resource("https://shopping.api").scopes(["read:products"]);
/// let invite = TokenRequest::organization("acme").scopes(["invite:member"]);
/// let orders = TokenRequest::resource("https://shopping.api")
///     .in_organization("acme")
///     .scopes(["read:orders", "write:orders"]);
/// assert_eq!(orders, orders.clone().scopes(["write:orders", "read:orders"]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenRequest {
    resource: Option<Box<str>>,
    organization: Option<Box<str>>,
    scopes: BTreeSet<Box<str>>,
    optional_scopes: BTreeSet<Box<str>>,
}

impl TokenRequest {
    /// For an API: its resource indicator (RFC 8707 §2), byte for byte as it is registered.
    pub fn resource(indicator: impl Into<String>) -> Self {
        Self::new(Some(indicator.into()), None)
    }

    /// For an organization's own (non-API) permissions, by the organization's id.
    pub fn organization(id: impl Into<String>) -> Self {
        Self::new(None, Some(id.into()))
    }

    /// For the Management API of a tenant in Logto Cloud, by the tenant's id, with the scope `all`.
    ///
    /// A tenant with a custom domain keeps `https://TENANT.logto.app/api` as the indicator.
    #[must_use]
    pub fn management_api(tenant: &str) -> Self {
        Self::resource(format!("https://{tenant}.logto.app/api")).scopes(["all"])
    }

    /// For the Management API of a self-hosted Logto, with the scope `all`. Its indicator is
    /// `https://default.logto.app/api`, wherever it runs.
    #[must_use]
    pub fn self_hosted_management_api() -> Self {
        Self::management_api("default")
    }

    /// Scopes the token must have.
    ///
    /// Logto leaves out, with status 200, what the app's roles do not give. A token without them
    /// would be refused later, elsewhere, as a 403 of the other service; so that is an error here,
    /// which names them: [`MissingScopes`](crate::m2m::TokenRequestErrorKind::MissingScopes). Where
    /// less will do, say so with [`optional_scopes`](Self::optional_scopes).
    #[must_use]
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes.extend(scopes.into_iter().map(|scope| scope.into().into_boxed_str()));
        self
    }

    /// Scopes the token may lack; [`IssuedToken::scopes`](crate::m2m::IssuedToken::scopes) says which
    /// were granted.
    #[must_use]
    pub fn optional_scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.optional_scopes.extend(scopes.into_iter().map(|scope| scope.into().into_boxed_str()));
        self
    }

    /// Makes it a request for an organization-level API resource: the scopes are those that the
    /// app's roles in this organization give.
    #[must_use]
    pub fn in_organization(mut self, id: impl Into<String>) -> Self {
        self.organization = Some(id.into().into());
        self
    }

    pub(crate) const fn has_organization(&self) -> bool {
        self.organization.is_some()
    }

    pub(crate) fn is_for_management_api(&self) -> bool {
        let resource = self.resource.as_deref().unwrap_or_default();
        resource.starts_with("https://") && resource.ends_with(".logto.app/api")
    }

    /// The required scopes that this `scope` does not hold.
    pub(crate) fn missing(&self, granted: scope::ScopeSet<'_>) -> Box<[Box<str>]> {
        self.scopes.iter().filter(|scope| !granted.contains(scope)).cloned().collect()
    }

    /// Adds what is asked for to a form of RFC 6749 §4.4.2.
    pub(crate) fn write(&self, form: &mut Serializer<'_, String>) {
        let parameters = [("resource", &self.resource), ("organization_id", &self.organization)];
        for (name, value) in parameters {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        let scopes = self.scopes.union(&self.optional_scopes).map(AsRef::as_ref);
        let scopes = scopes.collect::<Vec<&str>>().join(" ");
        if !scopes.is_empty() {
            form.append_pair("scope", &scopes);
        }
    }

    /// Why it cannot work, if so; found before anything is sent.
    pub(crate) fn check(&self) -> Result<(), Cow<'static, str>> {
        for (value, name) in [(&self.resource, "resource"), (&self.organization, "organization")] {
            let Some(value) = value else { continue };
            if value.is_empty() {
                return Err(format!(
                    "the {name} is empty: name an API by its resource indicator, an organization \
                     by its id, or both"
                )
                .into());
            }
            if value.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(format!("the {name} holds spaces or control characters").into());
            }
        }
        let resource = self.resource.as_deref().unwrap_or_default();
        if resource.starts_with(ORGANIZATION_AUDIENCE) {
            return Err("an organization is no resource: use TokenRequest::organization(id)".into());
        }
        if resource.starts_with("urn:logto:resource:") {
            return Err("a reserved resource, whose tokens no service should accept".into());
        }
        let mut scopes = self.scopes.union(&self.optional_scopes);
        if let Some(scope) = scopes.find(|scope| !scope::is_scope_token(scope)) {
            return Err(format!("{scope:?} is not one scope: pass several as several items").into());
        }
        Ok(())
    }

    fn new(resource: Option<String>, organization: Option<String>) -> Self {
        Self {
            resource: resource.map(Into::into),
            organization: organization.map(Into::into),
            scopes: BTreeSet::new(),
            optional_scopes: BTreeSet::new(),
        }
    }
}

/// What it is for, without the scopes.
impl fmt::Display for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.resource, &self.organization) {
            (Some(resource), Some(organization)) => {
                write!(f, "{resource:?} in organization {organization:?}")
            }
            (Some(resource), None) => write!(f, "{resource:?}"),
            (None, organization) => {
                write!(f, "organization {:?}", organization.as_deref().unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(request: &TokenRequest) -> String {
        let mut form = Serializer::new(String::new());
        request.write(&mut form);
        form.finish()
    }

    #[test]
    fn each_kind_has_its_parameters() {
        let shopping = || TokenRequest::resource("https://shopping.api");
        for (request, parameters) in [
            (shopping(), "resource=https%3A%2F%2Fshopping.api"),
            (shopping().scopes(["b", "a"]), "resource=https%3A%2F%2Fshopping.api&scope=a+b"),
            (
                shopping().scopes(["b"]).optional_scopes(["c", "b", "a"]),
                "resource=https%3A%2F%2Fshopping.api&scope=a+b+c",
            ),
            (
                shopping().in_organization("acme"),
                "resource=https%3A%2F%2Fshopping.api&organization_id=acme",
            ),
            (TokenRequest::organization("a&b=c"), "organization_id=a%26b%3Dc"),
            (
                TokenRequest::management_api("shop"),
                "resource=https%3A%2F%2Fshop.logto.app%2Fapi&scope=all",
            ),
            (
                TokenRequest::self_hosted_management_api(),
                "resource=https%3A%2F%2Fdefault.logto.app%2Fapi&scope=all",
            ),
        ] {
            request.check().unwrap();
            assert_eq!(form(&request), parameters);
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (request, advice) in [
            (TokenRequest::resource(""), "the resource is empty"),
            (TokenRequest::organization(""), "the organization is empty"),
            (TokenRequest::resource("https://a").in_organization(""), "the organization is empty"),
            (TokenRequest::resource("https://a "), "spaces"),
            (TokenRequest::resource("urn:logto:organization:acme"), "organization(id)"),
            (TokenRequest::resource("urn:logto:resource:organizations"), "reserved"),
            (TokenRequest::resource("https://a").scopes(["a b"]), "\"a b\" is not one scope"),
            (TokenRequest::resource("https://a").optional_scopes([""]), "not one scope"),
        ] {
            let error = request.check().unwrap_err();
            assert!(error.contains(advice), "{error}");
        }
    }

    #[test]
    fn only_what_is_required_can_be_missing() {
        let request = TokenRequest::organization("acme").scopes(["a", "b"]).optional_scopes(["c"]);
        assert_eq!(*request.missing(scope::ScopeSet::new("b")), [Box::from("a")]);
        assert!(request.missing(scope::ScopeSet::new("b a")).is_empty());
    }
}
