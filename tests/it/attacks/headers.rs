//! Attacks with the JOSE header (RFC 8725 §3.8–3.11, RFC 9068 §4).

use serde_json::{Value, json};
use tower_logto::{Algorithm, testing::SigningKey};

use super::{Target, header_of, signed, unsigned, with_signature};
use crate::support::{
    Outcome::{
        Accepted, BadSignature, CriticalHeader, DuplicateMember, Malformed, MalformedCredentials,
        MissingClaim, NotAJwt, Oversized, UnknownKey, UntrustedIssuer, WrongType,
    },
    RawServer, SECOND, SHOPPING_API, base64url, jwks_response,
};

/// The largest number of JWKS requests while the clock does not advance: the first fetch, and two
/// more fetches for unknown key ids.
const MOST_JWKS_REQUESTS: u64 = 1 + 2;

#[tokio::test]
async fn malicious_kid_is_only_compared_with_known_key_ids() {
    // This size limit is large enough for the token with the 100 KB key id.
    let target = Target::with(|builder| builder.max_token_size(300 * 1024)).await;
    let other = RawServer::start();
    let kid = target.key().kid().to_owned();
    let long = "k".repeat(100 * 1024);
    let mut attacks = Vec::new();
    for (kid, expected) in [
        (json!("../../../../dev/null"), UnknownKey),
        (json!("/etc/passwd"), UnknownKey),
        (json!("file:///etc/passwd"), UnknownKey),
        (json!(format!("{}/{kid}", other.url())), UnknownKey),
        (json!("' OR '1'='1"), UnknownKey),
        (json!("x'; DROP TABLE keys; --"), UnknownKey),
        (json!("x' UNION SELECT 'secret"), UnknownKey),
        (json!("| whoami"), UnknownKey),
        (json!("$(reboot)"), UnknownKey),
        (json!("${jndi:ldap://127.0.0.1/x}"), UnknownKey),
        (json!("{{7*7}} %s %n"), UnknownKey),
        (json!("x\r\nSet-Cookie: a=b\r\n\r\n<html>"), UnknownKey),
        (json!("\0"), UnknownKey),
        (json!(""), UnknownKey),
        (json!("*"), UnknownKey),
        (json!(format!("{kid}\0")), UnknownKey),
        (json!(format!("{kid} ")), UnknownKey),
        (json!(format!(" {kid}")), UnknownKey),
        (json!(kid[..42]), UnknownKey),
        (json!(kid.to_uppercase()), UnknownKey),
        (json!(long), UnknownKey),
        (json!(null), Malformed),
        (json!(7), Malformed),
        (json!(true), Malformed),
        (json!([kid]), Malformed),
        (json!({ "kid": kid }), Malformed),
    ] {
        let shown = kid.to_string().chars().take(40).collect::<String>();
        let mut header = target.header();
        header["kid"] = kid;
        let token = signed(&target.key(), header.to_string(), target.payload());
        attacks.push((format!("kid {shown}"), token, expected));
    }
    let count = attacks.len() as u64;
    for attack in attacks {
        // After 5 s, the rate limit permits a refresh for the next key id. Without this call to
        // `advance`, the request would wait in real time.
        target.harness.clock.advance(5 * SECOND);
        target.assert_outcomes([attack]).await;
    }
    assert_eq!(other.requests().len(), 0);
    assert!(target.harness.logto.jwks_requests() <= 2 * count + MOST_JWKS_REQUESTS);

    let default = Target::start().await;
    let token = default.token().kid(long).build();
    default
        .assert_outcomes([("a kid of 100 KB at the default size limit", token, Oversized)])
        .await;
    assert_eq!(default.harness.logto.jwks_requests(), 1);
}

