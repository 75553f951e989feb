#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod algorithm;
mod bearer;
mod claims;
mod clock;
mod error;
#[cfg(feature = "axum")]
mod extract;
mod fetch;
mod issuer;
mod json;
mod jwks;
mod jws;
mod keys;
mod layer;
#[cfg(feature = "client")]
mod m2m;
mod metadata;
mod reason;
mod require;
mod response;
mod scope;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
mod token;
mod validator;
mod verified;

pub use algorithm::Algorithm;
pub use clock::Clock;
pub use error::{AuthError, AuthErrorKind, ConfigError, KeysError, KeysUnavailable};
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub use extract::{Claims, Scoped};
pub use issuer::{Issuer, TrustedIssuer};
pub use keys::KeySet;
pub use layer::{AuthLayer, AuthService};
#[cfg(feature = "client")]
#[cfg_attr(docsrs, doc(cfg(feature = "client")))]
pub use m2m::{
    BearerLayer, BearerService, ClientAuthentication, IssuedToken, ManagementApi, ManagementError,
    ManagementErrorKind, Pages, TokenClient, TokenClientBuilder, TokenRequest, TokenRequestError,
    TokenRequestErrorKind,
};
pub use metadata::ProtectedResourceMetadata;
pub use reason::{Excerpt, InvalidRequest, InvalidToken};
pub use require::{Guarded, RequireOrganization, RequireScopes};
pub use response::ResponseFuture;
pub use scope::{RequiredScopes, Requirement, ScopeSet, TokenKind, is_scope_token};
pub use token::{AccessToken, Anonymous};
pub use validator::{Validator, ValidatorBuilder};
