//! The parameters of a token request: the resource, the organization and the scopes.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use form_urlencoded::Serializer;

use crate::{
    issuer::ORGANIZATION_AUDIENCE,
    scope::{ScopeSet, is_scope_token},
};

/// The API, the organization and the scopes for which a machine-to-machine token is requested.
/// Equal requests share one cached token.
///
/// Logto has three permission models, and a built-in API resource for its Management API. The
/// following methods create the request for each kind of token:
///
/// | token for | created with |
/// |---|---|
/// | a global API resource | [`resource`](Self::resource) |
/// | an organization's permissions | [`organization`](Self::organization) |
/// | an organization-level API resource | `resource` and [`in_organization`](Self::in_organization) |
/// | the Management API in Logto Cloud | [`management_api`](Self::management_api) |
/// | the Management API in self-hosted Logto | [`self_hosted_management_api`][self-hosted] |
///
/// [self-hosted]: Self::self_hosted_management_api
///
/// Logto grants only scopes that the request contains. The order of the scopes does not matter.
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
#[must_use]
pub struct TokenRequest {
    resource: Option<Box<str>>,
    organization: Option<Box<str>>,
    scopes: BTreeSet<Box<str>>,
    optional_scopes: BTreeSet<Box<str>>,
}

impl TokenRequest {
    /// Requests a token for the API with this resource indicator (RFC 8707 §2). Logto compares the
    /// indicator byte for byte with the registered indicator.
    pub fn resource(indicator: impl Into<String>) -> Self {
        Self::new(Some(indicator.into()), None)
    }

    /// Requests a token for the permissions of the organization with this id. The token is not for
    /// an API resource.
    pub fn organization(id: impl Into<String>) -> Self {
        Self::new(None, Some(id.into()))
    }

    /// Requests a token with the scope `all` for the Management API of the tenant with this id in
    /// Logto Cloud.
    ///
    /// The resource indicator is `https://TENANT.logto.app/api`, even if the tenant has a custom
    /// domain.
    pub fn management_api(tenant: &str) -> Self {
        Self::resource(format!("https://{tenant}.logto.app/api")).scopes(["all"])
    }

    /// Requests a token with the scope `all` for the Management API of self-hosted Logto.
    ///
    /// The resource indicator is always `https://default.logto.app/api`, regardless of the address
    /// of the installation.
    pub fn self_hosted_management_api() -> Self {
        Self::management_api("default")
    }

    /// Adds scopes that the token must have.
    ///
    /// If the app's roles do not include a scope, Logto still responds with `200`, but does not
    /// grant that scope. The client then returns an error of the kind
    /// [`MissingScopes`](crate::m2m::TokenRequestErrorKind::MissingScopes), which lists the missing
    /// scopes. For scopes that are not required, use [`optional_scopes`](Self::optional_scopes).
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes.extend(scopes.into_iter().map(|scope| scope.into().into_boxed_str()));
        self
    }

    /// Adds scopes that are requested but not required.
    /// [`IssuedToken::scopes`](crate::m2m::IssuedToken::scopes) returns the scopes that were
    /// granted.
    pub fn optional_scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.optional_scopes.extend(scopes.into_iter().map(|scope| scope.into().into_boxed_str()));
        self
    }

    /// Requests a token for the resource in one organization. Logto then grants only scopes that
    /// the app's roles in this organization include.
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

    /// Returns the required scopes that are not among the granted scopes.
    pub(crate) fn missing_scopes(&self, granted: ScopeSet<'_>) -> Box<[Box<str>]> {
        self.scopes.iter().filter(|scope| !granted.contains(scope)).cloned().collect()
    }

    /// Appends the resource, the organization id and the scopes to the form-encoded body of the
    /// HTTP request (RFC 6749 §4.4.2).
    pub(crate) fn append_to(&self, form: &mut Serializer<'_, String>) {
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

    /// Checks the request before it is sent. The error says what is wrong.
    pub(crate) fn check(&self) -> Result<(), Cow<'static, str>> {
        for (value, name) in [(&self.resource, "resource"), (&self.organization, "organization")] {
            let Some(value) = value else { continue };
            if value.is_empty() {
                let advice =
                    "specify an API by its resource indicator, and an organization by its id";
                return Err(format!("the {name} is empty: {advice}").into());
            }
            if value.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(
                    format!("the {name} must not contain spaces or control characters").into()
                );
            }
        }
        let resource = self.resource.as_deref().unwrap_or_default();
        if resource.starts_with(ORGANIZATION_AUDIENCE) {
            return Err(
                "the resource is an organization: use TokenRequest::organization(id)".into()
            );
        }
        if resource.starts_with("urn:logto:resource:") {
            return Err("the resource is reserved: no service should accept tokens for it".into());
        }
        let mut scopes = self.scopes.union(&self.optional_scopes);
        if let Some(scope) = scopes.find(|scope| !is_scope_token(scope)) {
            return Err(
                format!("{scope:?} is not one scope: pass each scope as a separate item").into()
            );
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

/// Shows the resource and the organization, without the scopes.
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
        request.append_to(&mut form);
        form.finish()
    }

    #[test]
    fn each_kind_of_request_sends_its_parameters() {
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
    fn invalid_request_is_refused() {
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
    fn only_required_scopes_can_be_missing() {
        let request = TokenRequest::organization("acme").scopes(["a", "b"]).optional_scopes(["c"]);
        assert_eq!(*request.missing_scopes(ScopeSet::new("b")), [Box::from("a")]);
        assert!(request.missing_scopes(ScopeSet::new("b a")).is_empty());
    }
}
