//! axum's extractors: the guard in the handler's signature.

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
    scope::Requirement,
};

/// The token of the request; 401 without one. `Option<AccessToken>` is `None` where
/// [`AuthLayer::optional`](crate::AuthLayer::optional) let an anonymous request pass.
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

/// The token's claims as a type of yours, custom claims included; 401 when they do not have its
/// shape.
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
#[allow(clippy::exhaustive_structs, reason = "taken apart in handlers' signatures")]
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

/// A token that has what `R` demands; 403 without. `R` is declared by [`scopes!`](crate::scopes).
///
/// The guard is in the handler's signature, so no route can be added without it:
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
pub struct Scoped<R> {
    token: AccessToken,
    requirement: PhantomData<fn() -> R>,
}

impl<R> Scoped<R> {
    /// The token alone.
    #[must_use]
    pub fn into_token(self) -> AccessToken {
        self.token
    }
}

impl<R> Deref for Scoped<R> {
    type Target = AccessToken;

    fn deref(&self) -> &AccessToken {
        &self.token
    }
}

impl<S: Sync, R: Requirement> FromRequestParts<S> for Scoped<R> {
    type Rejection = AuthError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AuthError> {
        let token = AccessToken::from_extensions(&parts.extensions)?;
        token.require(&R::REQUIRED)?;
        Ok(Self { token: token.clone(), requirement: PhantomData })
    }
}

impl<S: Sync, R: Requirement> OptionalFromRequestParts<S> for Scoped<R> {
    type Rejection = AuthError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, AuthError> {
        absent_is_none(<Self as FromRequestParts<S>>::from_request_parts(parts, state).await)
    }
}

/// Absent is `None`; present but bad, or no layer at all, is a refusal.
fn absent_is_none<T>(extracted: Result<T, AuthError>) -> Result<Option<T>, AuthError> {
    match extracted {
        Err(error) if matches!(error.kind(), AuthErrorKind::MissingToken) => Ok(None),
        extracted => extracted.map(Some),
    }
}

/// Status, challenge and an empty body: [`AuthError::response`].
impl IntoResponse for AuthError {
    fn into_response(self) -> Response {
        self.response()
    }
}
