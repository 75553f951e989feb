#![doc = include_str!("../README.md")]
//!
//! # The crate in one walk
//! A request meets [`AuthLayer`], which reads its `Authorization` header and asks a [`Validator`].
//! The validator knows one or more [`TrustedIssuer`]s: whom their tokens may be for, which
//! algorithms they may use, where their keys are. What passes becomes an [`AccessToken`] in the
//! request's extensions. [`RequireScopes`] and [`RequireOrganization`] guard routes, [`Scoped`] and
//! [`Claims`] guard from a handler's signature, [`AccessToken::require_scopes`] from its body. What
//! does not pass is an [`AuthError`], which maps itself to a status and a challenge, once and for
//! all.
//!
//! # Which token opens which route
//! The same scope name means something else in each of Logto's permission models, so a token has a
//! [`TokenKind`], and guards fail closed:
//!
//! | token | asked for with | what accepts it |
//! |---|---|---|
//! | global API resource | `resource` | guards that name no other kind, outside [`RequireOrganization`] |
//! | organization-level API resource | `resource`, `organization_id` | guards inside [`RequireOrganization`] (or after [`AccessToken::in_organization`]) |
//! | organization permissions | `organization_id` | a validator with [`TrustedIssuer::organizations`], and guards that name it with [`RequiredScopes::kind`], inside [`RequireOrganization`] |
//!
//! # What callers get
//! | | status | challenge |
//! |---|---|---|
//! | no token | 401 | `Bearer`, without an error code |
//! | two `Authorization` headers, malformed credentials, not exactly one organization header | 400 | `invalid_request` |
//! | a token that is not to be trusted here | 401 | `invalid_token` |
//! | a good token without the scopes, of the wrong kind or organization | 403 | `insufficient_scope` |
//! | the issuer's keys cannot be had | 503 | none; `Retry-After` |
//! | a guard without a layer around it, a path parameter that the route does not have | 500 | none; logged as an error |
//!
//! A gRPC caller that the layer or a guard on the route refuses gets the `grpc-status` that belongs
//! to it; handlers and their extractors answer HTTP, and [`AuthError::grpc_status`] is for a
//! `tonic::Status` there. The reason, and what to do about it, stands in the log at debug
//! (`RUST_LOG=tower_logto=debug`); the caller never reads it.
//!
//! # Calling other services
//! A [`TokenClient`] gets the tokens of a machine-to-machine application, [`BearerLayer`] attaches
//! them to the requests of an HTTP client, [`ManagementApi`] calls Logto itself: see [`m2m`].
//!
//! # Good to know
//! - A route that is added after `.route_layer(…)`, and a fallback, are not covered by the layer. A
//!   guard in the handler's signature answers 500 there, rather than let anybody in.
//! - The last layer that is added runs first: [`AuthLayer`] comes last.
//! - A flood of bad signatures costs one check each; a rate limit belongs in front of the service.
//! - A call that waits for keys holds its place in a `ConcurrencyLimit` inside, and so does a service
//!   that has refused a call, until its next one: axum and hyper-util drop it after each.
//! - WebSockets and streams outlive `exp`: close them yourself at [`AccessToken::expires_at`].
//! - A tenant's custom-claims script may set `organization_id`: the tenant is trusted.
//! - Tokens in the query or the body of a request are not read.
//!
//! # Not supported
//! Opaque tokens and introspection (ask Logto for a `resource`), ID tokens, DPoP and mTLS-bound
//! tokens (refused), HMAC, EdDSA and encrypted tokens, discovery at start (the addresses follow
//! from the issuer, or are set).
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod access_token;
mod algorithm;
mod bearer;
mod clock;
#[doc = include_str!("docs/defaults.md")]
pub mod defaults {}
pub mod error;
mod escape;
#[cfg(feature = "axum")]
mod extract;
mod http_client;
mod issuer;
mod json;
mod jwks;
pub mod layer;
#[cfg(feature = "client")]
#[cfg_attr(docsrs, doc(cfg(feature = "client")))]
pub mod m2m;
mod resource_metadata;
mod scope;
mod single_flight;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
#[doc = include_str!("docs/threat_model.md")]
pub mod threat_model {}
mod url;
mod validator;

pub use access_token::{AccessToken, Anonymous};
pub use algorithm::Algorithm;
pub use clock::Clock;
pub use error::AuthError;
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub use extract::{Claims, Scoped};
pub use issuer::{Issuer, TrustedIssuer};
pub use layer::{AuthLayer, Require};
pub use resource_metadata::ProtectedResourceMetadata;
pub use scope::{Scope, ScopeSet, TokenKind};
pub use validator::{Validator, ValidatorBuilder};

#[doc(hidden)]
pub use scope::macro_support as __private;
