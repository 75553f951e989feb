//! The reasons for refusing a request, with messages for the operator. `response.rs` maps the
//! reasons to responses.

mod config;
mod failed_condition;
mod invalid_request;
mod invalid_token;
mod keys;
mod log;
mod mismatch;
mod reason;
pub(crate) mod response;

pub use crate::scope::ScopePolicy;
pub use config::ConfigError;
pub use failed_condition::FailedCondition;
pub use invalid_request::InvalidRequest;
pub use invalid_token::InvalidToken;
pub use keys::{KeysError, KeysUnavailable};
pub use mismatch::Mismatch;

use std::{borrow::Cow, error::Error, fmt, panic::Location, sync::Arc, time::Duration};

use crate::{
    bearer::challenge::ChallengeSettings,
    escape::{escaped, write_printable},
    scope::TokenKind,
};

/// The reason why a request is refused.
///
/// Your code reads the reason from [`kind`](Self::kind). The operator reads the reason in the log,
/// which contains the text of [`Display`](fmt::Display). This text says what is wrong and how to
/// fix the problem. The caller gets only [`status`](Self::status), [`challenge`](Self::challenge)
/// and [`retry_after`](Self::retry_after).
///
/// # Custom refusals
/// [`forbidden`](Self::forbidden) and [`missing_token`](Self::missing_token) create an error for a
/// custom refusal. Return the error from a handler, or from a function that you pass to
/// [`Require::check`](crate::Require::check). A custom refusal has a status, a challenge and a log
/// line like every other refusal.
///
/// # Response bodies
/// The response to a refused request has the `AuthError` in its extensions. A `map_response`
/// that wraps the layer can therefore write a body:
///
/// ```
/// use http::Response;
/// use tower_logto::AuthError;
///
/// fn problem(response: Response<String>) -> Response<String> {
///     let Some(error) = response.extensions().get::<AuthError>() else { return response };
///     let body = format!("{{\"status\":{}}}", error.status().as_u16());
///     response.map(|_| body)
/// }
/// ```
#[derive(Clone)]
pub struct AuthError {
    kind: AuthErrorKind,
    challenge: Option<Arc<ChallengeSettings>>,
    /// The identity in the token, for the log. `None` if the token's signature was not verified, or
    /// if refusals are not logged at the current log level.
    identity: Option<Arc<Identity>>,
}

/// The subject, client and organization in a validated token, escaped and cut.
pub(crate) struct Identity {
    pub(crate) subject: Box<str>,
    pub(crate) client_id: Option<Box<str>>,
    pub(crate) organization_id: Option<Box<str>>,
}

impl Identity {
    pub(crate) fn new(subject: &str, client: Option<&str>, organization: Option<&str>) -> Self {
        Self {
            subject: escaped(subject),
            client_id: client.map(escaped),
            organization_id: organization.map(escaped),
        }
    }
}

