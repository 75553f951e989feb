//! Reads the files of `tests/fixtures`.

use std::path::{Path, PathBuf};

pub(crate) fn path(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

pub(crate) fn read(file: &str) -> String {
    let path = path(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns a token that was captured from a real Logto server. `name` is the name of the token's
/// file in `logto-captures/tokens`.
pub(crate) fn captured_token(name: &str) -> String {
    read(&format!("logto-captures/tokens/{name}.jwt")).trim().to_owned()
}

/// Returns a JWKS that was captured from a real Logto server. `name` is the name of the JWKS's file
/// in `logto-captures/jwks`.
pub(crate) fn captured_jwks(name: &str) -> String {
    read(&format!("logto-captures/jwks/{name}.json"))
}

/// Returns the bytes of a response that was captured from a real Logto server. In the file, the
/// command that sent the request comes before the response.
pub(crate) fn captured_response(file: &str) -> Vec<u8> {
    let text = read(&format!("logto-captures/{file}")).replace("\r\n", "\n");
    let text = &text[text.find("HTTP/1.1").unwrap()..];
    let (head, body) = text.split_once("\n\n").unwrap();
    let mut bytes = head.replace('\n', "\r\n").into_bytes();
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes.extend_from_slice(body.strip_suffix('\n').unwrap_or(body).as_bytes());
    bytes
}
