//! Attacks on the signature and its algorithm (RFC 8725 §3.1–3.3).

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tower_logto::{Algorithm, testing::SigningKey};

use super::{
    ALGORITHM, LET_IN, MALFORMED, SIGNATURE, Target, base64url, header_of, signed, unsigned,
    with_signature,
};

const KEY_ALGORITHM: &str = "InvalidToken(KeyAlgorithmMismatch(";

/// The orders of P-256, P-384 and P-521, and the bytes of half a signature.
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

/// `a - b` or `a + b` of big-endian numbers of one length, and what is left over.
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

/// An ECDSA signature in DER (RFC 3279 §2.2.3), as TLS and X.509 have it and JOSE has not.
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

/// One key of each type that Logto can have, all published.
struct Ring {
    target: Target,
    ec: Vec<SigningKey>,
    rsa: SigningKey,
}

impl Ring {
    async fn set() -> Self {
        let target = Target::set().await;
        let ec: Vec<_> = ORDERS.map(|(name, ..)| SigningKey::generate(name)).into();
        let rsa = SigningKey::generate(Algorithm::RS256);
        let own = target.key();
        let keys = ec.iter().chain([&rsa, &own]).map(SigningKey::jwk).collect::<Vec<_>>();
        target.stage.logto.publish(json!({ "keys": keys }).to_string());
        // Of an unknown kid: the keys are fetched again.
        target.validator.validate(&target.token().signed_by(&rsa).build()).await.unwrap();
        Self { target, ec, rsa }
    }
}

#[tokio::test]
async fn alg_none_in_every_spelling() {
    let target = Target::set().await;
    let good = target.token().build();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let payload = signed.split_once('.').unwrap().1;
    let mut attacks = Vec::new();
    for (alg, reason) in [
        (json!("none"), ALGORITHM),
        (json!("None"), ALGORITHM),
        (json!("NONE"), ALGORITHM),
        (json!("nOnE"), ALGORITHM),
        (json!(" none"), ALGORITHM),
        (json!("none "), ALGORITHM),
        (json!("none\0"), ALGORITHM),
        (json!("n\u{f6}ne"), ALGORITHM),
        (json!(""), ALGORITHM),
        (json!("null"), ALGORITHM),
        (json!(null), MALFORMED),
        (json!(false), MALFORMED),
        (json!(0), MALFORMED),
        (json!([]), MALFORMED),
        (json!(["none"]), MALFORMED),
        (json!({ "none": "none" }), MALFORMED),
    ] {
        let mut header = target.header();
        header["alg"] = alg.clone();
        let header = base64url(header.to_string());
        let name = format!("alg {alg}");
        attacks.push((format!("{name}, empty"), format!("{header}.{payload}."), MALFORMED));
        attacks.push((format!("{name}, AAAA"), format!("{header}.{payload}.AAAA"), reason));
        attacks.push((
            format!("{name}, a true one"),
            format!("{header}.{payload}.{signature}"),
            reason,
        ));
    }
    let no_alg = json!({ "typ": "at+jwt", "kid": target.key().kid() }).to_string();
    let no_alg = with_signature(&unsigned(no_alg, target.payload()), "x");
    attacks.push(("no alg".into(), no_alg, ALGORITHM));
    attacks.push(("two segments".into(), signed.into(), "InvalidToken(NotAJwt)"));
    attacks.push(("the kit's own".into(), target.token().unsigned_alg_none().build(), MALFORMED));
    target.repel(attacks).await;
}

#[tokio::test]
async fn an_hmac_with_the_public_key_as_its_secret() {
    let target = Target::set().await;
    let jwk = target.key().jwk();
    let coordinate = |name: &str| {
        let text = jwk[name].as_str().unwrap();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()
    };
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    // SubjectPublicKeyInfo of P-384 (RFC 5480 §2).
    let spki = b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00";
    let spki = [spki, &point[..]].concat();
    let base64 = STANDARD.encode(&spki);
    let lines = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap());
    let lines = lines.collect::<Vec<_>>().join("\n");
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----");
    let secrets = [
        ("PEM", pem.clone().into_bytes()),
        ("PEM and a newline", format!("{pem}\n").into_bytes()),
        ("DER", spki),
        ("the JWK", jwk.to_string().into_bytes()),
        ("the JWK Set", target.stage.logto.jwks().into_bytes()),
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
            attacks.push((format!("{alg} with {name}"), with_signature(&unsigned, tag), ALGORITHM));
            // Under the key's own algorithm, stretched to the length of a signature.
            let (unsigned, mut tag) = mac(&target.header());
            tag.resize(96, 0);
            let name = format!("{alg} with {name} as ES384");
            attacks.push((name, with_signature(&unsigned, tag), SIGNATURE));
        }
    }
    target.repel(attacks).await;
}