/// The kinds of [`AuthError`].
///
/// ```
/// use tower_logto::{AuthError, error::AuthErrorKind};
///
/// assert_eq!(*AuthError::missing_token().kind(), AuthErrorKind::MissingToken);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AuthErrorKind {
    /// The request has no credentials, or credentials of a scheme other than `Bearer`: 401 without
    /// an error code.
    MissingToken,
    /// The request is malformed: 400 `invalid_request`.
    InvalidRequest(InvalidRequest),
    /// The token is not valid: 401 `invalid_token`.
    InvalidToken(InvalidToken),
    /// The token lacks a scope: 403 `insufficient_scope`. The challenge lists the required scopes.
    InsufficientScope {
        /// The scopes that the route requires.
        required: ScopePolicy,
        /// The scopes of the token, escaped and cut after 80 characters.
        granted: Box<str>,
    },
    /// The token is for another organization, or for none: 403 `insufficient_scope`.
    WrongOrganization {
        /// The organization of the token, escaped and cut after 80 characters.
        found: Option<Box<str>>,
        /// The organization that the request is for, escaped and cut after 80 characters. `None` if
        /// the request specifies no organization, or if a path parameter is not UTF-8.
        requested: Option<Box<str>>,
    },
    /// The route does not accept this kind of token: 403 `insufficient_scope`.
    WrongKind(TokenKind),
    /// The token fails another condition of a guard or a handler: 403 `insufficient_scope`.
    FailedCondition(FailedCondition),
    /// A custom refusal, with its reason for the log: 403 `insufficient_scope`. See
    /// [`AuthError::forbidden`].
    Forbidden(Cow<'static, str>),
    /// The issuer's signing keys are unavailable: 503 with `Retry-After`.
    KeysUnavailable(KeysUnavailable),
    /// Too many requests with unknown key ids are waiting for a JWKS refresh: 429 with
    /// `Retry-After`. The response has no challenge, because clients should keep their tokens.
    TooManyUnknownKeys {
        /// The time after which the next refresh is permitted.
        retry_after: Duration,
    },
    /// The queue for signature checks is full, or this request waited in the queue for too long:
    /// 503 with `Retry-After`. The validator adds checks to this queue only during a flood of
    /// tokens with bad signatures. See
    /// [`ValidatorBuilder::max_queued_checks`](crate::ValidatorBuilder::max_queued_checks).
    TooManySignatureChecks {
        /// The time after which the caller should retry. This time equals the maximum time that a
        /// request waits in the queue.
        retry_after: Duration,
    },
    /// A strict `RedisStore` refuses every token, for example because Redis has been unavailable
    /// for too long, or because the revocation rules have not been loaded yet: 503 with
    /// `Retry-After`.
    RevocationsUnavailable,
    /// No [`AuthLayer`](crate::AuthLayer) wraps the guard or the extractor: 500.
    MissingLayer,
    /// The validator trusts several issuers, but a guard names none of them: 500. See
    /// [`Require::issuer`](crate::Require::issuer).
    UnnamedIssuer,
    /// The validator has several audiences, but a guard names none of them: 500. See
    /// [`Require::audience`](crate::Require::audience).
    UnnamedAudience,
    /// The program requires a scope that RFC 6749 §3.3 does not allow: 500. See
    /// [`AccessToken::require_scopes`](crate::AccessToken::require_scopes).
    InvalidScope {
        /// The invalid scope.
        scope: &'static str,
        /// The location of the call that requires the scope.
        location: &'static Location<'static>,
    },
    /// The route does not have the path parameter that
    /// [`Require::organization_in_path`](crate::Require) requires: 500.
    UnknownPathParameter(&'static str),
}

impl From<InvalidToken> for AuthErrorKind {
    fn from(reason: InvalidToken) -> Self {
        Self::InvalidToken(reason)
    }
}

impl From<KeysUnavailable> for AuthErrorKind {
    fn from(unavailable: KeysUnavailable) -> Self {
        Self::KeysUnavailable(unavailable)
    }
}

impl From<InvalidRequest> for AuthErrorKind {
    fn from(reason: InvalidRequest) -> Self {
        Self::InvalidRequest(reason)
    }
}

impl AuthError {
    /// Refuses a valid token for a custom reason: 403 `insufficient_scope`.
    ///
    /// The reason is for the log. The caller gets a general description.
    ///
    /// If a function that you pass to [`Require::check`](crate::Require::check) returns the error,
    /// the challenge has the realm and the metadata URL of the validator. If a handler returns the
    /// error, the challenge has neither of them.
    ///
    /// ```
    /// use tower_logto::{AccessToken, AuthError};
    ///
    /// async fn export(token: AccessToken) -> Result<&'static str, AuthError> {
    ///     if token.subject() == "demo" {
    ///         return Err(AuthError::forbidden("the demo account has no exports"));
    ///     }
    ///     Ok("a,b,c")
    /// }
    /// # let _: axum::routing::MethodRouter = axum::routing::get(export);
    /// ```
    pub fn forbidden(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(AuthErrorKind::Forbidden(reason.into()), None)
    }

    /// Refuses a request without a token: 401 without an error code.
    ///
    /// Use this function behind [`AuthLayer::optional`](crate::AuthLayer::optional), for requests
    /// that need a token.
    ///
    /// If a function that you pass to [`Require::check`](crate::Require::check) returns the error,
    /// the challenge has the realm and the metadata URL of the validator. If a handler returns the
    /// error, the challenge has neither of them.
    pub const fn missing_token() -> Self {
        Self::new(AuthErrorKind::MissingToken, None)
    }

    pub(crate) const fn new(
        kind: AuthErrorKind,
        challenge: Option<Arc<ChallengeSettings>>,
    ) -> Self {
        Self { kind, challenge, identity: None }
    }

    pub(crate) fn with_identity(mut self, identity: Option<Identity>) -> Self {
        self.identity = identity.map(Arc::new);
        self
    }

    /// Sets the challenge settings, unless the error already has such settings.
    pub(crate) fn or_challenge(mut self, settings: &Arc<ChallengeSettings>) -> Self {
        self.challenge.get_or_insert_with(|| Arc::clone(settings));
        self
    }

    /// Returns the reason as an enum that your code can match.
    pub const fn kind(&self) -> &AuthErrorKind {
        &self.kind
    }
}

/// Writes the reason and the fix, for the operator.
impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            AuthErrorKind::MissingToken => f.write_str(
                "the request has no access token: send `Authorization: Bearer <token>`; a token in \
                 the query or the body is not read",
            ),
            AuthErrorKind::InvalidRequest(reason) => reason.fmt(f),
            AuthErrorKind::InvalidToken(reason) => reason.fmt(f),
            AuthErrorKind::InsufficientScope { required: policy, granted } => write!(
                f,
                "the token lacks a scope: it has \"{granted}\", and the route requires {} {policy}; assign the permission to \
                 a role of the user or the app, and ask for it in the token request",
                if policy.is_any() { "one of" } else { "all of" }
            ),
            AuthErrorKind::WrongOrganization { found, requested } => {
                write_wrong_organization(f, found.as_deref(), requested.as_deref())
            }
            AuthErrorKind::WrongKind(kind) => write_wrong_kind(f, *kind),
            AuthErrorKind::FailedCondition(condition) => condition.fmt(f),
            AuthErrorKind::Forbidden(reason) => write_printable(f, reason),
            AuthErrorKind::KeysUnavailable(unavailable) => {
                write!(f, "the issuer's signing keys are unavailable: {}", unavailable.cause)
            }
            AuthErrorKind::TooManyUnknownKeys { .. } => f.write_str(
                "too many requests with unknown key ids are waiting for a JWKS refresh: see \
                 ValidatorBuilder::max_waiting_unknown",
            ),
            AuthErrorKind::TooManySignatureChecks { .. } => f.write_str(
                "too many tokens with bad signatures arrive, so the queue of signature checks is \
                 full or too slow: see ValidatorBuilder::max_queued_checks and max_queue_time",
            ),
            AuthErrorKind::RevocationsUnavailable => f.write_str(
                "the rules that revoke tokens are unavailable, and RedisStore::strict is set: \
                 see Revocations::status, and check the connection to Redis",
            ),
            AuthErrorKind::MissingLayer => f.write_str(
                "there is no AuthLayer around this route: call \
                 `.route_layer(AuthLayer::new(validator))` after adding the routes and their guards",
            ),
            AuthErrorKind::UnnamedIssuer => f.write_str(
                "the validator trusts several issuers, and the guard names none: call \
                 Require::issuer or AccessToken::require_issuer, or build one validator per \
                 issuer; see ValidatorBuilder::trust_all_alike",
            ),
            AuthErrorKind::UnnamedAudience => f.write_str(
                "the validator has several audiences, and the guard names none: call \
                 Require::audience or AccessToken::require_audience, or build one validator per \
                 audience; see ValidatorBuilder::trust_all_alike",
            ),
            AuthErrorKind::InvalidScope { scope, location } => write!(
                f,
                "{location}: {scope:?} is not a scope: pass each scope as a separate item, without spaces"
            ),
            AuthErrorKind::UnknownPathParameter(name) => write!(
                f,
                "Require::organization_in_path({name:?}): the route has no such path parameter"
            ),
        }
    }
}

