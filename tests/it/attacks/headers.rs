//! Attacks by way of the JOSE header (RFC 8725 §3.8–3.11, RFC 9068 §4).

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::Router;
use serde_json::{Value, json};
use tower_logto::{Algorithm, testing::SigningKey};

use super::{
    LET_IN, MALFORMED, MEMBERS, OVERSIZED, SIGNATURE, Target, base64url, header_of, signed,
    unsigned, with_signature,
};
use crate::support::Server;

const UNKNOWN_KEY: &str = "InvalidToken(UnknownKey(";
const CRITICAL: &str = "InvalidToken(CriticalHeader)";
const TYPE: &str = "InvalidToken(WrongType(";

/// A server that nobody may ask for anything.
struct Canary {
    _server: Server,
    url: String,
    requests: Arc<AtomicU64>,
}

impl Canary {
    async fn set(key_set: &str) -> Self {
        let requests = Arc::new(AtomicU64::new(0));
        let answer = {
            let (requests, key_set) = (Arc::clone(&requests), key_set.to_owned());
            move || {
                requests.fetch_add(1, Ordering::Relaxed);
                std::future::ready(key_set.clone())
            }
        };
        let server = Server::start(Router::new().fallback(answer)).await;
        let url = server.url().to_owned();
        Self { _server: server, url, requests }
    }

    fn was_not_asked(&self) {
        assert_eq!(self.requests.load(Ordering::Relaxed), 0, "the canary was asked");
    }
}

#[tokio::test]
async fn kid_injection() {
    // With room for the long ones.
    let target = Target::set_with(|builder| builder.max_token_size(300 * 1024)).await;
    let canary = Canary::set("{}").await;
    let kid = target.key().kid().to_owned();
    let long = "k".repeat(100 * 1024);
    let mut attacks = Vec::new();
    for (kid, reason) in [
        (json!("../../../../dev/null"), UNKNOWN_KEY),
        (json!("/etc/passwd"), UNKNOWN_KEY),
        (json!("file:///etc/passwd"), UNKNOWN_KEY),
        (json!(format!("{}/{kid}", canary.url)), UNKNOWN_KEY),
        (json!("' OR '1'='1"), UNKNOWN_KEY),
        (json!("x'; DROP TABLE keys; --"), UNKNOWN_KEY),
        (json!("x' UNION SELECT 'secret"), UNKNOWN_KEY),
        (json!("| whoami"), UNKNOWN_KEY),
        (json!("$(reboot)"), UNKNOWN_KEY),
        (json!("${jndi:ldap://127.0.0.1/x}"), UNKNOWN_KEY),
        (json!("{{7*7}} %s %n"), UNKNOWN_KEY),
        (json!("x\r\nSet-Cookie: a=b\r\n\r\n<html>"), UNKNOWN_KEY),
        (json!("\0"), UNKNOWN_KEY),
        (json!(""), UNKNOWN_KEY),
        (json!("*"), UNKNOWN_KEY),
        (json!(format!("{kid}\0")), UNKNOWN_KEY),
        (json!(format!("{kid} ")), UNKNOWN_KEY),
        (json!(format!(" {kid}")), UNKNOWN_KEY),
        (json!(kid[..42]), UNKNOWN_KEY),
        (json!(kid.to_uppercase()), UNKNOWN_KEY),
        (json!(long), UNKNOWN_KEY),
        (json!(null), MALFORMED),
        (json!(7), MALFORMED),
        (json!(true), MALFORMED),
        (json!([kid]), MALFORMED),
        (json!({ "kid": kid }), MALFORMED),
    ] {
        let shown = kid.to_string().chars().take(40).collect::<String>();
        let mut header = target.header();
        header["kid"] = kid;
        let token = signed(&target.key(), header.to_string(), target.payload());
        attacks.push((format!("kid {shown}"), token, reason));
    }
    target.repel(attacks).await;
    canary.was_not_asked();
    let asked = target.stage.logto.jwks_requests();
    assert!(asked <= 1 + 2, "the bucket holds two: {asked} requests");

    let usual = Target::set().await;
    let token = usual.token().kid(long).build();
    usual.repel([("a kid of 100 KB at the usual limit", token, OVERSIZED)]).await;
    assert_eq!(usual.stage.logto.jwks_requests(), 1);
}

