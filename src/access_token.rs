//! The validated access token that a handler gets.

use std::{
    borrow::Cow,
    fmt,
    panic::Location,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Extensions;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    bearer::challenge::{ChallengeSettings, GuardsName},
    error::{AuthError, AuthErrorKind, FailedCondition, Identity, Mismatch},
    escape::escaped,
    issuer::Issuer,
    json,
    jwks::{key_set::VerifyingKey, key_store::KeyStore},
    scope::{Scope, ScopePolicy, ScopeSet, TokenKind},
    validator::{
        revocation::Revocable,
        token_claims::{Audiences, Span, TokenClaims},
    },
};

/// A validated access token (RFC 9068): its signature, issuer, audience and lifetime were checked.
///
/// [`AuthLayer`](crate::AuthLayer) inserts the access token into the request's extensions. With
/// axum, this type is an extractor. Cloning only increments a reference count. `Debug` shows
/// claims, but never the token itself.
///
/// ```
/// use tower_logto::{AccessToken, AuthError};
///
/// fn greet(token: &AccessToken) -> Result<String, AuthError> {
///     token.require_scopes(["read:profile"])?;
///     Ok(format!("Hello, {}", token.subject()))
/// }
/// ```
#[derive(Clone)]
pub struct AccessToken {
    pub(crate) verified: Arc<VerifiedToken>,
    organization_checked: bool,
    /// Records whether the issuer was named, and whether the audience was named. Guards and
    /// `require_…` methods name them.
    named: GuardsName,
}

/// The result of a validation. It includes the data that is checked again on every cache hit.
#[derive(Debug)]
pub(crate) struct VerifiedToken {
    pub(crate) claims: TokenClaims,
    pub(crate) challenge: Arc<ChallengeSettings>,
    pub(crate) key: Arc<VerifyingKey>,
    /// The keys of the token's issuer.
    pub(crate) keys: Arc<KeyStore>,
    pub(crate) revocable: Revocable,
}

impl AccessToken {
    pub(crate) fn new(verified: VerifiedToken) -> Self {
        let named = GuardsName::default();
        Self { verified: Arc::new(verified), organization_checked: false, named }
    }

    /// Returns `iss`, the issuer (RFC 7519 §4.1.1).
    pub fn issuer(&self) -> &str {
        self.verified.claims.get(self.verified.claims.issuer)
    }

    /// Returns `sub`, the id of the user (RFC 7519 §4.1.2). In a machine-to-machine token, `sub` is
    /// the id of the application.
    pub fn subject(&self) -> &str {
        self.verified.claims.get(self.verified.claims.subject)
    }

    /// Returns `client_id`, the application that requested the token (RFC 9068 §2.2). Every access
    /// token from Logto contains this claim.
    pub fn client_id(&self) -> Option<&str> {
        self.verified.claims.client_id.map(|span| self.verified.claims.get(span))
    }

    /// Returns the id of the token's organization, from the claim `organization_id` or from `aud`.
    pub fn organization_id(&self) -> Option<&str> {
        self.verified.claims.organization_id.map(|span| self.verified.claims.get(span))
    }

    /// Returns the permission model that the token belongs to.
    pub fn kind(&self) -> TokenKind {
        self.verified.claims.kind
    }

