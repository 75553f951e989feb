//! What several concerns share.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tower_logto::{AuthErrorKind, Clock, InvalidToken};

/// A file of `tests/fixtures`.
pub(crate) fn fixture(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
