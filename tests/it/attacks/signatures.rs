//! Attacks on the signature and its algorithm (RFC 8725 §3.1–3.3).

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tower_logto::{Algorithm, testing::SigningKey};

use super::{Target, header_of, signed, unsigned, with_signature};
use crate::support::{
    Outcome::{
        Accepted, AlgorithmNotAllowed, AmbiguousKey, BadSignature, KeyAlgorithmMismatch, Malformed,
        MalformedCredentials, NotAJwt, UnknownKey,
    },
    base64url, base64url_decode,
};

/// For each ECDSA algorithm: the order of its curve as a hexadecimal number, and half the length of
/// a signature in bytes.
const ORDERS: [(Algorithm, &str, usize); 3] = [
    (Algorithm::ES256, "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551", 32),
    (
        Algorithm::ES384,
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77A\
         ECEC196ACCC52973",
        48,
    ),
    (
        Algorithm::ES512,
        "01FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFA51868783BF2F\
         966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409",
        66,
    ),
];

fn order(algorithm: Algorithm) -> Vec<u8> {
    let (_, hex, _) = ORDERS.into_iter().find(|(name, ..)| *name == algorithm).unwrap();
    let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// Adds or subtracts two big-endian numbers of the same length. `step` takes one byte of each
/// number, and returns the sum or the difference of the two bytes. Returns the result, and whether
/// the operation overflowed.
fn arithmetic(a: &[u8], b: &[u8], step: impl Fn(i32, i32) -> i32) -> (Vec<u8>, bool) {
    let mut carry = 0;
    let mut digits: Vec<_> = a
        .iter()
        .zip(b)
        .rev()
        .map(|(a, b)| {
            let digit = step(i32::from(*a), i32::from(*b)) + carry;
            carry = digit.div_euclid(256);
            u8::try_from(digit.rem_euclid(256)).unwrap()
        })
        .collect();
    digits.reverse();
    (digits, carry != 0)
}

/// Encodes an ECDSA signature in DER (RFC 3279 §2.2.3). TLS and X.509 use this encoding, but JOSE
/// does not.
fn der(signature: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let mut number = number[zeros..].to_vec();
        if number.first().is_none_or(|first| *first >= 0x80) {
            number.insert(0, 0);
        }
        let length = u8::try_from(number.len()).unwrap();
        [&[0x02, length][..], &number].concat()
    };
    let (r, s) = signature.split_at(signature.len() / 2);
    let body = [integer(r), integer(s)].concat();
    let length = u8::try_from(body.len()).unwrap();
    let long: &[u8] = if length < 128 { &[] } else { &[0x81] };
    [&[0x30], long, &[length], &body].concat()
}

/// A target whose issuer has published its first key and, in addition, one key of each type that
/// Logto supports.
struct TargetWithAllKeys {
    target: Target,
    ec: Vec<SigningKey>,
    rsa: SigningKey,
}

impl TargetWithAllKeys {
    async fn start() -> Self {
        let target = Target::start().await;
        let ec: Vec<_> = ORDERS.map(|(name, ..)| SigningKey::generate(name)).into();
        let rsa = SigningKey::generate(Algorithm::RS256);
        let own = target.key();
        let keys = ec.iter().chain([&rsa, &own]).map(SigningKey::jwk).collect::<Vec<_>>();
        target.harness.logto.publish(json!({ "keys": keys }).to_string());
        // The key id of this token is unknown, so the validator fetches the keys again.
        target.validator.validate(&target.token().signed_by(&rsa).build()).await.unwrap();
        Self { target, ec, rsa }
    }
}