#[tokio::test]
async fn key_in_or_linked_from_the_token_is_ignored() {
    let target = Target::start().await;
    let attacker = SigningKey::generate(Algorithm::ES384);
    let jwks = json!({ "keys": [attacker.jwk()] });
    let other = RawServer::start();
    other.respond(jwks_response(jwks.to_string()));
    let url = |path: &str| json!(format!("{}{path}", other.url()));
    let mut attacks = Vec::new();
    for (name, value) in [
        ("jku", url("/jwks")),
        ("x5u", url("/chain.pem")),
        ("jwk", attacker.jwk()),
        ("jwks", jwks.clone()),
        ("jwks_uri", url("/jwks")),
        ("x5c", json!([base64url("a certificate")])),
        ("x5t", json!(base64url("a thumbprint"))),
        ("x5t#S256", json!(base64url("a thumbprint"))),
        ("iss", url("")),
        ("url", url("/")),
    ] {
        for (kid, expected) in [
            (json!(attacker.kid()), UnknownKey),
            (json!(target.key().kid()), BadSignature),
            (url("/jwks"), UnknownKey),
        ] {
            let mut header = header_of(&attacker);
            header[name] = value.clone();
            header["kid"] = kid;
            let shown = header["kid"].as_str().unwrap().chars().take(20).collect::<String>();
            let token = signed(&attacker, header.to_string(), target.payload());
            attacks.push((format!("{name} and kid {shown}"), token, expected));
        }
        let mut header = header_of(&attacker);
        header[name] = value.clone();
        header.as_object_mut().unwrap().remove("kid");
        let token = signed(&attacker, header.to_string(), target.payload());
        attacks.push((format!("{name} and no kid"), token, BadSignature));
        // If the issuer signed the token, the additional header parameter has no effect.
        let mut header = target.header();
        header[name] = value;
        let token = signed(&target.key(), header.to_string(), target.payload());
        attacks.push((format!("{name} in a valid token"), token, Accepted));
    }
    let payload = target.payload_with("iss", url(""));
    let token = signed(&attacker, header_of(&attacker).to_string(), payload);
    attacks.push(("iss at a server of the attacker".into(), token, UntrustedIssuer));
    target.assert_outcomes(attacks).await;
    assert_eq!(other.requests().len(), 0);
    assert!(target.harness.logto.jwks_requests() <= MOST_JWKS_REQUESTS);
}

#[tokio::test]
async fn critical_extension_is_refused() {
    let target = Target::start().await;
    let mut attacks = Vec::new();
    for value in [
        json!(["exp"]),
        json!(["b64"]),
        json!(["alg"]),
        json!(["http://openbanking.org.uk/iat"]),
        json!([]),
        json!(null),
        json!(false),
        json!("b64"),
        json!({}),
        json!([["b64"]]),
    ] {
        let token = target.token().header("crit", value.clone()).build();
        attacks.push((format!("crit {value}"), token, CriticalHeader));
        let token = target.token().header("crit", value.clone()).header("b64", false).build();
        attacks.push((format!("crit {value} and b64"), token, CriticalHeader));
    }
    // If a token has an unencoded payload (RFC 7797), the signature covers the unencoded bytes.
    let key = target.key();
    let with = |members: Value| {
        let mut header = target.header();
        header.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        base64url(header.to_string())
    };
    for (name, members, payload, expected) in [
        (
            "b64 false, crit, an unencoded payload",
            json!({ "b64": false, "crit": ["b64"] }),
            target.payload(),
            // Credentials must not contain characters such as `{` and `"` (RFC 6750 §2.1), so
            // unencoded JSON is not allowed.
            MalformedCredentials,
        ),
        (
            "b64 false, an unencoded payload without dots",
            json!({ "b64": false }),
            "{\"sub\":\"x\"}".into(),
            MalformedCredentials,
        ),
        (
            "b64 false, crit, a payload that is also valid base64url",
            json!({ "b64": false, "crit": ["b64"] }),
            base64url(target.payload()),
            CriticalHeader,
        ),
        // Without `crit`, `b64` has no effect. The payload is base64url as usual, and the signature
        // covers the encoded payload.
        ("b64 false alone", json!({ "b64": false }), base64url(target.payload()), Accepted),
        ("b64 true", json!({ "b64": true }), base64url(target.payload()), Accepted),
    ] {
        let unsigned = format!("{}.{payload}", with(members));
        let token = with_signature(&unsigned, key.sign(unsigned.as_bytes()));
        attacks.push((name.into(), token, expected));
    }
    let detached = with(json!({ "b64": false, "crit": ["b64"] }));
    attacks.push(("a detached payload".into(), format!("{detached}..AAAA"), Malformed));
    target.assert_outcomes(attacks).await;
}

#[tokio::test]
async fn token_of_another_type_is_refused() {
    let target = Target::start().await;
    let mut attacks = Vec::new();
    for (typ, expected) in [
        (json!("at+jwt"), Accepted),
        (json!("AT+JWT"), Accepted),
        (json!("Application/At+Jwt"), Accepted),
        (json!("JWT"), WrongType),
        (json!("jwt"), WrongType),
        (json!("application/jwt"), WrongType),
        (json!("at"), WrongType),
        (json!("at+jwt;v=1"), WrongType),
        (json!("at+jwt "), WrongType),
        (json!("at+jwt\0"), WrongType),
        (json!("at jwt"), WrongType),
        (json!("at%2Bjwt"), WrongType),
        (json!("\u{ff41}t+jwt"), WrongType),
        (json!("at+j\u{0461}t"), WrongType),
        (json!("text/at+jwt"), WrongType),
        (json!("application/application/at+jwt"), WrongType),
        (json!("id+jwt"), WrongType),
        (json!("logout+jwt"), WrongType),
        (json!("secevent+jwt"), WrongType),
        (json!("dpop+jwt"), WrongType),
        (json!("oauth-authz-req+jwt"), WrongType),
        (json!("token-introspection+jwt"), WrongType),
        (json!(""), WrongType),
        (json!(null), Malformed),
        (json!(["at+jwt"]), Malformed),
        (json!(7), Malformed),
    ] {
        let token = target.token().header("typ", typ.clone()).build();
        attacks.push((format!("typ {typ}"), token, expected));
    }
    let logto = &target.harness.logto;
    attacks.push(("no typ".into(), target.token().without_header("typ").build(), WrongType));
    attacks.push((
        "cty".into(),
        target.token().typ("JWT").header("cty", "at+jwt").build(),
        WrongType,
    ));
    attacks.push(("an ID token of Logto 1.41".into(), logto.id_token().build(), WrongType));
    let id_token = logto.id_token().without_header("typ").build();
    attacks.push(("an ID token of Logto 1.42".into(), id_token, WrongType));
    let id_token = logto.id_token().claim("aud", SHOPPING_API).build();
    attacks.push(("an ID token for our audience".into(), id_token, WrongType));
    attacks.push(("an opaque token".into(), logto.opaque_token(), NotAJwt));
    target.assert_outcomes(attacks).await;
}

