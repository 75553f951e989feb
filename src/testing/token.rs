//! Tokens, good and bad.

use std::{iter, sync::Arc, time::Duration};

use serde_json::Value;

use crate::{
    Clock,
    issuer::ORGANIZATION_AUDIENCE,
    testing::{
        SigningKey, TestIssuer,
        issuer::State,
        server::json::{Members, base64url},
    },
};

/// A token to fill in, and then to [`build`](Self::build); from
/// [`TestIssuer::token`](super::TestIssuer::token).
///
/// Untouched it is exactly what Logto gives a machine: the same header, the same claims in the same
/// order. Everything can be made wrong.
///
/// ```
/// use tower_logto::testing::TestIssuer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let issuer = TestIssuer::start().await?;
/// let validator = issuer.validator("https://shopping.api")?;
///
/// let users = issuer.token().subject("alice").claim("roles", serde_json::json!(["admin"])).build();
/// assert!(!validator.validate(&users).await?.is_machine());
///
/// let old = issuer.token().expired().build();
/// assert_eq!(validator.validate(&old).await.unwrap_err().status(), 401);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a token comes from build()"]
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
    /// What to set, or without a value to leave out, in this order.
    header: Vec<(String, Option<Value>)>,
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
    pub(super) fn new(state: &State) -> Self {
        Self {
            issuer: state.issuer.as_str().into(),
            key: state.keys().current.clone(),
            clock: Arc::clone(&state.clock),
            is_id_token: false,
            audience: "https://shopping.api".into(),
            organization_id: None,
            scope: None,
            client_id: "test-application".into(),
            subject: None,
            lifetime: state.token_ttl,
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

    /// For this API resource; `https://shopping.api` if never said.
    pub fn audience(mut self, resource: impl Into<String>) -> Self {
        self.audience = resource.into();
        self
    }

    /// For an organization-level API resource: the claim `organization_id` beside the audience.
    pub fn organization_resource(mut self, id: impl Into<String>) -> Self {
        self.organization_id = Some(id.into());
        self
    }

    /// With an organization's own permissions: `aud` is `urn:logto:organization:ID`, there is no
    /// `organization_id`, and without scopes `scope` is empty.
    pub fn organization_permissions(mut self, id: impl AsRef<str>) -> Self {
        self.audience = format!("{ORGANIZATION_AUDIENCE}{}", id.as_ref());
        self.organization_id = None;
        self
    }

    /// For Logto's Management API, with its scope `all`.
    pub fn management_api(self) -> Self {
        self.audience(TestIssuer::MANAGEMENT_API).scopes(["all"])
    }

    /// With these scopes and no others; without any there is no `scope` claim.
    pub fn scopes<'a>(mut self, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        let scopes: Vec<_> = scopes.into_iter().collect();
        self.scope = if scopes.is_empty() { None } else { Some(scopes.join(" ")) };
        self
    }

    /// Of a user: `sub`, which for a machine is the `client_id`.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Asked for by this application.
    pub fn client_id(mut self, app_id: impl Into<String>) -> Self {
        self.client_id = app_id.into();
        self
    }

    /// `exp` so much after `iat`, in whole seconds; the issuer's token TTL if never said.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Expired an hour ago.
    pub fn expired(mut self) -> Self {
        self.expired = true;
        self
    }

    /// Sets a claim, a standard one included; new ones stand in front, where Logto puts custom
    /// claims.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.push((name.into(), Some(value.into())));
        self
    }

    /// Leaves a claim out.
    pub fn without_claim(mut self, name: impl Into<String>) -> Self {
        self.claims.push((name.into(), None));
        self
    }

    /// Sets a member of the header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.header.push((name.into(), Some(value.into())));
        self
    }

    /// Leaves a member of the header out.
    pub fn without_header(mut self, name: impl Into<String>) -> Self {
        self.header.push((name.into(), None));
        self
    }

    /// `typ`; `at+jwt` if never said.
    pub fn typ(self, typ: impl Into<String>) -> Self {
        self.header("typ", typ.into())
    }

    /// `kid`; the signing key's own if never said.
    pub fn kid(self, kid: impl Into<String>) -> Self {
        self.header("kid", kid.into())
    }

    /// This text as the whole payload, JSON or not; what was said about claims does not count.
    pub fn raw_payload(mut self, text: impl Into<String>) -> Self {
        self.raw_payload = Some(text.into());
        self
    }

    /// This text as the whole header, JSON or not.
    pub fn raw_header(mut self, text: impl Into<String>) -> Self {
        self.raw_header = Some(text.into());
        self
    }

    /// Signed with this key instead of the issuer's: `alg` and `kid` are its own.
    pub fn signed_by(mut self, key: &SigningKey) -> Self {
        self.key = key.clone();
        self
    }

    /// With one bit of the signature wrong.
    pub fn bad_signature(mut self) -> Self {
        self.signature = Signature::Bad;
        self
    }

    /// `alg` is `none` and the signature is empty (RFC 7518 §3.6).
    pub fn unsigned_alg_none(mut self) -> Self {
        self.signature = Signature::Absent;
        self.header("alg", "none")
    }

    /// The token: header, payload and signature (RFC 7515 §7.1).
    #[must_use]
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
        let mut header = Members::from_iter([
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

    /// Logto's claims in Logto's order.
    fn access_claims(&self, subject: &str, issued: u64, expires: u64) -> Members {
        let of_organization = self.audience.starts_with(ORGANIZATION_AUDIENCE);
        let scope = self.scope.as_deref().or(of_organization.then_some(""));
        let mut claims = Members::default();
        if let Some(id) = &self.organization_id {
            claims.push("organization_id", id.as_str());
        }
        claims.push("jti", opaque(21));
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

    fn id_claims(&self, subject: &str, issued: u64, expires: u64) -> Members {
        let mut claims = Members::default();
        claims.push("sub", subject);
        claims.push("at_hash", opaque(32));
        claims.push("aud", self.client_id.as_str());
        claims.push("exp", expires);
        claims.push("iat", issued);
        claims.push("iss", self.issuer.as_str());
        claims
    }
}

/// A random text of the alphabet of Logto's ids.
pub(super) fn opaque(length: usize) -> String {
    iter::repeat_with(|| char::from(ALPHABET[fastrand::usize(..ALPHABET.len())]))
        .take(length)
        .collect()
}

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
const HOUR: u64 = 3600;
