//! What a handler holds: the validated access token.

use std::{
    fmt,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Extensions;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    bearer::challenge::ChallengeSettings,
    error::{AuthError, AuthErrorKind, InvalidToken},
    json,
    jwks::{key_set::VerifyingKey, key_store::KeyStore},
    scope::{RequiredScopes, ScopeSet, TokenKind},
};

/// A validated access token (RFC 9068): signature, issuer, audience and lifetime hold.
///
/// [`AuthLayer`](crate::AuthLayer) puts it into the request's extensions; with axum it is an
/// extractor. A clone is one reference count. `Debug` shows whose it is, never the token.
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
    tied: bool,
}

/// What validation found, and what is checked again on every cache hit.
#[derive(Debug)]
pub(crate) struct VerifiedToken {
    pub(crate) claims: TokenClaims,
    pub(crate) challenge: Arc<ChallengeSettings>,
    pub(crate) key: Arc<VerifyingKey>,
    /// The keys of its issuer.
    pub(crate) keys: Arc<KeyStore>,
}

/// The claims of a verified token: the payload once, and spans in it.
#[derive(Debug)]
pub(crate) struct TokenClaims {
    /// The payload's JSON, followed by the claims that had to be unescaped.
    pub(crate) text: Box<str>,
    pub(crate) payload: Span,
    pub(crate) issuer: Span,
    pub(crate) subject: Span,
    pub(crate) audiences: Audiences,
    pub(crate) client_id: Option<Span>,
    pub(crate) organization_id: Option<Span>,
    pub(crate) scope: Option<Span>,
    pub(crate) jwt_id: Option<Span>,
    pub(crate) kind: TokenKind,
    /// Seconds since the Unix epoch.
    pub(crate) issued_at: Option<u64>,
    pub(crate) lifetime: Lifetime,
}

/// `nbf`, `exp` and the issuer's clock tolerance, in seconds since the Unix epoch and seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetime {
    pub(crate) not_before: u64,
    pub(crate) expires_at: u64,
    pub(crate) tolerance: u64,
}

impl Lifetime {
    /// Checks `exp` and `nbf` (RFC 7519 §4.1.4, §4.1.5) against the time since the Unix epoch.
    pub(crate) fn check(self, now: Duration) -> Result<(), InvalidToken> {
        let now = now.as_secs();
        if now >= self.expires_at + self.tolerance {
            return Err(InvalidToken::Expired { ago: Duration::from_secs(now - self.expires_at) });
        }
        if now < self.not_before.saturating_sub(self.tolerance) {
            let wait = Duration::from_secs(self.not_before - now);
            return Err(InvalidToken::NotYetValid { wait });
        }
        Ok(())
    }
}

/// `aud`: one string in every token of Logto, but RFC 7519 §4.1.3 allows several.
#[derive(Debug)]
pub(crate) enum Audiences {
    One(Span),
    Several(Box<[Span]>),
}

/// A byte range in the text of [`TokenClaims`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Tokens are far shorter than 4 GiB. In a longer one the span would be empty.
    pub(crate) fn new(range: Range<usize>) -> Self {
        let offset = |position| u32::try_from(position).unwrap_or(u32::MAX);
        Self { start: offset(range.start), end: offset(range.end) }
    }

    const fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl TokenClaims {
    fn get(&self, span: Span) -> &str {
        self.text.get(span.range()).unwrap_or_default()
    }
}

impl AccessToken {
    pub(crate) fn new(verified: VerifiedToken) -> Self {
        Self { verified: Arc::new(verified), tied: false }
    }

