//! An access token that the token endpoint issued.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::HeaderValue;

use crate::{clock::Moment, m2m::token_request::TokenRequest, scope::ScopeSet};

/// An access token for calls to another service. It is cheap to clone. `Debug` never shows the
/// token.
///
/// ```no_run
/// use tower_logto::m2m::IssuedToken;
///
/// fn call(token: &IssuedToken) -> http::Request<()> {
///     let mut request = http::Request::new(());
///     request.headers_mut().insert(http::header::AUTHORIZATION, token.authorization());
///     request
/// }
/// ```
#[derive(Clone)]
pub struct IssuedToken(Arc<IssuedTokenInner>);

struct IssuedTokenInner {
    request: Arc<TokenRequest>,
    response: TokenResponse,
    expires_at: Moment,
}

/// A successful response of the token endpoint (RFC 6749 §5.1).
pub(crate) struct TokenResponse {
    /// The header value `Bearer …`, marked as sensitive. It contains the only copy of the token.
    pub(crate) authorization: HeaderValue,
    /// `None` if `expires_in` is missing, zero or invalid.
    pub(crate) lifetime: Option<Duration>,
    /// Empty if the response has no `scope`.
    pub(crate) scope: Box<str>,
}

impl IssuedToken {
    pub(crate) fn new(
        request: Arc<TokenRequest>,
        response: TokenResponse,
        expires_at: Moment,
    ) -> Self {
        Self(Arc::new(IssuedTokenInner { request, response, expires_at }))
    }

    /// Returns the token itself. Keep the token out of logs, because anyone who has it can act as
    /// your application.
    pub fn secret(&self) -> &str {
        let value = self.0.response.authorization.to_str().unwrap_or_default();
        value.strip_prefix(SCHEME).unwrap_or_default()
    }

    /// Returns the value of an `Authorization` header (RFC 6750 §2.1), marked as sensitive.
    pub fn authorization(&self) -> HeaderValue {
        self.0.response.authorization.clone()
    }

    /// Returns the scopes that Logto granted, from the member `scope` of Logto's response.
    ///
    /// According to RFC 6749 §5.1, a missing `scope` means that all requested scopes were granted.
    /// In a response from Logto, however, a missing `scope` means that no scope was granted. In
    /// that case, this method returns an empty set.
    pub fn scopes(&self) -> ScopeSet<'_> {
        ScopeSet::new(&self.0.response.scope)
    }

    /// Returns the expiry time on this machine's clock: the time of the token request plus
    /// `expires_in`.
    pub fn expires_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH.checked_add(self.0.expires_at.unix).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    pub(crate) fn is_valid(&self, now: Moment) -> bool {
        now.monotonic < self.0.expires_at.monotonic && now.unix < self.0.expires_at.unix
    }

    pub(crate) fn remaining_lifetime(&self, now: Moment) -> Duration {
        let monotonic = self.0.expires_at.monotonic.saturating_sub(now.monotonic);
        monotonic.min(self.0.expires_at.unix.saturating_sub(now.unix))
    }

    pub(crate) fn request(&self) -> &TokenRequest {
        &self.0.request
    }

    /// Returns whether both handles refer to the same issued token.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken")
            .field("request", &self.0.request)
            .field("scopes", &self.scopes())
            .field("expires_at", &self.expires_at())
            .finish_non_exhaustive()
    }
}

pub(crate) const SCHEME: &str = "Bearer ";
