//! Public test vectors. `KeySet::verify` checks their signatures. No vector is an access token of a
//! trusted issuer. The validator must therefore refuse every vector that is a JWS or a JWE, without
//! a panic.

mod oracle;
mod rfc;
mod wycheproof;

use std::{collections::BTreeMap, fmt::Display};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tower_logto::{
    Algorithm, Issuer, TrustedIssuer, Validator, error::InvalidToken, testing::KeySet,
};

use crate::support::{Outcome, SHOPPING_API, fixtures};

/// The reason why this crate's result deliberately differs from the result in the vector. This
/// crate validates access tokens, and is not a general JOSE library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deviation {
    /// Refused. This crate does not implement HMAC, because access tokens must not be signed with a
    /// shared secret.
    Hmac,
    /// Refused. This crate does not implement EdDSA, because Logto never signs with EdDSA.
    EdDsa,
    /// Refused, because the token is encrypted (a JWE).
    Encrypted,
    /// Refused, because the vector does not use the compact serialization, which RFC 7519 §3
    /// requires for a JWT. A JWS without a protected header has no compact serialization.
    JsonSerialization,
    /// Refused, because the payload is not encoded as base64url (`b64: false`). Such a token needs
    /// the `crit` header, which this crate refuses.
    UnencodedPayload,
    /// Refused, because the base64url text contains an invalid character. Without this character,
    /// the signature would be valid.
    LenientBase64,
    /// Refused, because the JWK is for PS384, but the token uses PS256, or the reverse.
    KeyForAnotherAlgorithm,
    /// Refused, because the `alg` of the JWK is `ES521`. No such algorithm exists. The algorithm
    /// for P-521 is ES512.
    UnknownKeyAlgorithm,
    /// Refused, because the PKCS #1 encoding lacks the NULL parameter of the hash. The vector
    /// allows a library to accept or to refuse the signature.
    MissingNull,
    /// Accepted, although the key comes from a weak generator (ROCA). The key is well-formed, and
    /// the issuer is responsible for the choice of its keys.
    WeaklyGeneratedKey,
}

/// The expected results of one file or folder.
struct Row {
    file: &'static str,
    vectors: usize,
    /// The number of valid vectors that are accepted.
    accepted: usize,
    /// The number of invalid vectors that are refused.
    refused: usize,
    deviations: &'static [(Deviation, usize)],
}

const fn row(
    file: &'static str,
    [vectors, accepted, refused]: [usize; 3],
    deviations: &'static [(Deviation, usize)],
) -> Row {
    Row { file, vectors, accepted, refused, deviations }
}

use Deviation::*;

const TABLE: [Row; 14] = [
    row(
        "wycheproof/json_web_signature_test.json",
        [401, 32, 355],
        &[(Hmac, 8), (LenientBase64, 2), (KeyForAnotherAlgorithm, 2), (UnknownKeyAlgorithm, 2)],
    ),
    row("wycheproof/json_web_key_test.json", [26, 1, 20], &[(Hmac, 4), (WeaklyGeneratedKey, 1)]),
    row(
        "wycheproof/json_web_crypto_test.json",
        [83, 2, 76],
        &[(Hmac, 2), (Encrypted, 2), (WeaklyGeneratedKey, 1)],
    ),
    row("wycheproof/ecdsa_secp256r1_sha256_p1363_test.json", [262, 173, 89], &[]),
    row("wycheproof/ecdsa_secp384r1_sha384_p1363_test.json", [280, 193, 87], &[]),
    row("wycheproof/ecdsa_secp521r1_sha512_p1363_test.json", [318, 231, 87], &[]),
    row("wycheproof/rsa_signature_2048_sha256_test.json", [259, 9, 249], &[(MissingNull, 1)]),
    row("wycheproof/rsa_signature_3072_sha256_test.json", [259, 8, 250], &[(MissingNull, 1)]),
    row("wycheproof/rsa_pss_2048_sha256_mgf1_32_test.json", [108, 63, 45], &[]),
    row("rfc7515/appendix_a.json", [5, 3, 1], &[(Hmac, 1)]),
    row("rfc7520/jwk", [6, 2, 4], &[]),
    row("rfc7520/jws", [25, 4, 0], &[(Hmac, 4), (JsonSerialization, 17)]),
    row("rfc7520/rfc7797", [6, 0, 0], &[(JsonSerialization, 5), (UnencodedPayload, 1)]),
    row("rfc7520/curve25519", [3, 0, 0], &[(EdDsa, 1), (JsonSerialization, 2)]),
];

/// The reason why a vector is refused.
#[derive(Debug)]
enum VectorError {
    /// The vector is in a JSON serialization.
    Json,
    /// The number of segments is not three, or the header or the signature is empty.
    Segments(usize),
    /// The header contains `b64: false`.
    Unencoded,
    /// A segment is not base64url, or the header is not JSON.
    Encoding,
    /// The `alg` of the header is not supported.
    Algorithm(String),
    /// The JWKS contains no usable key.
    Keys,
    Token(InvalidToken),
}

/// Counts the results of a file or a folder, and compares the counts with `TABLE`.
#[derive(Default)]
struct Tally {
    accepted: usize,
    refused: usize,
    deviations: BTreeMap<Deviation, usize>,
    wrong: Vec<String>,
}