#[tokio::test]
async fn keys_that_the_token_brings_or_points_at() {
    let target = Target::set().await;
    let mallory = SigningKey::generate(Algorithm::ES384);
    let key_set = json!({ "keys": [mallory.jwk()] });
    let canary = Canary::set(&key_set.to_string()).await;
    let url = |path: &str| json!(format!("{}{path}", canary.url));
    let mut attacks = Vec::new();
    for (name, value) in [
        ("jku", url("/jwks")),
        ("x5u", url("/chain.pem")),
        ("jwk", mallory.jwk()),
        ("jwks", key_set.clone()),
        ("jwks_uri", url("/jwks")),
        ("x5c", json!([base64url("a certificate")])),
        ("x5t", json!(base64url("a thumbprint"))),
        ("x5t#S256", json!(base64url("a thumbprint"))),
        ("iss", url("")),
        ("url", url("/")),
    ] {
        for (kid, reason) in [
            (json!(mallory.kid()), UNKNOWN_KEY),
            (json!(target.key().kid()), SIGNATURE),
            (url("/jwks"), UNKNOWN_KEY),
        ] {
            let mut header = header_of(&mallory);
            header[name] = value.clone();
            header["kid"] = kid;
            let shown = header["kid"].as_str().unwrap().chars().take(20).collect::<String>();
            let token = signed(&mallory, header.to_string(), target.payload());
            attacks.push((format!("{name} and kid {shown}"), token, reason));
        }
        let mut header = header_of(&mallory);
        header[name] = value.clone();
        header.as_object_mut().unwrap().remove("kid");
        let token = signed(&mallory, header.to_string(), target.payload());
        attacks.push((format!("{name} and no kid"), token, SIGNATURE));
        // On a token of the issuer's it is not looked at.
        let mut header = target.header();
        header[name] = value;
        let token = signed(&target.key(), header.to_string(), target.payload());
        attacks.push((format!("{name} on a good token"), token, LET_IN));
    }
    let payload = target.payload_with("iss", url(""));
    let token = signed(&mallory, header_of(&mallory).to_string(), payload);
    attacks.push(("iss at a server of mallory's".into(), token, "InvalidToken(UntrustedIssuer"));
    target.repel(attacks).await;
    canary.was_not_asked();
    let asked = target.stage.logto.jwks_requests();
    assert!(asked <= 1 + 2, "the bucket holds two: {asked} requests");
}

#[tokio::test]
async fn critical_extensions_and_b64() {
    let target = Target::set().await;
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
        attacks.push((format!("crit {value}"), token, CRITICAL));
        let token = target.token().header("crit", value.clone()).header("b64", false).build();
        attacks.push((format!("crit {value} and b64"), token, CRITICAL));
    }
    // RFC 7797: the payload as it is, under a signature that covers it so.
    let key = target.key();
    let with = |members: Value| {
        let mut header = target.header();
        header.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        base64url(header.to_string())
    };
    for (name, members, payload, reason) in [
        (
            "b64 false, crit, a bare payload",
            json!({ "b64": false, "crit": ["b64"] }),
            target.payload(),
            // The dots of the issuer's URL make more than three segments.
            "InvalidRequest(MalformedCredentials",
        ),
        (
            "b64 false, a bare payload without dots",
            json!({ "b64": false }),
            "{\"sub\":\"x\"}".into(),
            "InvalidRequest(MalformedCredentials",
        ),
        (
            "b64 false, crit, a bare payload that is base64url too",
            json!({ "b64": false, "crit": ["b64"] }),
            base64url(target.payload()),
            CRITICAL,
        ),
        // The signature covers what was received, so the claims are those that were signed.
        ("b64 false alone", json!({ "b64": false }), base64url(target.payload()), LET_IN),
        ("b64 true", json!({ "b64": true }), base64url(target.payload()), LET_IN),
    ] {
        let unsigned = format!("{}.{payload}", with(members));
        let token = with_signature(&unsigned, key.sign(unsigned.as_bytes()));
        attacks.push((name.into(), token, reason));
    }
    let detached = with(json!({ "b64": false, "crit": ["b64"] }));
    attacks.push(("a detached payload".into(), format!("{detached}..AAAA"), MALFORMED));
    target.repel(attacks).await;
}

