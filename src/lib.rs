#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod algorithm;
mod bearer;
mod claims;
mod clock;
mod error;
mod fetch;
mod issuer;
mod jwks;
mod keys;
mod reason;
mod scope;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
mod token;
mod validator;

pub use algorithm::Algorithm;
pub use clock::Clock;
pub use error::{AuthError, AuthErrorKind, ConfigError, KeysError, KeysUnavailable};
pub use issuer::{Issuer, TrustedIssuer};
pub use keys::KeySet;
pub use reason::{Excerpt, InvalidRequest, InvalidToken};
pub use scope::{RequiredScopes, Requirement, ScopeSet, TokenKind, is_scope_token};
pub use token::{AccessToken, Anonymous};
pub use validator::{Validator, ValidatorBuilder};
