//! The integration tests. All of them are in one binary, with one module per topic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing helper fails the test"
)]

// The other test binaries and the benches also use `support`, so it is in the parent folder.
#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod captured_tokens;
mod cors;
mod example;
mod explain;
mod extract;
mod flood;
#[cfg(feature = "tonic")]
mod grpc;
mod guards;
mod jwks;
mod logging;
mod m2m;
#[cfg(feature = "metrics")]
mod metrics;
mod mistakes;
mod readiness;
mod recheck;
mod responses;
#[cfg(feature = "revocation")]
mod revocation;
mod settings;
mod status;
mod threat_model;
mod token_cache;
mod untrusted_input;
mod vectors;