#[tokio::test]
async fn another_algorithm_than_the_keys() {
    let Ring { target, ec, rsa } = Ring::set().await;
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
            let reason = match alg {
                alg if alg == own => LET_IN,
                // An RSA key without `alg` is for both, and the signature is not of this one.
                "PS256" if own == "RS256" => SIGNATURE,
                alg if names.contains(&alg) => KEY_ALGORITHM,
                _ => ALGORITHM,
            };
            let token = signed(key, header.to_string(), target.payload());
            attacks.push((format!("{alg} in the header, a key for {own}"), token, reason));
            // Without kid the algorithm alone selects: another key, which did not sign.
            header.as_object_mut().unwrap().remove("kid");
            let token = signed(key, header.to_string(), target.payload());
            let reason = match (alg, reason) {
                // Two keys fit, the ring's and the issuer's own.
                ("ES384", _) => "InvalidToken(AmbiguousKey)",
                (_, KEY_ALGORITHM) => SIGNATURE,
                (_, reason) => reason,
            };
            attacks.push((format!("{alg} in the header, no kid, a key for {own}"), token, reason));
        }
    }
    target.repel(attacks).await;
}

#[tokio::test]
async fn ecdsa_signatures_that_are_none() {
    let Ring { target, ec, .. } = Ring::set().await;
    let other = target.token().subject("someone-else").build();
    let other = other.rsplit_once('.').unwrap().1.to_owned();
    let mut attacks = Vec::new();
    for (key, (algorithm, _, half)) in ec.iter().zip(ORDERS) {
        let unsigned = unsigned(header_of(key).to_string(), target.payload());
        let good = key.sign(unsigned.as_bytes());
        let (r, s) = good.split_at(half);
        let n = order(algorithm);
        let zero = vec![0; half];
        let one = [vec![0; half - 1], vec![1]].concat();
        let stranger = SigningKey::generate(algorithm);
        let raw = [
            ("as it should be", good.clone(), LET_IN),
            ("r = s = 0", [&zero[..], &zero].concat(), SIGNATURE),
            ("r = 0", [&zero[..], s].concat(), SIGNATURE),
            ("s = 0", [r, &zero].concat(), SIGNATURE),
            ("r = s = 1", [&one[..], &one].concat(), SIGNATURE),
            ("r = s = n", [&n[..], &n].concat(), SIGNATURE),
            ("r = n", [&n[..], s].concat(), SIGNATURE),
            ("s = n", [r, &n].concat(), SIGNATURE),
            ("r = 0, s = n", [&zero[..], &n].concat(), SIGNATURE),
            ("all ones", vec![0xff; 2 * half], SIGNATURE),
            ("halves swapped", [s, r].concat(), SIGNATURE),
            ("DER", der(&good), SIGNATURE),
            ("one byte short", good[..2 * half - 1].to_vec(), SIGNATURE),
            ("one byte long", [&good[..], &[0]].concat(), SIGNATURE),
            ("a zero in front", [&[0][..], &good].concat(), SIGNATURE),
            ("half of it", r.to_vec(), SIGNATURE),
            ("twice", good.repeat(2), SIGNATURE),
            ("one byte", vec![0], SIGNATURE),
            ("ten thousand zeros", vec![0; 10_000 - 64], SIGNATURE),
            ("by another key", stranger.sign(unsigned.as_bytes()), SIGNATURE),
            ("of the payload alone", key.sign(target.payload().as_bytes()), SIGNATURE),
            ("of something else", key.sign(b"something else"), SIGNATURE),
        ];
        for (name, signature, reason) in raw {
            let token = with_signature(&unsigned, signature);
            attacks.push((format!("{algorithm}: {name}"), token, reason));
        }
        for (name, part, number) in [("r + n", 0, r), ("s + n", 1, s)] {
            let (sum, overflows) = arithmetic(number, &n, |a, b| a + b);
            // The same number modulo n, where it fits: always on P-521.
            if !overflows {
                let mut halves = [r, s];
                halves[part] = &sum;
                let token = with_signature(&unsigned, halves.concat());
                attacks.push((format!("{algorithm}: {name}"), token, SIGNATURE));
            }
        }
        let text = with_signature(&unsigned, &good);
        for (name, token, reason) in [
            ("none", format!("{unsigned}."), MALFORMED),
            ("of another token", format!("{unsigned}.{other}"), SIGNATURE),
            ("padded", format!("{text}="), MALFORMED),
            ("a fourth segment", format!("{text}.{other}"), "InvalidToken(NotAJwt)"),
            ("a trailing dot", format!("{text}."), "InvalidToken(NotAJwt)"),
            ("a newline's escape", format!("{text}%0a"), "InvalidRequest(MalformedCredentials"),
            ("standard base64", format!("{unsigned}.+/+/"), MALFORMED),
        ] {
            attacks.push((format!("{algorithm}: {name}"), token, reason));
        }
    }
    target.repel(attacks).await;
}