#[tokio::test]
async fn ambiguous_header_json_is_refused() {
    let target = Target::start().await;
    let kid = target.key().kid().to_owned();
    let valid = format!(r#""alg":"ES384","typ":"at+jwt","kid":"{kid}""#);
    let many = |count| (0..count).map(|n| format!(r#","m{n}":1"#)).collect::<String>();
    let deep = |depth| "[".repeat(depth) + &"]".repeat(depth);
    let attacks = [
        ("duplicate alg", format!(r#"{{{valid},"alg":"none"}}"#), DuplicateMember),
        (
            "duplicate alg, the valid one last",
            format!(r#"{{"alg":"none",{valid}}}"#),
            DuplicateMember,
        ),
        ("duplicate alg, escaped", format!(r#"{{{valid},"\u0061lg":"none"}}"#), DuplicateMember),
        (
            "duplicate alg, both escaped",
            r#"{"\u0061lg":"ES384","a\u006cg":"none"}"#.into(),
            DuplicateMember,
        ),
        ("duplicate kid", format!(r#"{{{valid},"kid":"{kid}"}}"#), DuplicateMember),
        ("duplicate kid, escaped", format!(r#"{{{valid},"k\u0069d":"x"}}"#), DuplicateMember),
        ("duplicate typ", format!(r#"{{{valid},"typ":"JWT"}}"#), DuplicateMember),
        ("duplicate unknown member", format!(r#"{{{valid},"x":1,"x":1}}"#), DuplicateMember),
        ("more than 64 members", format!("{{{valid}{}}}", many(62)), DuplicateMember),
        ("64 members", format!("{{{valid}{}}}", many(61)), Accepted),
        ("ALG next to alg", format!(r#"{{{valid},"ALG":"none"}}"#), Accepted),
        (
            "an escaped alg",
            format!(r#"{{"\u0061lg":"ES384","typ":"at+jwt","kid":"{kid}"}}"#),
            Accepted,
        ),
        (
            "an escaped value",
            format!(r#"{{"alg":"\u0045S384","typ":"at+jwt","kid":"{kid}"}}"#),
            Accepted,
        ),
        (
            "a lone surrogate",
            format!(r#"{{"alg":"\ud800","typ":"at+jwt","kid":"{kid}"}}"#),
            Malformed,
        ),
        ("an unescaped control character", format!("{{{valid},\"x\":\"\n\"}}"), Malformed),
        ("an array", format!(r#"["ES384","at+jwt","{kid}"]"#), Malformed),
        ("an array of an object", format!("[{{{valid}}}]"), Malformed),
        ("a string", format!("{:?}", format!("{{{valid}}}")), Malformed),
        ("null", "null".into(), Malformed),
        ("only a space", " ".into(), Malformed),
        ("two objects", format!("{{{valid}}}{{{valid}}}"), Malformed),
        ("a trailing byte", format!("{{{valid}}}x"), Malformed),
        ("a trailing NUL", format!("{{{valid}}}\0"), Malformed),
        ("a trailing comma", format!("{{{valid},}}"), Malformed),
        ("a comment", format!("{{{valid}/**/}}"), Malformed),
        ("single quotes", format!("{{{valid}}}").replace('"', "'"), Malformed),
        ("truncated", format!("{{{valid}"), Malformed),
        ("a BOM", format!("\u{feff}{{{valid}}}"), Malformed),
        ("whitespace around", format!(" \r\n\t{{{valid}}}\n"), Accepted),
        ("5,000 unclosed arrays", format!("{{{valid},\"x\":{}", "[".repeat(5_000)), Malformed),
        ("5,000 unclosed arrays as alg", format!(r#"{{"alg":{}"#, "[".repeat(5_000)), Malformed),
        (
            "2,500 nested arrays in an unknown member",
            format!("{{{valid},\"x\":{}}}", deep(2_500)),
            Accepted,
        ),
    ];
    let key = target.key();
    let token = |header: String| signed(&key, header, target.payload());
    target
        .assert_outcomes(attacks.map(|(name, header, expected)| (name, token(header), expected)))
        .await;

    let alg = r#"{"alg":"ES384","typ":"at+jwt","kid":"#;
    let bytes = [
        ("invalid UTF-8", [alg.as_bytes(), b"\"\xff\"}"].concat()),
        ("an overlong encoding", [alg.as_bytes(), b"\"\xc0\xaf\"}"].concat()),
        ("a surrogate in UTF-8", [alg.as_bytes(), b"\"\xed\xa0\x80\"}"].concat()),
        ("UTF-16", format!("{{{valid}}}").encode_utf16().flat_map(u16::to_be_bytes).collect()),
        (
            "UTF-16 with a BOM",
            [
                &b"\xff\xfe"[..],
                &format!("{{{valid}}}")
                    .encode_utf16()
                    .flat_map(u16::to_le_bytes)
                    .collect::<Vec<_>>(),
            ]
            .concat(),
        ),
    ];
    let token = |header: Vec<u8>| signed(&key, header, target.payload());
    target.assert_outcomes(bytes.map(|(name, header)| (name, token(header), Malformed))).await;
}

#[tokio::test]
async fn deeply_nested_header_does_not_overflow_the_stack() {
    let target = Target::with(|builder| builder.max_token_size(1024 * 1024)).await;
    let valid = target.header().to_string();
    let valid = valid.trim_end_matches('}');
    let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
    let objects = r#"{"x":"#.repeat(10_000) + "1" + &"}".repeat(10_000);
    let attacks = [
        ("arrays in an unknown member", format!("{valid},\"x\":{open}{close}}}"), Accepted),
        ("objects in an unknown member", format!("{valid},\"x\":{objects}}}"), Accepted),
        ("arrays in crit", format!("{valid},\"crit\":{open}{close}}}"), CriticalHeader),
        ("arrays as kid", format!("{{\"kid\":{open}{close}}}"), Malformed),
        ("only arrays", format!("{open}{close}"), Malformed),
        ("only objects", objects, WrongType),
        ("unclosed arrays", format!("{valid},\"x\":{open}"), Malformed),
    ];
    let token = |header| signed(&target.key(), header, target.payload());
    target
        .assert_outcomes(attacks.map(|(name, header, expected)| (name, token(header), expected)))
        .await;
    let small = Target::start().await;
    let token = signed(&small.key(), format!("{valid},\"x\":{open}{close}}}"), small.payload());
    small.assert_outcomes([("above the default size limit", token, Oversized)]).await;
}

#[tokio::test]
async fn recombined_token_is_refused() {
    let target = Target::start().await;
    let token = target.token().build();
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let admin = base64url(target.payload_with("scope", r#""admin""#));
    let other = base64url(target.token().header("x", 1).build().split('.').next().unwrap());
    let reordered = header_of(&target.key());
    let reordered = json!({ "kid": reordered["kid"], "typ": "at+jwt", "alg": "ES384" });
    let spaced = base64url(format!("{} ", target.header()));
    let (all_but_last, last) = signature.split_at(signature.len() - 1);
    let other_last = if last == "B" { "C" } else { "B" };
    let attacks = [
        ("another payload", format!("{header}.{admin}.{signature}"), BadSignature),
        ("swapped segments", format!("{payload}.{header}.{signature}"), WrongType),
        ("the header as payload", format!("{header}.{header}.{signature}"), MissingClaim("iss")),
        ("another header", format!("{other}.{payload}.{signature}"), Malformed),
        ("an extra space in the header", format!("{spaced}.{payload}.{signature}"), BadSignature),
        (
            "padding in the header",
            format!("{header}==.{payload}.{signature}"),
            MalformedCredentials,
        ),
        (
            "a newline in the payload",
            format!("{header}.{payload}%0A.{signature}"),
            MalformedCredentials,
        ),
        (
            "another last character in the signature",
            format!("{header}.{payload}.{all_but_last}{other_last}"),
            BadSignature,
        ),
        (
            "members in another order",
            signed(&target.key(), reordered.to_string(), target.payload()),
            Accepted,
        ),
        ("unsigned", unsigned(target.header().to_string(), target.payload()), NotAJwt),
        ("JSON serialization", format!(r#"{{"payload":"{payload}"}}"#), MalformedCredentials),
        ("a JWE", format!("{header}..{payload}.{signature}.AAAA"), NotAJwt),
        ("a nested token", signed(&target.key(), target.header().to_string(), &token), Malformed),
    ];
    target.assert_outcomes(attacks).await;
}