fn write_wrong_organization(
    f: &mut fmt::Formatter<'_>,
    found: Option<&str>,
    requested: Option<&str>,
) -> fmt::Result {
    match found {
        Some(found) => write!(f, "the token is for the organization \"{found}\", and ")?,
        None => f.write_str("the token is for no organization, and ")?,
    }
    match (found, requested) {
        (_, Some(requested)) => write!(
            f,
            "the request is for \"{requested}\": ask Logto for a token with the `organization_id` of \
             the request"
        ),
        (None, None) => {
            f.write_str("the request specifies none: ask Logto for a token with `organization_id`")
        }
        (Some(_), None) => f.write_str(
            "the request specifies none: send the organization in the place that the guard reads, \
             such as the path or the host name",
        ),
    }
}

fn write_wrong_kind(f: &mut fmt::Formatter<'_>, kind: TokenKind) -> fmt::Result {
    write!(f, "the route does not accept {kind}: ")?;
    f.write_str(match kind {
        TokenKind::Global => {
            "ask Logto for a token with `organization_id`, or guard the route with Require::global"
        }
        TokenKind::OrganizationResource => {
            "guard the route with a constructor Require::organization_… or call \
             `token.require_organization(id)?` before the scopes are checked; Require::any_kind and \
             `for any_kind` in scopes! skip the check of the organization"
        }
        TokenKind::OrganizationPermissions => {
            "guard the route with a constructor Require::organization_… and \
             `.organization_permissions()`; declare the scope in scopes! with \
             `for OrganizationPermissions`"
        }
    })
}