#[tokio::test]
async fn alg_none_is_refused_in_every_spelling() {
    let target = Target::start().await;
    let valid = target.token().build();
    let (signed, signature) = valid.rsplit_once('.').unwrap();
    let payload = signed.split_once('.').unwrap().1;
    let mut attacks = Vec::new();
    for (alg, expected) in [
        (json!("none"), AlgorithmNotAllowed),
        (json!("None"), AlgorithmNotAllowed),
        (json!("NONE"), AlgorithmNotAllowed),
        (json!("nOnE"), AlgorithmNotAllowed),
        (json!(" none"), AlgorithmNotAllowed),
        (json!("none "), AlgorithmNotAllowed),
        (json!("none\0"), AlgorithmNotAllowed),
        (json!("n\u{f6}ne"), AlgorithmNotAllowed),
        (json!(""), AlgorithmNotAllowed),
        (json!("null"), AlgorithmNotAllowed),
        (json!(null), Malformed),
        (json!(false), Malformed),
        (json!(0), Malformed),
        (json!([]), Malformed),
        (json!(["none"]), Malformed),
        (json!({ "none": "none" }), Malformed),
    ] {
        let mut header = target.header();
        header["alg"] = alg.clone();
        let header = base64url(header.to_string());
        let name = format!("alg {alg}");
        attacks.push((format!("{name}, no signature"), format!("{header}.{payload}."), Malformed));
        attacks.push((format!("{name}, AAAA"), format!("{header}.{payload}.AAAA"), expected));
        attacks.push((
            format!("{name}, a valid signature"),
            format!("{header}.{payload}.{signature}"),
            expected,
        ));
    }
    let no_alg = json!({ "typ": "at+jwt", "kid": target.key().kid() }).to_string();
    let no_alg = with_signature(&unsigned(no_alg, target.payload()), "x");
    attacks.push(("no alg".into(), no_alg, AlgorithmNotAllowed));
    attacks.push(("two segments".into(), signed.into(), NotAJwt));
    attacks.push((
        "TokenBuilder::unsigned_alg_none".into(),
        target.token().unsigned_alg_none().build(),
        Malformed,
    ));
    target.assert_outcomes(attacks).await;
}

#[tokio::test]
async fn hmac_with_the_public_key_is_refused() {
    let target = Target::start().await;
    let jwk = target.key().jwk();
    let coordinate = |name: &str| base64url_decode(jwk[name].as_str().unwrap());
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    // The first bytes of a SubjectPublicKeyInfo for P-384 (RFC 5480 §2).
    let spki = b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00";
    let spki = [spki, &point[..]].concat();
    let base64 = STANDARD.encode(&spki);
    let lines = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap());
    let lines = lines.collect::<Vec<_>>().join("\n");
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----");
    let secrets = [
        ("PEM", pem.clone().into_bytes()),
        ("PEM with a newline", format!("{pem}\n").into_bytes()),
        ("DER", spki),
        ("the JWK", jwk.to_string().into_bytes()),
        ("the JWK Set", target.harness.logto.jwks().into_bytes()),
        ("the point", point.clone()),
        ("x and y", point[1..].to_vec()),
        ("x", coordinate("x")),
        ("x in base64url", jwk["x"].as_str().unwrap().into()),
        ("the kid", target.key().kid().into()),
        ("nothing", Vec::new()),
    ];
    let mut attacks = Vec::new();
    for (name, secret) in secrets {
        for (alg, algorithm) in [
            ("HS256", hmac::HMAC_SHA256),
            ("HS384", hmac::HMAC_SHA384),
            ("HS512", hmac::HMAC_SHA512),
        ] {
            let mac = |header: &Value| {
                let unsigned = unsigned(header.to_string(), target.payload());
                let mac = hmac::sign(&hmac::Key::new(algorithm, &secret), unsigned.as_bytes());
                (unsigned, mac.as_ref().to_vec())
            };
            let mut header = target.header();
            header["alg"] = alg.into();
            let (unsigned, tag) = mac(&header);
            attacks.push((
                format!("{alg} with {name}"),
                with_signature(&unsigned, tag),
                AlgorithmNotAllowed,
            ));
            // The header has the algorithm of the key. The MAC is padded to the length of a
            // signature.
            let (unsigned, mut tag) = mac(&target.header());
            tag.resize(96, 0);
            let name = format!("{alg} with {name} as ES384");
            attacks.push((name, with_signature(&unsigned, tag), BadSignature));
        }
    }
    target.assert_outcomes(attacks).await;
}

