//! Helpers that all test binaries and benchmarks share: `tests/it`, `tests/interop`,
//! `tests/memory.rs`, `tests/allocations.rs` and the benches.

#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each binary uses only some helpers; a failing helper fails the test"
)]

pub(crate) mod fixtures;
mod harness;
mod log_capture;
pub(crate) mod offline;
mod outcome;
mod raw_server;
#[cfg(feature = "redis")]
pub(crate) mod redis_server;
mod server;
pub(crate) mod snapshot;
mod tasks;

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tower_logto::{AccessToken, AuthError};

pub(crate) use harness::{Harness, spawn_validate, validate_all, validate_now};
pub(crate) use log_capture::{LogCapture, log_on_every_thread};
pub(crate) use outcome::Outcome;
pub(crate) use raw_server::{
    Connection, RawServer, ReceivedRequest, gzip, gzip_bomb, jwks_response, keep_alive_response,
    response,
};
pub(crate) use server::{Server, header};
pub(crate) use tasks::{
    background_tasks_done, eventually, finishes, new_runtime, poll_once, shut_down_runtime,
};

/// The audience of most tokens in the tests.
pub(crate) const SHOPPING_API: &str = "https://shopping.api";
/// The initial time of a `ManualClock`, in Unix seconds. All captured tokens were issued within
/// five minutes of this time.
pub(crate) const NOW: u64 = 1_795_342_800;
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// The longest time that a test waits for a background task. After this time, the test fails.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the HTTP status of a validation: 200, or the status of the error.
pub(crate) fn status(outcome: &Result<AccessToken, AuthError>) -> u16 {
    outcome.as_ref().map_or_else(|error| error.status().as_u16(), |_| 200)
}

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn base64url_decode(text: impl AsRef<[u8]>) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}
