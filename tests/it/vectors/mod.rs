//! Public test vectors. Most are no access tokens, so they are judged at the raw seam,
//! `KeySet::verify`, and the validator has to refuse them all without a panic.

mod oracle;
mod rfc;
mod wycheproof;

use std::{collections::BTreeMap, fmt::Display};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tower_logto::{
    Algorithm, Issuer, TrustedIssuer, Validator,
    error::{AuthErrorKind, InvalidToken},
    testing::KeySet,
};

use crate::support::fixture;

/// Where the verdict is another than the vector's, on purpose: this crate validates access tokens
/// and is no JOSE library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deviation {
    /// Refused: a shared secret is no way to sign access tokens, and there is no HMAC here.
    Hmac,
    /// Refused: Logto never signs with EdDSA.
    EdDsa,
    /// Refused: an encrypted token (JWE).
    Encrypted,
    /// Refused: only the compact serialization is a token (RFC 7519 §3); a signature without a
    /// protected header has none.
    JsonSerialization,
    /// Refused: a payload that is not base64url (`b64: false`), a `crit` extension.
    UnencodedPayload,
    /// Refused: a stray character in base64url; the examples were authenticated with it in place.
    LenientBase64,
    /// Refused: the JWK is for another algorithm than the token's, PS256 against PS384.
    KeyForAnotherAlgorithm,
    /// Refused: the JWK's `alg` is `ES521`, which is no algorithm (P-521 goes with ES512).
    UnknownKeyAlgorithm,
    /// Refused where both verdicts are allowed: a PKCS #1 encoding without the NULL of the hash's
    /// parameters.
    MissingNull,
    /// Accepted: a well-formed key made by a broken generator (ROCA). The issuer picks its keys.
    WeaklyGeneratedKey,
}

/// What is owed to the vectors of one file or folder.
struct Row {
    file: &'static str,
    vectors: usize,
    /// As many are valid, and accepted.
    accepted: usize,
    /// As many are invalid, and refused.
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

/// Why the raw seam refuses a vector.
#[derive(Debug)]
enum Refusal {
    /// An object: one of the JSON serializations.
    Json,
    /// Not three segments, or no header or signature in them.
    Segments(usize),
    /// `b64: false` in the header.
    Unencoded,
    /// A segment is not base64url, or the header no JSON object.
    Encoding,
    /// The header's `alg` is none of ours.
    Algorithm(String),
    /// No usable key.
    Keys,
    Token(InvalidToken),
}

/// Counts verdicts, and compares them with what is owed.
#[derive(Default)]
struct Tally {
    accepted: usize,
    refused: usize,
    deviations: BTreeMap<Deviation, usize>,
    wrong: Vec<String>,
}

impl Tally {
    fn count(&mut self, vector: impl Display, valid: bool, found: &Result<(), Refusal>) {
        match (valid, found) {
            (true, Ok(())) => self.accepted += 1,
            (false, Err(_)) => self.refused += 1,
            (true, Err(refusal)) => {
                let deviation = match refusal {
                    Refusal::Algorithm(name) if name.starts_with("HS") => Hmac,
                    Refusal::Algorithm(name) if name == "EdDSA" => EdDsa,
                    Refusal::Segments(5) => Encrypted,
                    Refusal::Json | Refusal::Segments(_) => JsonSerialization,
                    Refusal::Unencoded => UnencodedPayload,
                    Refusal::Encoding => LenientBase64,
                    Refusal::Keys => UnknownKeyAlgorithm,
                    Refusal::Token(InvalidToken::KeyAlgorithmMismatch(_)) => KeyForAnotherAlgorithm,
                    other => {
                        return self
                            .wrong
                            .push(format!("{vector} is valid, and refused: {other:?}"));
                    }
                };
                self.deviate(deviation);
            }
            (false, Ok(())) => self.wrong.push(format!("{vector} is invalid, and accepted")),
        }
    }

    fn deviate(&mut self, deviation: Deviation) {
        *self.deviations.entry(deviation).or_default() += 1;
    }