#[tokio::test]
async fn algorithm_that_does_not_match_the_key_is_refused() {
    let TargetWithAllKeys { target, ec, rsa } = TargetWithAllKeys::start().await;
    let names = Algorithm::LOGTO.map(Algorithm::name);
    let foreign = [
        "RS384",
        "RS512",
        "PS384",
        "PS512",
        "ES256K",
        "EdDSA",
        "Ed25519",
        "HS256",
        "HS384",
        "RSA1_5",
        "ECDH-ES",
        "dir",
        "es384",
        "ES384 ",
        "SHA384withECDSA",
    ];
    let mut attacks = Vec::new();
    for key in ec.iter().chain([&rsa]) {
        let own = key.algorithm().name();
        for alg in names.into_iter().chain(foreign) {
            let mut header = header_of(key);
            header["alg"] = alg.into();
            let expected = match alg {
                alg if alg == own => Accepted,
                // An RSA key without `alg` allows RS256 and PS256. The header names PS256, but the
                // signature uses RS256.
                "PS256" if own == "RS256" => BadSignature,
                alg if names.contains(&alg) => KeyAlgorithmMismatch,
                _ => AlgorithmNotAllowed,
            };
            let token = signed(key, header.to_string(), target.payload());
            attacks.push((format!("{alg} in the header, a key for {own}"), token, expected));
            // Without a `kid`, the validator selects a key by the algorithm in the header. The
            // selected key is not always the key that signed the token.
            header.as_object_mut().unwrap().remove("kid");
            let token = signed(key, header.to_string(), target.payload());
            let expected = match (alg, expected) {
                // Two keys have this algorithm: the key that the test added, and the first key of
                // the issuer.
                ("ES384", _) => AmbiguousKey,
                (_, KeyAlgorithmMismatch) => BadSignature,
                (_, expected) => expected,
            };
            attacks.push((
                format!("{alg} in the header, no kid, a key for {own}"),
                token,
                expected,
            ));
        }
    }
    target.assert_outcomes(attacks).await;
}

#[tokio::test]
async fn invalid_ecdsa_signature_is_refused() {
    let TargetWithAllKeys { target, ec, .. } = TargetWithAllKeys::start().await;
    let other = target.token().subject("someone-else").build();
    let other = other.rsplit_once('.').unwrap().1.to_owned();
    let mut attacks = Vec::new();
    for (key, (algorithm, _, half)) in ec.iter().zip(ORDERS) {
        let unsigned = unsigned(header_of(key).to_string(), target.payload());
        let valid = key.sign(unsigned.as_bytes());
        let (r, s) = valid.split_at(half);
        let n = order(algorithm);
        let zero = vec![0; half];
        let one = [vec![0; half - 1], vec![1]].concat();
        let other_key = SigningKey::generate(algorithm);
        let raw = [
            ("valid", valid.clone(), Accepted),
            ("r = s = 0", [&zero[..], &zero].concat(), BadSignature),
            ("r = 0", [&zero[..], s].concat(), BadSignature),
            ("s = 0", [r, &zero].concat(), BadSignature),
            ("r = s = 1", [&one[..], &one].concat(), BadSignature),
            ("r = s = n", [&n[..], &n].concat(), BadSignature),
            ("r = n", [&n[..], s].concat(), BadSignature),
            ("s = n", [r, &n].concat(), BadSignature),
            ("r = 0, s = n", [&zero[..], &n].concat(), BadSignature),
            ("all ones", vec![0xff; 2 * half], BadSignature),
            ("halves swapped", [s, r].concat(), BadSignature),
            ("DER", der(&valid), BadSignature),
            ("one byte short", valid[..2 * half - 1].to_vec(), BadSignature),
            ("one byte long", [&valid[..], &[0]].concat(), BadSignature),
            ("a zero in front", [&[0][..], &valid].concat(), BadSignature),
            ("only r", r.to_vec(), BadSignature),
            ("repeated", valid.repeat(2), BadSignature),
            ("one byte", vec![0], BadSignature),
            ("ten thousand zeros", vec![0; 10_000 - 64], BadSignature),
            ("by another key", other_key.sign(unsigned.as_bytes()), BadSignature),
            ("of the payload alone", key.sign(target.payload().as_bytes()), BadSignature),
            ("of other bytes", key.sign(b"something else"), BadSignature),
        ];
        for (name, signature, expected) in raw {
            let token = with_signature(&unsigned, signature);
            attacks.push((format!("{algorithm}: {name}"), token, expected));
        }
        for (name, part, number) in [("r + n", 0, r), ("s + n", 1, s)] {
            let (sum, overflows) = arithmetic(number, &n, |a, b| a + b);
            // The sum is congruent to `number` modulo n. For P-521, the sum always fits into half a
            // signature.
            if !overflows {
                let mut halves = [r, s];
                halves[part] = &sum;
                let token = with_signature(&unsigned, halves.concat());
                attacks.push((format!("{algorithm}: {name}"), token, BadSignature));
            }
        }
        let text = with_signature(&unsigned, &valid);
        for (name, token, expected) in [
            ("empty", format!("{unsigned}."), Malformed),
            ("of another token", format!("{unsigned}.{other}"), BadSignature),
            ("padded", format!("{text}="), Malformed),
            ("a fourth segment", format!("{text}.{other}"), NotAJwt),
            ("a trailing dot", format!("{text}."), NotAJwt),
            ("an escaped newline", format!("{text}%0a"), MalformedCredentials),
            ("standard base64", format!("{unsigned}.+/+/"), Malformed),
        ] {
            attacks.push((format!("{algorithm}: {name}"), token, expected));
        }
    }
    target.assert_outcomes(attacks).await;
}

