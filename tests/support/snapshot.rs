//! Compares texts with the files of `tests/fixtures/snapshots`.

/// Asserts that the text equals the content of the file. If the environment variable
/// `UPDATE_SNAPSHOTS` is set, the function first writes the text to the file.
pub(crate) fn assert(name: &str, text: &str) {
    let path = super::fixtures::path(format!("snapshots/{name}"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{name} differs:\n{text}");
}
