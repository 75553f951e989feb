//! One binary for the integration tests: a module per concern.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper of a test fails it"
)]

mod attacks;
mod captures;
mod cors;
mod example;
mod extract;
mod guards;
mod hostile;
mod hostile_keys;
mod keys_over_time;
mod logging;
mod m2m;
mod readiness;
mod responses;
mod strangers;
mod support;
mod threat_model;
mod vectors;
mod verified_tokens;