#[tokio::test]
async fn invalid_rsa_signature_is_refused() {
    let TargetWithAllKeys { target, rsa, .. } = TargetWithAllKeys::start().await;
    let unsigned = unsigned(header_of(&rsa).to_string(), target.payload());
    let valid = rsa.sign(unsigned.as_bytes());
    let jwk = rsa.jwk();
    let n = base64url_decode(jwk["n"].as_str().unwrap());
    let small = |number| [vec![0; 255], vec![number]].concat();
    let (negated, _) = arithmetic(&n, &valid, |a, b| a - b);
    // Bleichenbacher's forgery of 2006: the first bytes are correct, and arbitrary bytes follow.
    let forged_padding =
        [&[0, 1, 0xff, 0xff, 0][..], &[0x30, 0x31, 0x30, 0x0d], &[0; 247]].concat();
    let attacks = [
        ("valid", valid.clone(), Accepted),
        ("s = 0", small(0), BadSignature),
        ("s = 1", small(1), BadSignature),
        ("s = n", n.clone(), BadSignature),
        ("s = n - 1", arithmetic(&n, &small(1), |a, b| a - b).0, BadSignature),
        ("n - s", negated, BadSignature),
        ("all ones", vec![0xff; 256], BadSignature),
        ("a forged padding", forged_padding, BadSignature),
        ("one byte short", valid[..255].to_vec(), BadSignature),
        ("one byte long", [&valid[..], &[0]].concat(), BadSignature),
        ("a zero in front", [&[0][..], &valid].concat(), BadSignature),
        ("repeated", valid.repeat(2), BadSignature),
        ("one byte", vec![0], BadSignature),
        (
            "by another key",
            SigningKey::generate(Algorithm::RS256).sign(unsigned.as_bytes()),
            BadSignature,
        ),
    ];
    let attack = |(name, signature, expected)| {
        (format!("RS256: {name}"), with_signature(&unsigned, signature), expected)
    };
    target.assert_outcomes(attacks.map(attack)).await;
}

/// From an ECDSA signature `(r, s)`, anyone can compute a second valid signature of the same
/// claims: `(r, n - s)`. A token with this second signature (the twin) gives no additional access.
/// The cache must not return the result of the original token for the twin, or the result of the
/// twin for the original token.
#[tokio::test]
async fn second_ecdsa_signature_has_its_own_cache_entry() {
    let TargetWithAllKeys { target, ec, .. } = TargetWithAllKeys::start().await;
    let mut attacks = Vec::new();
    for (key, (algorithm, _, half)) in ec.iter().zip(ORDERS) {
        let unsigned = unsigned(header_of(key).to_string(), target.payload());
        let valid = key.sign(unsigned.as_bytes());
        let (r, s) = valid.split_at(half);
        let (twin, _) = arithmetic(&order(algorithm), s, |a, b| a - b);
        let mut broken = twin.clone();
        broken[half / 2] ^= 1;
        for (name, s, expected) in [
            ("the first, which is cached now", s, Accepted),
            ("an invalid twin with cached claims", &broken[..], BadSignature),
            ("the valid twin", &twin, Accepted),
            ("the invalid twin after both", &broken, BadSignature),
        ] {
            let token = with_signature(&unsigned, [r, s].concat());
            attacks.push((format!("{algorithm}: {name}"), token, expected));
        }
    }
    target.assert_outcomes(attacks).await;
    // After the key was removed, the twin is refused too.
    let (key, (algorithm, _, half)) = (&ec[0], ORDERS[0]);
    let unsigned = unsigned(header_of(key).to_string(), target.payload());
    let valid = key.sign(unsigned.as_bytes());
    let (r, s) = valid.split_at(half);
    let (twin, _) = arithmetic(&order(algorithm), s, |a, b| a - b);
    let twin = with_signature(&unsigned, [r, &twin].concat());
    target.validator.validate(&twin).await.unwrap();
    target.harness.logto.recover();
    let unknown = target.token().kid("unknown").build();
    target.validator.validate(&unknown).await.unwrap_err();
    target.assert_outcomes([("a twin whose key was removed", twin, UnknownKey)]).await;
}
