//! Builds valid and invalid tokens.

use std::{iter, sync::Arc, time::Duration};

use serde_json::Value;

use crate::{
    Clock, Issuer,
    issuer::ORGANIZATION_AUDIENCE,
    testing::{
        key::SigningKey,
        server::{
            json::{OrderedObject, base64url},
            state::MANAGEMENT_API,
        },
    },
};

/// Builds a token. [`TestIssuer::token`](crate::testing::TestIssuer::token) returns a builder.
///
/// Without further settings, the token is like a token that Logto issues to a machine. It has the
/// same header members, and the same claims in the same order. You can make every part of the token
/// invalid.
///
/// ```
/// use tower_logto::testing::TestIssuer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let issuer = TestIssuer::start().await?;
/// let validator = issuer.validator("https://shopping.api")?;
///
/// let user = issuer.token().subject("alice").claim("roles", serde_json::json!(["admin"])).build();
/// assert!(!validator.validate(&user).await?.is_machine());
///
/// let expired = issuer.token().expired().build();
/// assert_eq!(validator.validate(&expired).await.unwrap_err().status(), 401);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "call build() to get the token"]
pub struct TokenBuilder {
    issuer: String,
    key: SigningKey,
    clock: Arc<dyn Clock>,
    is_id_token: bool,
    audience: String,
    organization_id: Option<String>,
    scope: Option<String>,
    client_id: String,
    subject: Option<String>,
    lifetime: Duration,
    expired: bool,
    /// The changes to the header, in the order in which they are applied. A change without a value
    /// removes the member.
    header: Vec<(String, Option<Value>)>,
    /// The changes to the claims, in the same form as the changes to the header.
    claims: Vec<(String, Option<Value>)>,
    raw_header: Option<String>,
    raw_payload: Option<String>,
    signature: Signature,
}

#[derive(Debug, Clone, Copy)]
enum Signature {
    Good,
    Bad,
    Absent,
}

impl TokenBuilder {
    pub(super) fn new(
        issuer: &Issuer,
        key: SigningKey,
        clock: &Arc<dyn Clock>,
        lifetime: Duration,
    ) -> Self {
        Self {
            issuer: issuer.as_str().into(),
            key,
            clock: Arc::clone(clock),
            is_id_token: false,
            audience: "https://shopping.api".into(),
            organization_id: None,
            scope: None,
            client_id: "test-application".into(),
            subject: None,
            lifetime,
            expired: false,
            header: Vec::new(),
            claims: Vec::new(),
            raw_header: None,
            raw_payload: None,
            signature: Signature::Good,
        }
    }

    pub(super) fn into_id_token(mut self) -> Self {
        self.is_id_token = true;
        self.subject = Some("test-user".into());
        self
    }

    /// Sets the API resource, `aud`. The default is `https://shopping.api`.
    pub fn audience(mut self, resource: impl Into<String>) -> Self {
        self.audience = resource.into();
        self
    }

    /// Makes the builder create a token for an organization-level API resource. Adds the claim
    /// `organization_id`.
    pub fn organization_resource(mut self, id: impl Into<String>) -> Self {
        self.organization_id = Some(id.into());
        self
    }

    /// Makes the builder create a token with organization permissions.
    ///
    /// `aud` is `urn:logto:organization:ID`, and the token has no claim `organization_id`. Without
    /// scopes, `scope` is the empty string.
    pub fn organization_permissions(mut self, id: impl AsRef<str>) -> Self {
        self.audience = format!("{ORGANIZATION_AUDIENCE}{}", id.as_ref());
        self.organization_id = None;
        self
    }

    /// Makes the builder create a token for Logto's Management API, with the scope `all`.
    pub fn management_api(self) -> Self {
        self.audience(MANAGEMENT_API).scopes(["all"])
    }