    /// Returns `aud`, the audiences (RFC 7519 §4.1.3). There is always at least one audience.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        let spans = match &self.verified.claims.audiences {
            Audiences::One(span) => std::slice::from_ref(span),
            Audiences::Several(spans) => spans,
        };
        spans.iter().map(|span| self.verified.claims.get(*span))
    }

    /// Returns `scope`, the granted scopes. The set is empty if the claim is absent.
    pub fn scopes(&self) -> ScopeSet<'_> {
        self.verified
            .claims
            .scope
            .map(|span| ScopeSet::new(self.verified.claims.get(span)))
            .unwrap_or_default()
    }

    /// Returns `iat`, in whole seconds (RFC 7519 §4.1.6).
    pub fn issued_at(&self) -> Option<SystemTime> {
        self.verified.claims.issued_at.map(system_time)
    }

    /// Returns `exp`, in whole seconds, without the clock tolerance (RFC 7519 §4.1.4).
    pub fn expires_at(&self) -> SystemTime {
        system_time(self.verified.claims.lifetime.expires_at)
    }

    /// Returns `jti`, the id of the token (RFC 7519 §4.1.7).
    pub fn jwt_id(&self) -> Option<&str> {
        self.verified.claims.jwt_id.map(|span| self.verified.claims.get(span))
    }

    /// Returns whether the token belongs to a machine-to-machine application. This is the case if
    /// `sub` equals `client_id`.
    pub fn is_machine(&self) -> bool {
        self.client_id() == Some(self.subject())
    }

    /// Returns `act.sub`: the party that acts for the subject after a token exchange (RFC 8693
    /// §4.1).
    ///
    /// Parses the whole payload on every call. Returns `None` if the claim is absent, or if
    /// `act.sub` is not a string.
    pub fn actor(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Delegation {
            act: Actor,
        }
        #[derive(Deserialize)]
        struct Actor {
            sub: String,
        }
        self.claims::<Delegation>().ok().map(|delegation| delegation.act.sub)
    }

    /// Deserializes all claims, including custom ones, into `T`.
    ///
    /// Parses the whole payload on every call. If a claim is absent from some tokens, declare the
    /// field for this claim as an `Option`.
    ///
    /// # Errors
    /// [`FailedCondition::CustomClaims`], 403, if the payload does not deserialize into `T`. The
    /// status is not 401. A 401 would make the caller request a new token, which would contain the
    /// same claims.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, AuthError> {
        let json = self.verified.claims.json();
        serde_json::from_str(json).map_err(|_| {
            let problem = json::describe_mismatch::<T>(json).into();
            self.refuse(AuthErrorKind::FailedCondition(FailedCondition::CustomClaims(problem)))
        })
    }

    /// Requires all of these scopes.
    ///
    /// Accepts tokens for a global API resource. If the organization was checked, the method also
    /// accepts tokens for an organization-level API resource. To check the organization, use
    /// [`require_organization`](Self::require_organization) or a
    /// [`Require::organization_…`](crate::Require) guard. For other kinds of token, see
    /// [`require_scope`](Self::require_scope).
    ///
    /// # Errors
    /// [`AuthErrorKind::InsufficientScope`] or [`AuthErrorKind::WrongKind`], both 403. An empty
    /// list of scopes is an error too.
    ///
    /// If the validator has several issuers, name the required issuer with a guard or with
    /// [`require_issuer`](Self::require_issuer). If the issuer is not named, the error is
    /// [`AuthErrorKind::UnnamedIssuer`], 500. If the validator has several audiences, name the
    /// required audience with a guard or with [`require_audience`](Self::require_audience). If the
    /// audience is not named, the error is [`AuthErrorKind::UnnamedAudience`], 500.
    ///
    /// A scope that RFC 6749 §3.3 does not allow is invalid. If an invalid scope is a
    /// `&'static str`, the program contains a mistake. The error is then
    /// [`AuthErrorKind::InvalidScope`], 500, and contains the source line of the method call. If an
    /// invalid scope is a `String`, the error is a 403, because the string may come from the HTTP
    /// client.
    #[track_caller]
    pub fn require_scopes(
        &self,
        scopes: impl IntoIterator<Item = impl Into<Cow<'static, str>>>,
    ) -> Result<(), AuthError> {
        self.require_all_valid(&ScopePolicy::all(scopes), Location::caller())
    }

    /// Requires at least one of these scopes. Accepts the same kinds of token as
    /// [`require_scopes`](Self::require_scopes).
    ///
    /// # Errors
    /// Returns the same errors as [`require_scopes`](Self::require_scopes).
    #[track_caller]
    pub fn require_any_scope(
        &self,
        scopes: impl IntoIterator<Item = impl Into<Cow<'static, str>>>,
    ) -> Result<(), AuthError> {
        self.require_all_valid(&ScopePolicy::any(scopes), Location::caller())
    }

    /// Requires the scopes of a type that [`scopes!`](crate::scopes) declares. Accepts the kinds of
    /// token that the declaration allows.
    ///
    /// # Errors
    /// Returns the same errors as [`require_scopes`](Self::require_scopes).
    pub fn require_scope<S: Scope>(&self) -> Result<(), AuthError> {
        self.require_policy(&S::POLICY)
    }

    fn require_all_valid(
        &self,
        policy: &ScopePolicy,
        location: &'static Location<'static>,
    ) -> Result<(), AuthError> {
        match policy.first_invalid_literal() {
            Some(scope) => Err(self.refuse(AuthErrorKind::InvalidScope { scope, location })),
            None => self.require_policy(policy),
        }
    }

    fn require_policy(&self, policy: &ScopePolicy) -> Result<(), AuthError> {
        self.check_named()?;
        if !policy.accepts(self.kind(), self.organization_checked) {
            return Err(self.refuse(AuthErrorKind::WrongKind(self.kind())));
        }
        if !policy.is_satisfied_by(self.scopes()) {
            return Err(self.insufficient_scope(policy));
        }
        Ok(())
    }

    /// Requires a token for this organization. Returns a copy of the token, and marks the
    /// organization as checked in this copy.
    ///
    /// Call [`require_scopes`](Self::require_scopes) on the copy. The original token is not marked,
    /// so `require_scopes` still refuses the original token.
    ///
    /// ```
    /// use tower_logto::{AccessToken, AuthError};
    ///
    /// fn invite(token: &AccessToken, organization: &str) -> Result<(), AuthError> {
    ///     token.require_organization(organization)?.require_scopes(["invite:member"])
    /// }
    /// ```
    ///
    /// # Errors
    /// [`AuthErrorKind::WrongOrganization`], 403, if the token is for another organization or for
    /// none. [`AuthErrorKind::UnnamedIssuer`] or [`AuthErrorKind::UnnamedAudience`], both 500, if
    /// the issuer or the audience must be named, but is not named yet. The documentation of
    /// [`require_scopes`](Self::require_scopes) explains when they must be named.
    pub fn require_organization(&self, id: &str) -> Result<Self, AuthError> {
        self.check_named()?;
        self.check_organization(id)
    }

    /// Requires a token of this issuer, and returns a copy of the token. Checks on the copy do not
    /// fail with [`AuthErrorKind::UnnamedIssuer`], because this call names the issuer.
    ///
    /// If the validator trusts several issuers, check scopes and the organization on the copy. To
    /// name the issuer for a whole route, use [`Require::issuer`](crate::Require::issuer).
    ///
    /// # Errors
    /// [`AuthErrorKind::FailedCondition`], 403, if another issuer issued the token.
    pub fn require_issuer(&self, issuer: &Issuer) -> Result<Self, AuthError> {
        if self.issuer() != issuer.as_str() {
            let expected = Arc::from([issuer.as_str().into()]);
            let failed = FailedCondition::Issuer(Mismatch::new(self.issuer(), &expected));
            return Err(self.refuse(AuthErrorKind::FailedCondition(failed)));
        }
        Ok(self.with_named(GuardsName { issuer: true, audience: false }))
    }

    /// Requires a token for this API, and returns a copy of the token. Checks on the copy do not
    /// fail with [`AuthErrorKind::UnnamedAudience`], because this call names the audience.
    ///
    /// If the validator has several audiences, check scopes and the organization on the copy. To
    /// name the audience for a whole route, use [`Require::audience`](crate::Require::audience).
    ///
    /// # Errors
    /// [`AuthErrorKind::FailedCondition`], 403, if the token is for another API.
    pub fn require_audience(&self, audience: &str) -> Result<Self, AuthError> {
        if !self.audiences().any(|one| one == audience) {
            let expected = Arc::from([audience.into()]);
            let found = self.audiences().next().unwrap_or_default();
            let failed = FailedCondition::Audience(Mismatch::new(found, &expected));
            return Err(self.refuse(AuthErrorKind::FailedCondition(failed)));
        }
        Ok(self.with_named(GuardsName { issuer: false, audience: true }))
    }

    /// Checks the organization, without requiring a named issuer or audience.
    pub(crate) fn check_organization(&self, id: &str) -> Result<Self, AuthError> {
        if id.is_empty() || self.organization_id() != Some(id) {
            return Err(self.wrong_organization(Some(id)));
        }
        Ok(Self { organization_checked: true, ..self.clone() })
    }

    /// Fails if the token is revoked, or if the rules that revoke tokens are unavailable.
    pub(crate) fn check_revocation(&self) -> Result<(), AuthError> {
        self.verified.revocable.check().map_err(|kind| self.refuse(kind))
    }

    /// Returns two flags. A flag is set if the issuer (or the audience) must be named and has not
    /// been named yet. If the validator has only one issuer, the issuer need not be named. If the
    /// validator has only one audience, the audience need not be named.
    pub(crate) fn unnamed(&self) -> GuardsName {
        let GuardsName { issuer, audience } = self.verified.challenge.guards_name;
        GuardsName {
            issuer: issuer && !self.named.issuer,
            audience: audience && !self.named.audience,
        }
    }

    /// Returns a copy of the token in which the issuer, the audience or both count as named.
    pub(crate) fn with_named(&self, named: GuardsName) -> Self {
        let named = GuardsName {
            issuer: self.named.issuer || named.issuer,
            audience: self.named.audience || named.audience,
        };
        Self { named, ..self.clone() }
    }

    /// Fails if the issuer or the audience must be named, but is not named yet. The reason is that
    /// a scope or an organization id has a different meaning for each issuer and each audience.
    fn check_named(&self) -> Result<(), AuthError> {
        let unnamed = self.unnamed();
        if unnamed.issuer {
            return Err(self.refuse(AuthErrorKind::UnnamedIssuer));
        }
        // An organization permission token needs no named audience, because its audience is its
        // organization.
        if unnamed.audience && self.kind() != TokenKind::OrganizationPermissions {
            return Err(self.refuse(AuthErrorKind::UnnamedAudience));
        }
        Ok(())
    }

    /// Returns the token that an [`AuthLayer`](crate::AuthLayer) inserted into the extensions of a
    /// request. Use this method in custom guards and extractors.
    ///
    /// # Errors
    /// [`AuthErrorKind::MissingToken`] if the request has no credentials, and
    /// [`AuthErrorKind::MissingLayer`] if no `AuthLayer` has handled the request.
    pub fn from_extensions(extensions: &Extensions) -> Result<&Self, AuthError> {
        extensions.get::<Self>().ok_or_else(|| match extensions.get::<Anonymous>() {
            Some(anonymous) => AuthError::missing_token().or_challenge(&anonymous.challenge),
            None => AuthError::new(AuthErrorKind::MissingLayer, None),
        })
    }

    /// Returns the heap size of the token in bytes. The size determines the weight of the cache
    /// entry.
    pub(crate) fn heap_size(&self) -> usize {
        let TokenClaims { text, audiences, .. } = &self.verified.claims;
        let spans = match audiences {
            Audiences::One(_) => 0,
            Audiences::Several(spans) => size_of_val::<[Span]>(spans),
        };
        size_of::<VerifiedToken>() + text.len() + spans + self.verified.revocable.heap_size()
    }

    pub(crate) fn insufficient_scope(&self, required: &ScopePolicy) -> AuthError {
        let (required, granted) = (required.clone(), escaped(self.scopes().as_str()));
        self.refuse(AuthErrorKind::InsufficientScope { required, granted })
    }

    /// Refuses the token because it is not for the organization of the request. `requested` is
    /// `None` if the request names no organization.
    pub(crate) fn wrong_organization(&self, requested: Option<&str>) -> AuthError {
        let (found, requested) = (self.organization_id().map(escaped), requested.map(escaped));
        self.refuse(AuthErrorKind::WrongOrganization { found, requested })
    }

    pub(crate) fn refuse(&self, kind: AuthErrorKind) -> AuthError {
        let challenge = Some(Arc::clone(&self.verified.challenge));
        AuthError::new(kind, challenge).with_identity(self.identity())
    }

    /// Returns the identity in the token, or `None` if refusals are not logged at the current log
    /// level.
    fn identity(&self) -> Option<Identity> {
        let identity = || Identity::new(self.subject(), self.client_id(), self.organization_id());
        self.verified.challenge.log_level.is_enabled().then(identity)
    }

    /// Records the identity in the current span. Fields that the span does not declare are ignored.
    pub(crate) fn record_identity(&self) {
        let span = tracing::Span::current();
        if span.is_disabled() {
            return;
        }
        span.record("enduser.id", self.subject());
        span.record("logto.client_id", self.client_id());
        span.record("logto.organization_id", self.organization_id());
    }

    /// Adds the validator's challenge settings and the identity of the token to an error that a
    /// [`Require::check`](crate::Require::check) function returned.
    pub(crate) fn adopt(&self, refusal: AuthError) -> AuthError {
        refusal.or_challenge(&self.verified.challenge).with_identity(self.identity())
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("issuer", &self.issuer())
            .field("subject", &self.subject())
            .field("client_id", &self.client_id())
            .field("organization_id", &self.organization_id())
            .field("scopes", &self.scopes())
            .field("expires_at", &self.verified.claims.lifetime.expires_at)
            .finish_non_exhaustive()
    }
}

/// Marks a request that [`AuthLayer::optional`](crate::AuthLayer::optional) accepted without
/// credentials. The layer inserts this marker into the request's extensions.
///
/// ```
/// use http::Request;
/// use tower_logto::Anonymous;
///
/// fn is_anonymous<B>(request: &Request<B>) -> bool {
///     request.extensions().get::<Anonymous>().is_some()
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Anonymous {
    pub(crate) challenge: Arc<ChallengeSettings>,
}

fn system_time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