impl Tally {
    fn count(&mut self, vector: impl Display, valid: bool, found: &Result<(), VectorError>) {
        match (valid, found) {
            (true, Ok(())) => self.accepted += 1,
            (false, Err(_)) => self.refused += 1,
            (true, Err(error)) => {
                let deviation = match error {
                    VectorError::Algorithm(name) if name.starts_with("HS") => Hmac,
                    VectorError::Algorithm(name) if name == "EdDSA" => EdDsa,
                    VectorError::Segments(5) => Encrypted,
                    VectorError::Json | VectorError::Segments(_) => JsonSerialization,
                    VectorError::Unencoded => UnencodedPayload,
                    VectorError::Encoding => LenientBase64,
                    VectorError::Keys => UnknownKeyAlgorithm,
                    VectorError::Token(InvalidToken::KeyAlgorithmMismatch(_)) => {
                        KeyForAnotherAlgorithm
                    }
                    other => {
                        return self
                            .wrong
                            .push(format!("{vector} is valid but refused: {other:?}"));
                    }
                };
                self.deviate(deviation);
            }
            (false, Ok(())) => self.wrong.push(format!("{vector} is invalid but accepted")),
        }
    }

    fn deviate(&mut self, deviation: Deviation) {
        *self.deviations.entry(deviation).or_default() += 1;
    }

    /// Asserts that the counts equal those in `TABLE`.
    fn assert_matches_table(self, file: &str) {
        let Self { accepted, refused, deviations, wrong } = self;
        println!("{file}: {accepted} accepted, {refused} refused, deviations {deviations:?}");
        assert!(wrong.is_empty(), "{file}: {wrong:#?}");
        let row = TABLE.iter().find(|row| row.file == file).unwrap();
        assert_eq!((accepted, refused), (row.accepted, row.refused), "{file}");
        assert_eq!(deviations.into_iter().collect::<Vec<_>>(), row.deviations, "{file}");
    }
}

#[test]
fn table_counts_add_up() {
    for Row { file, vectors, accepted, refused, deviations } in &TABLE {
        let deviating = deviations.iter().map(|(_, count)| count).sum::<usize>();
        assert_eq!(*vectors, accepted + refused + deviating, "{file}");
    }
}

/// All algorithms, including those that are disabled by default.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::ES512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

fn read(file: &str) -> Value {
    serde_json::from_str(&fixtures::read(&format!("vectors/{file}"))).unwrap()
}

/// Parses the key or the JWKS of a vector.
fn key_set(key: &Value) -> Result<KeySet, VectorError> {
    let set = if key["keys"].is_array() { key.clone() } else { json!({ "keys": [key] }) };
    KeySet::from_json(set.to_string().as_bytes(), &ALGORITHMS).map_err(|_| VectorError::Keys)
}

/// Verifies the signature of a JWS in compact serialization.
fn verify_jws(key: &Value, jws: &str) -> Result<(), VectorError> {
    if jws.starts_with('{') {
        return Err(VectorError::Json);
    }
    let segments = jws.split('.').collect::<Vec<_>>();
    let [header, payload, signature] = segments[..] else {
        return Err(VectorError::Segments(segments.len()));
    };
    if header.is_empty() || signature.is_empty() {
        return Err(VectorError::Segments(segments.len()));
    }
    let decode = |segment| URL_SAFE_NO_PAD.decode(segment).map_err(|_| VectorError::Encoding);
    let header: Value =
        serde_json::from_slice(&decode(header)?).map_err(|_| VectorError::Encoding)?;
    if header["b64"] == false {
        return Err(VectorError::Unencoded);
    }
    decode(payload)?;
    let signature = decode(signature)?;
    let name = header["alg"].as_str().unwrap_or_default();
    let algorithm = ALGORITHMS.into_iter().find(|algorithm| algorithm.name() == name);
    let algorithm = algorithm.ok_or_else(|| VectorError::Algorithm(name.to_owned()))?;
    let (signed, _) = jws.rsplit_once('.').unwrap();
    key_set(key)?
        .verify(header["kid"].as_str(), algorithm, signed.as_bytes(), &signature)
        .map_err(VectorError::Token)
}

/// Asserts that a validator refuses the text, and that the reason is consistent with `found`, the
/// result of the signature check.
fn assert_no_access_token(text: &str, found: &Result<(), VectorError>) {
    use Outcome::{CriticalHeader, Malformed, MalformedCredentials, NotAJwt};

    let issuer = Issuer::logto("https://tenant.logto.app").unwrap();
    let trusted = TrustedIssuer::new(&issuer)
        .audience(SHOPPING_API)
        .static_jwks(fixtures::captured_jwks("all"));
    let validator = Validator::builder().trust(trusted).build().unwrap();
    let error = validator.try_validate(text).expect("the keys are static").unwrap_err();
    let outcome = Outcome::of_error(&error);
    let is_expected = match found {
        Err(VectorError::Unencoded) => outcome == CriticalHeader,
        Err(VectorError::Json) => outcome == MalformedCredentials,
        Err(VectorError::Segments(_)) => {
            matches!(outcome, MalformedCredentials | NotAJwt | Malformed)
        }
        _ => matches!(outcome.status(), 400 | 401),
    };
    assert!(is_expected, "{text}: {found:?}, {error:?}");
}
