//! axum extractors for the token, its scopes and its claims.

use std::{marker::PhantomData, ops::Deref};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::{
    access_token::AccessToken,
    error::{AuthError, AuthErrorKind},
    scope::Scope,
};

/// Extracts the token of the request. Without a token, the response is a 401.
///
/// `Option<AccessToken>` is `None` if [`AuthLayer::optional`](crate::AuthLayer::optional) accepted
/// a request without credentials.
impl<S: Sync> FromRequestParts<S> for AccessToken {
    type Rejection = AuthError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AuthError> {
        Self::from_extensions(&parts.extensions).cloned()
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for AccessToken {
    type Rejection = AuthError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, AuthError> {
        absent_is_none(Self::from_extensions(&parts.extensions).cloned())
    }
}

/// Extracts the claims of the token, including custom claims, as `T`. If the claims do not
/// deserialize into `T`, the response is a 403. Without a token, the response is a 401.
///
/// ```
/// use serde::Deserialize;
/// use tower_logto::Claims;
///
/// #[derive(Deserialize)]
/// struct Membership {
///     sub: String,
///     tier: String,
/// }
///
/// async fn handler(Claims(membership): Claims<Membership>) -> String {
///     format!("{} is a {} member", membership.sub, membership.tier)
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(handler));
/// ```
#[derive(Debug, Clone, Copy)]
#[allow(clippy::exhaustive_structs, reason = "handlers destructure this type in their signatures")]
pub struct Claims<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Claims<T> {
    type Rejection = AuthError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AuthError> {
        AccessToken::from_extensions(&parts.extensions)?.claims().map(Claims)
    }
}

impl<S: Sync, T: DeserializeOwned> OptionalFromRequestParts<S> for Claims<T> {
    type Rejection = AuthError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, AuthError> {
        absent_is_none(<Self as FromRequestParts<S>>::from_request_parts(parts, state).await)
    }
}

/// Extracts the token if it has the scopes of `S`, which [`scopes!`](crate::scopes) declares. If a
/// scope is missing, the response is a 403. Without a token, the response is a 401.
///
/// The signature of the handler names the scopes, so every route to the handler checks them:
///
/// ```
/// use tower_logto::{scopes, Scoped};
///
/// scopes! {
///     /// Read the catalogue.
///     pub ReadProducts = "read:products";
/// }
///
/// async fn list(token: Scoped<ReadProducts>) -> String {
///     format!("the catalogue for {}", token.subject())
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(list));
/// ```
#[derive(Debug, Clone)]
pub struct Scoped<S: Scope> {
    token: AccessToken,
    scope: PhantomData<fn() -> S>,
}

impl<S: Scope> Scoped<S> {
    /// Returns the token.
    pub fn into_token(self) -> AccessToken {
        self.token
    }
}

impl<S: Scope> Deref for Scoped<S> {
    type Target = AccessToken;

    fn deref(&self) -> &AccessToken {
        &self.token
    }
}

impl<State: Sync, S: Scope> FromRequestParts<State> for Scoped<S> {
    type Rejection = AuthError;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self, AuthError> {
        let token = AccessToken::from_extensions(&parts.extensions)?;
        token.require_scope::<S>()?;
        Ok(Self { token: token.clone(), scope: PhantomData })
    }
}

impl<State: Sync, S: Scope> OptionalFromRequestParts<State> for Scoped<S> {
    type Rejection = AuthError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &State,
    ) -> Result<Option<Self>, AuthError> {
        absent_is_none(<Self as FromRequestParts<State>>::from_request_parts(parts, state).await)
    }
}

/// Turns the error for an absent token into `None`. Returns all other errors unchanged, for example
/// the errors for a missing scope and for a missing layer.
fn absent_is_none<T>(extracted: Result<T, AuthError>) -> Result<Option<T>, AuthError> {
    match extracted {
        Err(error) if matches!(error.kind(), AuthErrorKind::MissingToken) => Ok(None),
        extracted => extracted.map(Some),
    }
}

/// Converts an error that a handler returns. Logs the refusal, and responds with
/// [`AuthError::into_http_response`].
impl IntoResponse for AuthError {
    fn into_response(self) -> Response {
        self.log::<()>(None);
        self.into_http_response()
    }
}