#[tokio::test]
async fn tokens_of_another_type() {
    let target = Target::set().await;
    let mut attacks = Vec::new();
    for (typ, reason) in [
        (json!("at+jwt"), LET_IN),
        (json!("AT+JWT"), LET_IN),
        (json!("Application/At+Jwt"), LET_IN),
        (json!("JWT"), TYPE),
        (json!("jwt"), TYPE),
        (json!("application/jwt"), TYPE),
        (json!("at"), TYPE),
        (json!("at+jwt;v=1"), TYPE),
        (json!("at+jwt "), TYPE),
        (json!("at+jwt\0"), TYPE),
        (json!("at jwt"), TYPE),
        (json!("at%2Bjwt"), TYPE),
        (json!("\u{ff41}t+jwt"), TYPE),
        (json!("at+j\u{0461}t"), TYPE),
        (json!("text/at+jwt"), TYPE),
        (json!("application/application/at+jwt"), TYPE),
        (json!("id+jwt"), TYPE),
        (json!("logout+jwt"), TYPE),
        (json!("secevent+jwt"), TYPE),
        (json!("dpop+jwt"), TYPE),
        (json!("oauth-authz-req+jwt"), TYPE),
        (json!("token-introspection+jwt"), TYPE),
        (json!(""), TYPE),
        (json!(null), MALFORMED),
        (json!(["at+jwt"]), MALFORMED),
        (json!(7), MALFORMED),
    ] {
        let token = target.token().header("typ", typ.clone()).build();
        attacks.push((format!("typ {typ}"), token, reason));
    }
    let logto = &target.stage.logto;
    attacks.push(("no typ".into(), target.token().without_header("typ").build(), TYPE));
    attacks.push(("cty".into(), target.token().typ("JWT").header("cty", "at+jwt").build(), TYPE));
    attacks.push(("an ID token of Logto 1.41".into(), logto.id_token().build(), TYPE));
    let id_token = logto.id_token().without_header("typ").build();
    attacks.push(("an ID token of Logto 1.42".into(), id_token, TYPE));
    let id_token = logto.id_token().claim("aud", "https://shopping.api").build();
    attacks.push(("an ID token for our audience".into(), id_token, TYPE));
    attacks.push(("an opaque token".into(), logto.opaque_token(), "InvalidToken(NotAJwt)"));
    target.repel(attacks).await;
}