impl fmt::Debug for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AuthError").field(&self.kind).finish()
    }
}

/// `source` returns `None`, because the message already contains the cause.
impl Error for AuthError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_of(scopes: &[&'static str]) -> AuthErrorKind {
        let required = ScopePolicy::all(scopes.iter().copied());
        AuthErrorKind::InsufficientScope { required, granted: "".into() }
    }

    #[test]
    fn kinds_with_different_reasons_are_not_equal() {
        assert_ne!(all_of(&["a"]), all_of(&["b"]));
        assert_ne!(AuthErrorKind::Forbidden("a".into()), AuthErrorKind::Forbidden("b".into()));
        assert_ne!(AuthErrorKind::MissingToken, AuthErrorKind::MissingLayer);
    }

    #[test]
    fn custom_reason_is_logged_but_not_sent_to_the_caller() {
        let error = AuthError::forbidden("plan \"free\"\r\nforged line");
        assert_eq!(error.to_string(), r#"plan "free"\r\nforged line"#);
        let challenge = error.challenge().unwrap();
        assert!(!challenge.to_str().unwrap().contains("free"), "{challenge:?}");
        assert_eq!(AuthError::missing_token().challenge().unwrap(), "Bearer");
    }

    #[test]
    fn a_challenge_keeps_its_settings() {
        let settings = |realm: &str| {
            let mut settings = ChallengeSettings::default();
            settings.realm = Some(realm.into());
            Arc::new(settings)
        };
        let bare = AuthError::missing_token().or_challenge(&settings("a"));
        assert_eq!(bare.challenge().unwrap(), "Bearer realm=\"a\"");
        assert_eq!(bare.or_challenge(&settings("b")).challenge().unwrap(), "Bearer realm=\"a\"");
    }
}
