//! Machine-to-machine tokens, the outgoing layer and the Management API.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy takes the helpers of tests for production code"
)]

mod answers;
mod bearer_layer;
mod cache;
mod example;
mod leaks;
mod management;
mod outage;
mod requests;
mod support;
