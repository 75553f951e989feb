//! An access token as a caller holds it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::HeaderValue;

use crate::{
    m2m::{endpoint::Answer, request::TokenRequest},
    scope::ScopeSet,
};

/// An access token for a call to another service. A clone is one reference count; `Debug` never
/// shows the token.
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
pub struct IssuedToken(Arc<Issued>);

struct Issued {
    request: Arc<TokenRequest>,
    answer: Answer,
    expiry: Moment,
}

/// A time by both clocks: the monotonic one stands still while a machine sleeps, the wall clock may
/// be set back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) unix: Duration,
    pub(crate) monotonic: Duration,
}

impl IssuedToken {
    pub(crate) fn new(request: Arc<TokenRequest>, answer: Answer, expiry: Moment) -> Self {
        Self(Arc::new(Issued { request, answer, expiry }))
    }

    /// The token itself. Whoever reads it can act as your application: not for logs.
    #[must_use]
    pub fn secret(&self) -> &str {
        let value = self.0.answer.authorization.to_str().unwrap_or_default();
        value.strip_prefix(SCHEME).unwrap_or_default()
    }

    /// The value of an `Authorization` header (RFC 6750 §2.1), marked sensitive.
    #[must_use]
    pub fn authorization(&self) -> HeaderValue {
        self.0.answer.authorization.clone()
    }

    /// The scopes that were granted: the answer's `scope`.
    ///
    /// Where RFC 6749 §5.1 would have a missing `scope` mean "all that you asked for", with Logto
    /// it means that none was granted.
    #[must_use]
    pub fn scopes(&self) -> ScopeSet<'_> {
        ScopeSet::new(&self.0.answer.scope)
    }

    /// When it expires, by this machine's clock: the moment it was asked for and `expires_in`.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH.checked_add(self.0.expiry.unix).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    pub(crate) fn is_alive(&self, now: Moment) -> bool {
        now.monotonic < self.0.expiry.monotonic && now.unix < self.0.expiry.unix
    }

    pub(crate) fn life_left(&self, now: Moment) -> Duration {
        let monotonic = self.0.expiry.monotonic.saturating_sub(now.monotonic);
        monotonic.min(self.0.expiry.unix.saturating_sub(now.unix))
    }

    pub(crate) fn request(&self) -> &TokenRequest {
        &self.0.request
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
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