#[tokio::test]
async fn headers_that_two_parsers_read_differently() {
    let target = Target::set().await;
    let kid = target.key().kid().to_owned();
    let good = format!(r#""alg":"ES384","typ":"at+jwt","kid":"{kid}""#);
    let many = |count| (0..count).map(|n| format!(r#","m{n}":1"#)).collect::<String>();
    let deep = |depth| "[".repeat(depth) + &"]".repeat(depth);
    let attacks = [
        ("alg twice", format!(r#"{{{good},"alg":"none"}}"#), MEMBERS),
        ("alg twice, the good one last", format!(r#"{{"alg":"none",{good}}}"#), MEMBERS),
        ("alg twice, escaped", format!(r#"{{{good},"\u0061lg":"none"}}"#), MEMBERS),
        ("alg twice, both escaped", r#"{"\u0061lg":"ES384","a\u006cg":"none"}"#.into(), MEMBERS),
        ("kid twice", format!(r#"{{{good},"kid":"{kid}"}}"#), MEMBERS),
        ("kid twice, escaped", format!(r#"{{{good},"k\u0069d":"x"}}"#), MEMBERS),
        ("typ twice", format!(r#"{{{good},"typ":"JWT"}}"#), MEMBERS),
        ("a stranger twice", format!(r#"{{{good},"x":1,"x":1}}"#), MEMBERS),
        ("more than 64 members", format!("{{{good}{}}}", many(62)), MEMBERS),
        ("64 members", format!("{{{good}{}}}", many(61)), LET_IN),
        ("alg in capitals beside alg", format!(r#"{{{good},"ALG":"none"}}"#), LET_IN),
        (
            "an escaped alg",
            format!(r#"{{"\u0061lg":"ES384","typ":"at+jwt","kid":"{kid}"}}"#),
            LET_IN,
        ),
        (
            "an escaped value",
            format!(r#"{{"alg":"\u0045S384","typ":"at+jwt","kid":"{kid}"}}"#),
            LET_IN,
        ),
        (
            "a lone surrogate",
            format!(r#"{{"alg":"\ud800","typ":"at+jwt","kid":"{kid}"}}"#),
            MALFORMED,
        ),
        ("a bare control character", format!("{{{good},\"x\":\"\n\"}}"), MALFORMED),
        ("an array", format!(r#"["ES384","at+jwt","{kid}"]"#), MALFORMED),
        ("an array of an object", format!("[{{{good}}}]"), MALFORMED),
        ("a string", format!("{:?}", format!("{{{good}}}")), MALFORMED),
        ("null", "null".into(), MALFORMED),
        ("nothing", " ".into(), MALFORMED),
        ("two objects", format!("{{{good}}}{{{good}}}"), MALFORMED),
        ("a byte behind", format!("{{{good}}}x"), MALFORMED),
        ("a NUL behind", format!("{{{good}}}\0"), MALFORMED),
        ("a comma at the end", format!("{{{good},}}"), MALFORMED),
        ("a comment", format!("{{{good}/**/}}"), MALFORMED),
        ("single quotes", format!("{{{good}}}").replace('"', "'"), MALFORMED),
        ("cut", format!("{{{good}"), MALFORMED),
        ("a BOM", format!("\u{feff}{{{good}}}"), MALFORMED),
        ("space around", format!(" \r\n\t{{{good}}}\n"), LET_IN),
        (
            "5,000 brackets that never close",
            format!("{{{good},\"x\":{}", "[".repeat(5_000)),
            MALFORMED,
        ),
        ("5,000 brackets as alg", format!(r#"{{"alg":{}"#, "[".repeat(5_000)), MALFORMED),
        ("5,000 deep in a stranger", format!("{{{good},\"x\":{}}}", deep(2_500)), LET_IN),
    ];
    let key = target.key();
    let token = |header: String| signed(&key, header, target.payload());
    target.repel(attacks.map(|(name, header, reason)| (name, token(header), reason))).await;

    let alg = r#"{"alg":"ES384","typ":"at+jwt","kid":"#;
    let bytes = [
        ("a byte that is no UTF-8", [alg.as_bytes(), b"\"\xff\"}"].concat()),
        ("an overlong slash", [alg.as_bytes(), b"\"\xc0\xaf\"}"].concat()),
        ("a surrogate in UTF-8", [alg.as_bytes(), b"\"\xed\xa0\x80\"}"].concat()),
        ("UTF-16", format!("{{{good}}}").encode_utf16().flat_map(u16::to_be_bytes).collect()),
        (
            "UTF-16 with a BOM",
            [
                &b"\xff\xfe"[..],
                &format!("{{{good}}}")
                    .encode_utf16()
                    .flat_map(u16::to_le_bytes)
                    .collect::<Vec<_>>(),
            ]
            .concat(),
        ),
    ];
    let token = |header: Vec<u8>| signed(&key, header, target.payload());
    target.repel(bytes.map(|(name, header)| (name, token(header), MALFORMED))).await;
}

#[tokio::test]
async fn headers_ten_thousand_deep() {
    let target = Target::set_with(|builder| builder.max_token_size(1024 * 1024)).await;
    let good = target.header().to_string();
    let good = good.trim_end_matches('}');
    let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
    let objects = r#"{"x":"#.repeat(10_000) + "1" + &"}".repeat(10_000);
    let attacks = [
        ("arrays in a stranger", format!("{good},\"x\":{open}{close}}}"), LET_IN),
        ("objects in a stranger", format!("{good},\"x\":{objects}}}"), LET_IN),
        ("arrays in crit", format!("{good},\"crit\":{open}{close}}}"), CRITICAL),
        ("arrays as kid", format!("{{\"kid\":{open}{close}}}"), MALFORMED),
        ("arrays and nothing else", format!("{open}{close}"), MALFORMED),
        ("objects and nothing else", objects, TYPE),
        ("brackets that never close", format!("{good},\"x\":{open}"), MALFORMED),
    ];
    let token = |header| signed(&target.key(), header, target.payload());
    target.repel(attacks.map(|(name, header, reason)| (name, token(header), reason))).await;
    let small = Target::set().await;
    let token = signed(&small.key(), format!("{good},\"x\":{open}{close}}}"), small.payload());
    small.repel([("at the usual limit", token, OVERSIZED)]).await;
}

#[tokio::test]
async fn a_header_of_another_token() {
    let target = Target::set().await;
    let token = target.token().build();
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let admin = base64url(target.payload_with("scope", r#""admin""#));
    let other = base64url(target.token().header("x", 1).build().split('.').next().unwrap());
    let reordered = header_of(&target.key());
    let reordered = json!({ "kid": reordered["kid"], "typ": "at+jwt", "alg": "ES384" });
    let spaced = base64url(format!("{} ", target.header()));
    let attacks = [
        ("another payload", format!("{header}.{admin}.{signature}"), SIGNATURE),
        ("segments swapped", format!("{payload}.{header}.{signature}"), TYPE),
        (
            "the header twice",
            format!("{header}.{header}.{signature}"),
            "InvalidToken(MissingClaim(\"iss\"",
        ),
        ("another header", format!("{other}.{payload}.{signature}"), MALFORMED),
        ("a space more in the header", format!("{spaced}.{payload}.{signature}"), SIGNATURE),
        (
            "padding in the header",
            format!("{header}==.{payload}.{signature}"),
            "InvalidRequest(Malformed",
        ),
        (
            "a newline in the payload",
            format!("{header}.{payload}%0A.{signature}"),
            "InvalidRequest(Malformed",
        ),
        (
            "other trailing bits in the signature",
            format!("{header}.{payload}.{}B", &signature[..signature.len() - 1]),
            SIGNATURE,
        ),
        (
            "members in another order",
            signed(&target.key(), reordered.to_string(), target.payload()),
            LET_IN,
        ),
        (
            "unsigned",
            unsigned(target.header().to_string(), target.payload()),
            "InvalidToken(NotAJwt)",
        ),
        ("JSON serialization", format!(r#"{{"payload":"{payload}"}}"#), "InvalidRequest(Malformed"),
        ("a JWE", format!("{header}..{payload}.{signature}.AAAA"), "InvalidToken(NotAJwt)"),
        ("a nested token", signed(&target.key(), target.header().to_string(), &token), MALFORMED),
    ];
    target.repel(attacks).await;
}