    /// Every vector of the file got the verdict that the table owes it.
    fn assert(self, file: &str) {
        let Self { accepted, refused, deviations, wrong } = self;
        println!("{file}: {accepted} accepted, {refused} refused, on purpose {deviations:?}");
        assert!(wrong.is_empty(), "{file}: {wrong:#?}");
        let row = TABLE.iter().find(|row| row.file == file).unwrap();
        assert_eq!((accepted, refused), (row.accepted, row.refused), "{file}");
        assert_eq!(deviations.into_iter().collect::<Vec<_>>(), row.deviations, "{file}");
    }
}

#[test]
fn the_table_adds_up() {
    for Row { file, vectors, accepted, refused, deviations } in &TABLE {
        let deviating = deviations.iter().map(|(_, count)| count).sum::<usize>();
        assert_eq!(*vectors, accepted + refused + deviating, "{file}");
    }
}

/// All the algorithms there are, the opt-in ones included.
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
    serde_json::from_str(&fixture(&format!("vectors/{file}"))).unwrap()
}

/// A key set of a vector's key, or the vector's key set itself.
fn key_set(key: &Value) -> Result<KeySet, Refusal> {
    let set = if key["keys"].is_array() { key.clone() } else { json!({ "keys": [key] }) };
    KeySet::from_json(set.to_string().as_bytes(), &ALGORITHMS).map_err(|_| Refusal::Keys)
}

/// Verifies a JWS in compact serialization at the raw seam.
fn verify_jws(key: &Value, jws: &str) -> Result<(), Refusal> {
    if jws.starts_with('{') {
        return Err(Refusal::Json);
    }
    let segments = jws.split('.').collect::<Vec<_>>();
    let [header, payload, signature] = segments[..] else {
        return Err(Refusal::Segments(segments.len()));
    };
    if header.is_empty() || signature.is_empty() {
        return Err(Refusal::Segments(segments.len()));
    }
    let decode = |segment| URL_SAFE_NO_PAD.decode(segment).map_err(|_| Refusal::Encoding);
    let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| Refusal::Encoding)?;
    if header["b64"] == false {
        return Err(Refusal::Unencoded);
    }
    decode(payload)?;
    let signature = decode(signature)?;
    let name = header["alg"].as_str().unwrap_or_default();
    let algorithm = ALGORITHMS.into_iter().find(|algorithm| algorithm.name() == name);
    let algorithm = algorithm.ok_or_else(|| Refusal::Algorithm(name.to_owned()))?;
    let (signed, _) = jws.rsplit_once('.').unwrap();
    key_set(key)?
        .verify(header["kid"].as_str(), algorithm, signed.as_bytes(), &signature)
        .map_err(Refusal::Token)
}

/// A validator refuses the text, and says why: it is no JWT, or asks for an extension.
fn assert_no_access_token(text: &str, found: &Result<(), Refusal>) {
    use AuthErrorKind::{InvalidRequest, InvalidToken as Token};

    let issuer = Issuer::logto("https://tenant.logto.app").unwrap();
    let trusted = TrustedIssuer::new(&issuer)
        .audience("https://shopping.api")
        .static_jwks(fixture("logto-captures/jwks/all.json"));
    let validator = Validator::builder().trust(trusted).build().unwrap();
    let error = validator.try_validate(text).expect("the keys are static").unwrap_err();
    let right = match (found, error.kind()) {
        (Err(Refusal::Unencoded), kind) => matches!(kind, Token(InvalidToken::CriticalHeader)),
        (Err(Refusal::Json), kind) => matches!(kind, InvalidRequest(_)),
        (Err(Refusal::Segments(_)), kind) => matches!(
            kind,
            InvalidRequest(_) | Token(InvalidToken::NotAJwt | InvalidToken::Malformed(_))
        ),
        (_, kind) => matches!(kind, InvalidRequest(_) | Token(_)),
    };
    assert!(right, "{text}: {found:?}, {error:?}");
}
