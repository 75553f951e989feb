//! One page for each common task, with example code that compiles.

#![allow(missing_docs, reason = "each page begins with its description")]

#[cfg(feature = "axum")]
#[doc = include_str!("docs/guide/routes.md")]
pub mod routes {}
#[cfg(feature = "axum")]
#[doc = include_str!("docs/guide/organizations.md")]
pub mod organizations {}
#[cfg(feature = "axum")]
#[doc = include_str!("docs/guide/claims_and_errors.md")]
pub mod claims_and_errors {}
#[cfg(all(feature = "axum", feature = "client"))]
#[doc = include_str!("docs/guide/configuration.md")]
pub mod configuration {}
#[cfg(all(feature = "axum", feature = "client"))]
#[doc = include_str!("docs/guide/other_places.md")]
pub mod other_places {}
#[doc = include_str!("docs/guide/forward_auth.md")]
pub mod forward_auth {}
#[cfg(all(feature = "client", feature = "tonic"))]
#[doc = include_str!("docs/guide/grpc.md")]
pub mod grpc {}
#[doc = include_str!("docs/guide/hyper.md")]
pub mod hyper {}
#[cfg(all(feature = "axum", feature = "client"))]
#[doc = include_str!("docs/guide/mcp.md")]
pub mod mcp {}
#[cfg(feature = "axum")]
#[doc = include_str!("docs/guide/openapi.md")]
pub mod openapi {}
#[cfg(feature = "metrics")]
#[doc = include_str!("docs/guide/metrics.md")]
pub mod metrics {}
#[cfg(all(feature = "axum", feature = "redis", feature = "testing"))]
#[doc = include_str!("docs/guide/revocation.md")]
pub mod revocation {}
#[cfg(all(feature = "axum", feature = "testing"))]
#[doc = include_str!("docs/guide/operations.md")]
pub mod operations {}
#[cfg(feature = "axum")]
#[doc = include_str!("docs/guide/migration.md")]
pub mod migration {}