    /// Sets the scopes. Without scopes, the token has no `scope` claim, unless it is a token with
    /// [`organization_permissions`](Self::organization_permissions).
    pub fn scopes<'a>(mut self, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        let scopes: Vec<_> = scopes.into_iter().collect();
        self.scope = if scopes.is_empty() { None } else { Some(scopes.join(" ")) };
        self
    }

    /// Sets `sub`, which makes the token a user's token. In an access token, `sub` equals
    /// `client_id` by default, which makes the token a machine's token. In an ID token, the default
    /// is `test-user`.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Sets `client_id`, the id of the application that requested the token. The default is
    /// `test-application`.
    pub fn client_id(mut self, app_id: impl Into<String>) -> Self {
        self.client_id = app_id.into();
        self
    }

    /// Sets the time from `iat` to `exp`, in whole seconds. The default is the issuer's
    /// [`token_ttl`](crate::testing::TestIssuerBuilder::token_ttl).
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sets `exp` to one hour before the current time, and sets `iat` to `exp` minus the
    /// [`lifetime`](Self::lifetime).
    pub fn expired(mut self) -> Self {
        self.expired = true;
        self
    }

    /// Sets any claim. If the token does not have the claim yet, the builder adds the claim in
    /// front of the other claims, because Logto writes custom claims there.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.push((name.into(), Some(value.into())));
        self
    }

    /// Removes a claim.
    pub fn without_claim(mut self, name: impl Into<String>) -> Self {
        self.claims.push((name.into(), None));
        self
    }

    /// Sets a member of the header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.header.push((name.into(), Some(value.into())));
        self
    }

    /// Removes a member of the header.
    pub fn without_header(mut self, name: impl Into<String>) -> Self {
        self.header.push((name.into(), None));
        self
    }

    /// Sets `typ`. The default is `at+jwt` for an access token, and `JWT` for an ID token.
    pub fn typ(self, typ: impl Into<String>) -> Self {
        self.header("typ", typ.into())
    }

    /// Sets `kid`. The default is the `kid` of the signing key.
    pub fn kid(self, kid: impl Into<String>) -> Self {
        self.header("kid", kid.into())
    }

    /// Replaces the whole payload with this text, which may be invalid JSON. If you call this
    /// method, the other methods that set or remove claims have no effect.
    pub fn raw_payload(mut self, text: impl Into<String>) -> Self {
        self.raw_payload = Some(text.into());
        self
    }

    /// Replaces the whole header with this text, which may be invalid JSON. If you call this
    /// method, the other methods that set or remove members of the header have no effect.
    pub fn raw_header(mut self, text: impl Into<String>) -> Self {
        self.raw_header = Some(text.into());
        self
    }

    /// Signs the token with this key instead of the issuer's key, and sets `alg` and `kid`
    /// accordingly.
    pub fn signed_by(mut self, key: &SigningKey) -> Self {
        self.key = key.clone();
        self
    }

    /// Flips one bit of the signature.
    pub fn bad_signature(mut self) -> Self {
        self.signature = Signature::Bad;
        self
    }

    /// Sets `alg` to `none` and leaves the signature empty (RFC 7518 §3.6).
    pub fn unsigned_alg_none(mut self) -> Self {
        self.signature = Signature::Absent;
        self.header("alg", "none")
    }

    /// Signs the token, and returns it in compact form (RFC 7515 §7.1).
    pub fn build(self) -> String {
        let header = self.raw_header.clone().unwrap_or_else(|| self.header_json());
        let payload = self.raw_payload.clone().unwrap_or_else(|| self.payload_json());
        let signed = format!("{}.{}", base64url(header), base64url(payload));
        let mut signature = self.key.sign(signed.as_bytes());
        match self.signature {
            Signature::Good => {}
            Signature::Bad => {
                let middle = signature.len() / 2;
                signature[middle] ^= 1;
            }
            Signature::Absent => signature.clear(),
        }
        format!("{signed}.{}", base64url(signature))
    }

    fn header_json(&self) -> String {
        let mut header = OrderedObject::from_iter([
            ("alg", self.key.algorithm().name()),
            ("typ", if self.is_id_token { "JWT" } else { "at+jwt" }),
            ("kid", self.key.kid()),
        ]);
        for (name, value) in &self.header {
            header.edit(name, value.clone());
        }
        header.to_json()
    }

    fn payload_json(&self) -> String {
        let now = self.clock.unix_time().as_secs();
        let lifetime = self.lifetime.as_secs();
        let (issued, expires) = if self.expired {
            let expired = now.saturating_sub(HOUR);
            (expired.saturating_sub(lifetime), expired)
        } else {
            (now, now.saturating_add(lifetime))
        };
        let subject = self.subject.as_ref().unwrap_or(&self.client_id);
        let mut claims = if self.is_id_token {
            self.id_claims(subject, issued, expires)
        } else {
            self.access_claims(subject, issued, expires)
        };
        for (name, value) in &self.claims {
            claims.edit(name, value.clone());
        }
        claims.to_json()
    }

    /// Returns the claims of an access token in Logto's order.
    fn access_claims(&self, subject: &str, issued: u64, expires: u64) -> OrderedObject {
        let of_organization = self.audience.starts_with(ORGANIZATION_AUDIENCE);
        let scope = self.scope.as_deref().or(of_organization.then_some(""));
        let mut claims = OrderedObject::default();
        if let Some(id) = &self.organization_id {
            claims.push("organization_id", id.as_str());
        }
        claims.push("jti", random_id(21));
        claims.push("sub", subject);
        claims.push("iat", issued);
        claims.push("exp", expires);
        if let Some(scope) = scope {
            claims.push("scope", scope);
        }
        claims.push("client_id", self.client_id.as_str());
        claims.push("iss", self.issuer.as_str());
        claims.push("aud", self.audience.as_str());
        claims
    }

    /// Returns the claims of an ID token in Logto's order.
    fn id_claims(&self, subject: &str, issued: u64, expires: u64) -> OrderedObject {
        let mut claims = OrderedObject::default();
        claims.push("sub", subject);
        claims.push("at_hash", random_id(32));
        claims.push("aud", self.client_id.as_str());
        claims.push("exp", expires);
        claims.push("iat", issued);
        claims.push("iss", self.issuer.as_str());
        claims
    }
}

/// Returns a random string of the characters that Logto uses in its IDs.
pub(super) fn random_id(length: usize) -> String {
    iter::repeat_with(|| char::from(ALPHABET[fastrand::usize(..ALPHABET.len())]))
        .take(length)
        .collect()
}

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
const HOUR: u64 = 3600;