    /// `iss`: who signed it (RFC 7519 §4.1.1).
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.verified.claims.get(self.verified.claims.issuer)
    }

    /// `sub`: the user's id, or the application's for a machine-to-machine token (RFC 7519 §4.1.2).
    #[must_use]
    pub fn subject(&self) -> &str {
        self.verified.claims.get(self.verified.claims.subject)
    }

    /// `client_id`: the application that asked for the token (RFC 9068 §2.2); Logto always sets it.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.verified.claims.client_id.map(|span| self.verified.claims.get(span))
    }

    /// The organization it was given for: the claim, or the one that `aud` names.
    #[must_use]
    pub fn organization_id(&self) -> Option<&str> {
        self.verified.claims.organization_id.map(|span| self.verified.claims.get(span))
    }

    /// Which of Logto's permission models it belongs to.
    #[must_use]
    pub fn kind(&self) -> TokenKind {
        self.verified.claims.kind
    }

    /// `aud`: whom it is for, at least one (RFC 7519 §4.1.3).
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        let spans = match &self.verified.claims.audiences {
            Audiences::One(span) => std::slice::from_ref(span),
            Audiences::Several(spans) => spans,
        };
        spans.iter().map(|span| self.verified.claims.get(*span))
    }

    /// `scope`: what was granted; empty when the claim is absent.
    #[must_use]
    pub fn scopes(&self) -> ScopeSet<'_> {
        self.verified
            .claims
            .scope
            .map(|span| ScopeSet::new(self.verified.claims.get(span)))
            .unwrap_or_default()
    }

    /// `iat` (RFC 7519 §4.1.6), in whole seconds.
    #[must_use]
    pub fn issued_at(&self) -> Option<SystemTime> {
        self.verified.claims.issued_at.map(system_time)
    }

    /// `exp` (RFC 7519 §4.1.4), in whole seconds, without the clock tolerance.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        system_time(self.verified.claims.lifetime.expires_at)
    }

    /// `jti`: the token's own id (RFC 7519 §4.1.7).
    #[must_use]
    pub fn jwt_id(&self) -> Option<&str> {
        self.verified.claims.jwt_id.map(|span| self.verified.claims.get(span))
    }

    /// Whether an application speaks for itself: `sub` equals `client_id`.
    #[must_use]
    pub fn is_machine(&self) -> bool {
        self.client_id() == Some(self.subject())
    }

    /// `act.sub`: who acts for the subject, after a token exchange (RFC 8693 §4.1).
    #[must_use]
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

    /// All claims, custom ones included, as a type of yours.
    ///
    /// A claim that not every token has is an `Option` in that type: callers answer a 401 by
    /// fetching a new token, which will not have it either.
    ///
    /// # Errors
    /// [`InvalidToken::CustomClaims`], 401, when the payload does not have that shape.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, AuthError> {
        serde_json::from_str(self.verified.claims.get(self.verified.claims.payload)).map_err(
            |error| {
                let reason = InvalidToken::CustomClaims(json::describe(&error).into());
                self.refuse(AuthErrorKind::InvalidToken(reason))
            },
        )
    }

    /// Demands every one of these scopes, from a kind of token that [`RequiredScopes`] accepts by
    /// default.
    ///
    /// # Errors
    /// [`AuthErrorKind::InsufficientScope`] or [`AuthErrorKind::WrongKind`], both 403.
    pub fn require_scopes<'a>(
        &self,
        scopes: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), AuthError> {
        self.require(&RequiredScopes::all(scopes.into_iter().map(str::to_owned)))
    }

    /// Demands at least one of these scopes.
    ///
    /// # Errors
    /// As [`require_scopes`](Self::require_scopes).
    pub fn require_any_scope<'a>(
        &self,
        scopes: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), AuthError> {
        self.require(&RequiredScopes::any(scopes.into_iter().map(str::to_owned)))
    }

    /// Demands scopes and a kind of token.
    ///
    /// # Errors
    /// As [`require_scopes`](Self::require_scopes).
    pub fn require(&self, required: &RequiredScopes) -> Result<(), AuthError> {
        if !required.accepts(self.kind(), self.tied) {
            return Err(self.refuse(AuthErrorKind::WrongKind(self.kind())));
        }
        if !required.met_by(self.scopes()) {
            return Err(self.refuse(AuthErrorKind::InsufficientScope(required.clone())));
        }
        Ok(())
    }

    /// Demands that it was given for this organization, and returns it tied to it: its scopes then
    /// count in [`require_scopes`](Self::require_scopes).
    ///
    /// ```
    /// use tower_logto::{AccessToken, AuthError};
    ///
    /// fn invite(token: &AccessToken, organization: &str) -> Result<(), AuthError> {
    ///     token.in_organization(organization)?.require_scopes(["invite:member"])
    /// }
    /// ```
    ///
    /// # Errors
    /// [`AuthErrorKind::WrongOrganization`], 403, for another organization's or a global token.
    pub fn in_organization(&self, id: &str) -> Result<Self, AuthError> {
        if id.is_empty() || self.organization_id() != Some(id) {
            return Err(self.refuse(AuthErrorKind::WrongOrganization));
        }
        Ok(Self { verified: Arc::clone(&self.verified), tied: true })
    }

    /// The token that an [`AuthLayer`](crate::AuthLayer) left in a request's extensions: how
    /// guards and extractors of your own get at it.
    ///
    /// # Errors
    /// [`AuthErrorKind::MissingToken`] where no credentials came, [`AuthErrorKind::MissingLayer`]
    /// where there is no layer.
    pub fn from_extensions(extensions: &Extensions) -> Result<&Self, AuthError> {
        extensions.get::<Self>().ok_or_else(|| match extensions.get::<Anonymous>() {
            Some(anonymous) => anonymous.refuse(),
            None => AuthError::new(AuthErrorKind::MissingLayer, None),
        })
    }

    /// The bytes that the token holds on the heap, for the bound of the cache.
    pub(crate) fn heap_size(&self) -> usize {
        let TokenClaims { text, audiences, .. } = &self.verified.claims;
        let spans = match audiences {
            Audiences::One(_) => 0,
            Audiences::Several(spans) => size_of_val::<[Span]>(spans),
        };
        size_of::<VerifiedToken>() + text.len() + spans
    }

    pub(crate) fn refuse(&self, kind: AuthErrorKind) -> AuthError {
        AuthError::new(kind, Some(Arc::clone(&self.verified.challenge)))
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

/// What [`AuthLayer::optional`](crate::AuthLayer::optional) leaves in the extensions when no
/// credentials came, or for a CORS preflight.
#[derive(Debug, Clone)]
pub struct Anonymous {
    pub(crate) challenge: Arc<ChallengeSettings>,
}

impl Anonymous {
    fn refuse(&self) -> AuthError {
        AuthError::new(AuthErrorKind::MissingToken, Some(Arc::clone(&self.challenge)))
    }
}

fn system_time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