#[tokio::test]
async fn rsa_signatures_that_are_none() {
    let Ring { target, rsa, .. } = Ring::set().await;
    let unsigned = unsigned(header_of(&rsa).to_string(), target.payload());
    let good = rsa.sign(unsigned.as_bytes());
    let jwk = rsa.jwk();
    let n = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap());
    let n = n.unwrap();
    let small = |number| [vec![0; 255], vec![number]].concat();
    let (negated, _) = arithmetic(&n, &good, |a, b| a - b);
    // Bleichenbacher's forgery of 2006: a perfect-looking start, garbage behind it.
    let lookalike = [&[0, 1, 0xff, 0xff, 0][..], &[0x30, 0x31, 0x30, 0x0d], &[0; 247]].concat();
    let attacks = [
        ("as it should be", good.clone(), LET_IN),
        ("s = 0", small(0), SIGNATURE),
        ("s = 1", small(1), SIGNATURE),
        ("s = n", n.clone(), SIGNATURE),
        ("s = n - 1", arithmetic(&n, &small(1), |a, b| a - b).0, SIGNATURE),
        ("n - s", negated, SIGNATURE),
        ("all ones", vec![0xff; 256], SIGNATURE),
        ("a lookalike of the padding", lookalike, SIGNATURE),
        ("one byte short", good[..255].to_vec(), SIGNATURE),
        ("one byte long", [&good[..], &[0]].concat(), SIGNATURE),
        ("a zero in front", [&[0][..], &good].concat(), SIGNATURE),
        ("twice", good.repeat(2), SIGNATURE),
        ("one byte", vec![0], SIGNATURE),
        (
            "by another key",
            SigningKey::generate(Algorithm::RS256).sign(unsigned.as_bytes()),
            SIGNATURE,
        ),
    ];
    let attack = |(name, signature, reason)| {
        (format!("RS256: {name}"), with_signature(&unsigned, signature), reason)
    };
    target.repel(attacks.map(attack)).await;
}

/// The one who holds a good token can always make its twin, `(r, n - s)`. The twin is a good
/// signature of the same claims, so it opens nothing that the first does not; what must not happen
/// is that one is answered with what was found out about the other.
#[tokio::test]
async fn the_second_signature_of_ecdsa_is_a_token_of_its_own() {
    let Ring { target, ec, .. } = Ring::set().await;
    let mut attacks = Vec::new();
    for (key, (algorithm, _, half)) in ec.iter().zip(ORDERS) {
        let unsigned = unsigned(header_of(key).to_string(), target.payload());
        let good = key.sign(unsigned.as_bytes());
        let (r, s) = good.split_at(half);
        let (twin, _) = arithmetic(&order(algorithm), s, |a, b| a - b);
        let mut broken = twin.clone();
        broken[half / 2] ^= 1;
        for (name, s, reason) in [
            ("the first, now remembered", s, LET_IN),
            ("neither, under remembered claims", &broken[..], SIGNATURE),
            ("the twin", &twin, LET_IN),
            ("neither, after both", &broken, SIGNATURE),
        ] {
            let token = with_signature(&unsigned, [r, s].concat());
            attacks.push((format!("{algorithm}: {name}"), token, reason));
        }
    }
    target.repel(attacks).await;
    // A key that goes takes the twins with it.
    let (key, (algorithm, _, half)) = (&ec[0], ORDERS[0]);
    let unsigned = unsigned(header_of(key).to_string(), target.payload());
    let good = key.sign(unsigned.as_bytes());
    let (r, s) = good.split_at(half);
    let (twin, _) = arithmetic(&order(algorithm), s, |a, b| a - b);
    let twin = with_signature(&unsigned, [r, &twin].concat());
    target.validator.validate(&twin).await.unwrap();
    target.stage.logto.recover();
    let unknown = target.token().kid("nobody's").build();
    target.validator.validate(&unknown).await.unwrap_err();
    target.repel([("a twin whose key is gone", twin, "InvalidToken(UnknownKey(")]).await;
}
