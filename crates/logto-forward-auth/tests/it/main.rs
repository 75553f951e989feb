//! Runs the program over real sockets: alone, behind nginx and behind Caddy.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing helper fails the test"
)]

mod alone;
mod caddy;
mod demo;
mod file;
mod nginx;
mod support;
mod through_proxy;
