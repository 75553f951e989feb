//! The protected resource metadata document (RFC 9728).

use serde::Serialize;
use url::Url;

use crate::issuer::Issuer;

/// The protected resource metadata document (RFC 9728 §2), which lists the API's issuers and
/// scopes.
///
/// A client finds the document through the `resource_metadata` parameter of a challenge. Set the
/// document's public URL with
/// [`ValidatorBuilder::resource_metadata`](crate::ValidatorBuilder::resource_metadata).
///
/// ```
/// use tower_logto::{Issuer, ProtectedResourceMetadata};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let metadata = ProtectedResourceMetadata::new("https://shopping.api", [&issuer])
///     .scopes(["read:products", "write:products"])
///     .name("Shopping");
/// assert_eq!(metadata.path(), "/.well-known/oauth-protected-resource");
/// let app: axum::Router = metadata.router();
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[derive(Debug, Clone, Serialize)]
#[must_use = "the document is not served; use router() or to_json()"]
pub struct ProtectedResourceMetadata {
    resource: String,
    authorization_servers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<String>,
    bearer_methods_supported: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_documentation: Option<String>,
}

impl ProtectedResourceMetadata {
    /// Creates the document of an API. `resource` is the API's resource indicator, and `issuers`
    /// are the issuers of the tokens that the API accepts.
    pub fn new<'a>(
        resource: impl Into<String>,
        issuers: impl IntoIterator<Item = &'a Issuer>,
    ) -> Self {
        Self {
            resource: resource.into(),
            authorization_servers: issuers.into_iter().map(ToString::to_string).collect(),
            scopes_supported: Vec::new(),
            bearer_methods_supported: ["header"],
            resource_name: None,
            resource_documentation: None,
        }
    }

    /// Sets `scopes_supported`: the scopes that a client may request.
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes_supported = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Sets `resource_name`: a name to show to end users.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.resource_name = Some(name.into());
        self
    }

    /// Sets `resource_documentation`: the URL of a page for developers.
    pub fn documentation(mut self, url: impl Into<String>) -> Self {
        self.resource_documentation = Some(url.into());
        self
    }

    /// Returns the document as JSON.
    pub fn to_json(&self) -> String {
        // Serializing strings and lists of strings cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns the path of the document (RFC 9728 §3.1). If the resource indicator has a path, that
    /// path is appended to the well-known path.
    pub fn path(&self) -> String {
        let url = Url::parse(&self.resource).ok().filter(|url| url.has_host());
        let path = url.as_ref().map_or("", |url| url.path().trim_end_matches('/'));
        format!("/.well-known/oauth-protected-resource{path}")
    }

    /// Returns a router that serves the document for GET and HEAD. The CORS header of the response
    /// allows every origin.
    ///
    /// Merge the router outside [`AuthLayer`](crate::AuthLayer), because clients request the
    /// document without a token.
    ///
    /// # Panics
    /// Panics if a segment of the resource indicator's path begins with `:` or `*`. Axum does not
    /// accept such a route.
    #[cfg(feature = "axum")]
    #[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> axum::Router<S> {
        use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE};

        let document = self.to_json();
        let respond = move || {
            let headers = [(CONTENT_TYPE, "application/json"), (ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
            std::future::ready((headers, document.clone()))
        };
        axum::Router::new().route(&self.path(), axum::routing::get(respond))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_9728_section_3_1_paths() {
        for (resource, path) in [
            ("https://shopping.api", "/.well-known/oauth-protected-resource"),
            ("https://shopping.api/", "/.well-known/oauth-protected-resource"),
            ("https://shopping.api/v1/", "/.well-known/oauth-protected-resource/v1"),
            ("https://shopping.api/a/b?c=d", "/.well-known/oauth-protected-resource/a/b"),
            ("urn:shopping:api", "/.well-known/oauth-protected-resource"),
        ] {
            assert_eq!(ProtectedResourceMetadata::new(resource, []).path(), path, "{resource}");
        }
    }

    #[test]
    fn rfc_9728_section_2_document() {
        let issuer = Issuer::logto("https://tenant.logto.app").unwrap();
        let metadata = ProtectedResourceMetadata::new("https://shopping.api", [&issuer]);
        assert_eq!(
            metadata.to_json(),
            r#"{"resource":"https://shopping.api","authorization_servers":["https://tenant.logto.app/oidc"],"bearer_methods_supported":["header"]}"#
        );
        let full = metadata.scopes(["a", "b"]).name("Shop").documentation("https://shop/docs");
        let json: serde_json::Value = serde_json::from_str(&full.to_json()).unwrap();
        assert_eq!(json["scopes_supported"], serde_json::json!(["a", "b"]));
        assert_eq!(json["resource_name"], "Shop");
        assert_eq!(json["resource_documentation"], "https://shop/docs");
    }
}
