//! Texts that are compared with a file of `tests/fixtures/snapshots`.

/// Compares with a file. `UPDATE_SNAPSHOTS=1` writes it.
pub(crate) fn assert(name: &str, text: &str) {
    let path = super::fixtures::path(format!("snapshots/{name}"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{name} differs:\n{text}");
}
