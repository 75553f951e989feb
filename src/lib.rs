#![doc = include_str!("../README.md")]
//!
//! # How a request is handled
//! [`AuthLayer`] reads the `Authorization` header of a request and passes the token to a
//! [`Validator`]. The validator trusts one or more issuers. For each issuer, a [`TrustedIssuer`]
//! specifies the accepted audiences and algorithms, and the address of the keys. A valid token
//! becomes an [`AccessToken`] in the request's extensions. If the token is invalid, the layer
//! responds with an [`AuthError`]. The error determines the status and the challenge of the
//! response.
//!
//! Scopes, organizations and custom claims can be checked in three places:
//! - on the route, with the guard [`Require`];
//! - in the handler's signature, with the extractors [`Scoped`] and [`Claims`];
//! - in the handler's body, with [`AccessToken::require_scopes`].
//!
//! # Which tokens a route accepts
//! The same scope name has a different meaning in each of Logto's permission models. Each token
//! therefore has a [`TokenKind`], and a guard accepts only the kinds that it names:
//!
//! | token for | parameters of the token request | accepted by |
//! |---|---|---|
//! | global API resource | `resource` | [`Require::global`]. Outside organization guards, [`Scoped`] and [`AccessToken::require_scopes`] also accept these tokens. |
//! | organization-level API resource | `resource`, `organization_id` | [`AccessToken::require_organization`], and organization guards, such as [`Require::organization_in_path`]. Inside organization guards, [`Scoped`] and [`AccessToken::require_scopes`] also accept these tokens. |
//! | organization permissions | `organization_id` | organization guards with [`Require::organization_permissions`], if the validator has [`TrustedIssuer::organizations`] |
//!
//! # How to split scopes
//! **Grant a scope by global roles or by organization roles, never by both.** If a route serves
//! the data of one organization, guard the route with a `Require::organization_…` constructor. On
//! global routes, require scopes that only global roles grant. The reason is that a token does not
//! show which role grants a scope. Logto combines the API scopes from all of a user's roles:
//!
//! | a user's token for | has the API scopes of |
//! |---|---|
//! | a global API resource | the user's global roles, **and the user's roles in each of the user's organizations** |
//! | an organization-level API resource | the user's roles in that organization, **and the user's global roles** |
//!
//! Two examples of configurations that go wrong:
//! - The role "manager" of each organization grants `read:members`. One global route lists the
//!   members of all organizations. Its guard is `Require::global().scopes(["read:members"])`. Alice
//!   is a manager in one organization, but she can read the members of every organization. Guard
//!   the route with another scope, such as `read:all-members`, that only a global role grants.
//! - The global role "support" grants `delete:members`, which one global route requires. The
//!   organization role "owner" grants the same scope, which the route `/orgs/{org_id}/members`
//!   requires. Bob has the role "support". In the organization Acme he is a member without a role.
//!   His token for Acme nevertheless has `delete:members`, and the guard
//!   `Require::organization_in_path("org_id").scopes(["delete:members"])` accepts it. Use another
//!   scope for the global role.
//!
//! Machine-to-machine tokens are not affected. Such a token has either the scopes of the
//! application's global roles, or the scopes of the application's roles in one organization. An
//! organization permission token has the scopes of one organization. If no route of an API needs
//! global tokens, set [`TrustedIssuer::organization_tokens_only`] to refuse them.
//!
//! # Several issuers or audiences
//! Use one validator per audience, because a scope of one API has no meaning in another API.
//! [`Validator::derive`] makes validators that share keys and validated tokens. If one validator
//! trusts several issuers or audiences, each guard must name the issuer or audience that it accepts
//! ([`Require::issuer`], [`Require::audience`]). A guard without this name responds to every valid
//! token with 500, unless [`ValidatorBuilder::trust_all_alike`] permits such guards.
//!
//! # What callers get
//! | cause | status | challenge |
//! |---|---|---|
//! | no token | 401 | `Bearer`, without an error code |
//! | more than one `Authorization` header, malformed credentials, or a required organization header that is missing or repeated | 400 | `invalid_request` |
//! | an invalid token | 401 | `invalid_token` |
//! | a valid token without the required scopes, of the wrong kind, or of the wrong organization | 403 | `insufficient_scope` |
//! | too many requests with unknown key ids are waiting for a refresh | 429 | no challenge, but a `Retry-After` header |
//! | the issuer's signing keys are unavailable | 503 | no challenge, but a `Retry-After` header |
//! | a flood of tokens with bad signatures fills the queue for signature checks, or makes a request wait too long in this queue | 503 | no challenge, but a `Retry-After` header |
//! | the rules that revoke tokens are unavailable, and the Redis store is `strict` | 503 | no challenge, but a `Retry-After` header |
//! | a guard without an `AuthLayer` around it, a guard with a path parameter that the route does not have, or a guard that does not name the required issuer or audience | 500 | no challenge, but the crate logs an error |
//!
//! If the layer or a guard refuses a gRPC request, the response has the matching `grpc-status`. If
//! an extractor refuses the request, or if a handler returns an [`AuthError`], the response has an
//! HTTP error status and no `grpc-status`, even for a gRPC request. With the feature `tonic`, a
//! handler can convert an [`AuthError`] to a `tonic::Status`.
//!
//! The crate logs the reason for each refusal, and the fix, at level debug
//! (`RUST_LOG=tower_logto=debug`). The response contains at most a short description of the reason.
//! It never contains the fix.
//!
//! # Calling other services
//! The module [`m2m`] requests tokens for a machine-to-machine application.
//! [`TokenClient`](m2m::TokenClient) caches the tokens. [`BearerLayer`](m2m::BearerLayer) attaches
//! them to the requests of an HTTP client. [`ManagementApi`](m2m::ManagementApi) calls Logto's
//! Management API.
//!
//! # Revocation
//! With the feature `revocation`, rules refuse the tokens of suspended users before these tokens
//! expire. The rules come from Logto's webhooks. With the feature `redis`, all instances share the
//! rules.
//!
//! # Browsers (CORS)
//! Browsers send preflight requests without credentials, so `AuthLayer` refuses preflight requests.
//! Add the CORS layer after `AuthLayer`. The layer added last runs first, so the CORS layer answers
//! preflights before `AuthLayer` sees them.
//!
//! ```
//! use axum::{Router, routing::get};
//! use tower_http::cors::CorsLayer;
//! use tower_logto::{AuthLayer, Issuer, Validator};
//!
//! let issuer = Issuer::logto("https://tenant.logto.app")?;
//! let validator = Validator::new(&issuer, "https://shopping.api")?;
//! let app: Router = Router::new()
//!     .route("/products", get(async || "the catalogue"))
//!     .route_layer(AuthLayer::new(validator))
//!     .layer(CorsLayer::permissive()); // outside of AuthLayer
//! # Ok::<(), tower_logto::error::ConfigError>(())
//! ```
//!
//! # Pitfalls
//! - `.route_layer(…)` covers neither a fallback nor routes that are added later. If a handler
//!   takes an extractor of this crate as an argument, but no `AuthLayer` covers the handler, the
//!   extractor responds with 500.
//! - `get(read).route_layer(guard).post(write)` leaves `write` without a guard. Call `route_layer`
//!   after the last method.
//! - A guard outside `nest_service` does not see the path parameters of the inner router. If the
//!   inner and the outer router use the same parameter name, the guard and the handler can get
//!   different values. Use `nest` instead.
//! - In a `Router`, the layer added last runs first, so add [`AuthLayer`] after the guards. In a
//!   `ServiceBuilder`, the layer added first runs first. See [the guide](guide::routes).
//! - Each token with a wrong signature costs one signature check. During a flood of such tokens,
//!   the checks move to other threads, and the first token of a new subject waits in a queue. Limit
//!   the request rate in front of the service.
//! - A `ConcurrencyLimit` inside [`AuthLayer`] acquires a permit in `poll_ready`, before the layer
//!   checks the token. A request that waits for keys therefore holds a permit. If the layer refuses
//!   a request immediately, the `ConcurrencyLimit` is not called. It keeps the permit for the next
//!   request that the layer accepts. If the whole service is dropped, the permit is released. axum
//!   and hyper-util drop the service after each request.
//! - WebSockets and streams can stay open after `exp`. Close such a connection at
//!   [`AccessToken::expires_at`], or check its token again with [`Validator::recheck`].
//! - A custom-claims script of the tenant can set `organization_id`. The crate trusts this claim.
//! - Tokens in the query or the body of a request are ignored.
//!
//! The [guide](guide) has pages for common tasks, such as scopes per route, the order of layers,
//! organizations, custom claims, response bodies of refusals, cookies, WebSockets, tests,
//! containers, and the migration from other crates.
//!
//! # Not supported
//! - Opaque tokens and introspection. If the token request has a `resource`, Logto issues a JWT.
//! - ID tokens, and tokens bound by DPoP or mTLS. The validator refuses them.
//! - HMAC, EdDSA and encrypted tokens.
//! - Discovery. By default, the crate derives the addresses of the key set and of the token
//!   endpoint from the issuer. You can set both addresses yourself.
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
#[cfg(feature = "tonic")]
mod grpc;
pub mod guide;
mod http_client;
mod issuer;
mod json;
mod jwks;
pub mod layer;
#[cfg(feature = "client")]
#[cfg_attr(docsrs, doc(cfg(feature = "client")))]
pub mod m2m;
mod metrics;
mod rate_limit;
mod resource_metadata;
#[cfg(feature = "revocation")]
#[cfg_attr(docsrs, doc(cfg(feature = "revocation")))]
pub mod revocation;
mod scope;
pub mod settings;
mod single_flight;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
#[doc = include_str!("docs/threat_model.md")]
pub mod threat_model {}
/// The status of a validator. Reading the status needs no I/O.
pub mod status {
    pub use crate::{
        jwks::status::{IssuerStatus, KeysState},
        validator::status::Status,
    };
}
mod url;
mod validator;
/// Snapshots of keys, for a service that restarts while Logto is down.
pub mod warm_start {
    pub use crate::jwks::snapshot::KeySnapshot;
}

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
pub use validator::explain;
pub use validator::{Validator, ValidatorBuilder};

#[doc(hidden)]
pub use scope::macros as __private;
