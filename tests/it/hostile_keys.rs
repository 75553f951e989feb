//! Hostile key sets, served over HTTP: good keys survive them all, a cold start gets 503 and no
//! worse, and both recover.

use std::{slice, time::Duration};

use axum::{Router, routing::get};
use serde_json::{Value, json};
use tower_logto::{
    Algorithm, AuthLayer, Validator, ValidatorBuilder,
    testing::{Fault, ManualClock, SigningKey, TestIssuer, TokenBuilder},
};

use crate::{
    hostile::{Hostile, gzip, gzip_bomb, ok, response},
    support::{SHOP, Server, Stage, header},
};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// Whether an answer comes to an end without anybody's losing patience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    ByItself,
    Never,
}

/// A Logto that signs, a server that publishes, and who believes both.
struct Scene {
    logto: TestIssuer,
    hostile: Hostile,
    clock: ManualClock,
}

impl Scene {
    async fn set() -> Self {
        let clock = ManualClock::default();
        let logto = TestIssuer::builder().clock(clock.clone()).start().await.unwrap();
        Self { logto, hostile: Hostile::start(), clock }
    }

    fn builder(&self) -> ValidatorBuilder {
        let trusted = self.logto.trusted(SHOP).jwks_uri(self.hostile.url());
        // No certificates to read, for each of some 400 clients.
        let client = || reqwest::Client::builder().tls_certs_only([]);
        Validator::builder().trust(trusted).clock(self.clock.clone()).http_client_builder(client)
    }

    fn token(&self) -> TokenBuilder {
        self.logto.token().lifetime(24 * 60 * MINUTE)
    }

    /// Serves the issuer's keys, as a Logto does.
    fn behave_well(&self) {
        self.hostile.answer(ok(self.logto.jwks()));
    }

    async fn status(&self, validator: &Validator, token: &str) -> u16 {
        let verdict = validator.validate(token).await;
        verdict.map_or_else(|error| error.status().as_u16(), |_| 200)
    }

    /// Whoever holds good keys is not moved, however often it asks.
    async fn good_keys_survive(&self, name: &str, ends: Ends, misbehave: impl Fn(&Hostile)) {
        self.behave_well();
        let validator = self.builder().build().unwrap();
        let known = self.token().build();
        validator.validate(&known).await.unwrap();
        misbehave(&self.hostile);
        self.clock.advance(11 * MINUTE);
        let at_once = |token: &str| validator.try_validate(token).is_some_and(|v| v.is_ok());
        let stalls = (ends == Ends::Never).then(|| self.hostile.stalls());
        assert!(at_once(&known), "{name}: served while the refresh begins");
        // It waits for the refresh, and for one of its own.
        let stranger = self.token().kid("nobody's").build();
        let stranger = self.status(&validator, &stranger);
        let (stranger, ()) = tokio::join!(stranger, self.skip_time_if_stalled(stalls));
        if ends == Ends::Never {
            tokio::time::resume();
        }
        assert_eq!(stranger, 503, "{name}: an unknown key");
        assert!(at_once(&known), "{name}: a token seen before");
        assert!(at_once(&self.token().build()), "{name}: a token never seen");

        self.behave_well();
        self.logto.rotate();
        self.behave_well();
        self.clock.advance(2 * MINUTE);
        assert!(at_once(&known), "{name}: when the refresh will succeed");
        let rotated = self.token().build();
        assert_eq!(self.status(&validator, &rotated).await, 200, "{name}: recovered");
        assert!(at_once(&known), "{name}: after the rotation");
    }

    /// Whoever holds none yet is told so, and recovers.
    async fn a_cold_start_recovers(&self, name: &str, ends: Ends, misbehave: impl Fn(&Hostile)) {
        misbehave(&self.hostile);
        let layer = AuthLayer::new(self.builder().build().unwrap());
        let router = Router::new().route("/", get(async || "in")).route_layer(layer);
        let server = Server::start(router).await;
        let token = self.token().build();
        let stalls = (ends == Ends::Never).then(|| self.hostile.stalls());
        let asked = self.hostile.requests().len();
        let answer = server.get("/", &token);
        let (answer, ()) = tokio::join!(answer, self.skip_time_if_stalled(stalls));
        if ends == Ends::Never {
            tokio::time::resume();
        }
        assert_eq!(answer.status(), 503, "{name}: a cold start");
        assert_eq!(header(answer.headers(), "retry-after"), "1", "{name}");
        assert_eq!(answer.text().await.unwrap(), "", "{name}");
        assert_eq!(self.hostile.requests().len(), asked + 1, "{name}: asked once");
        self.behave_well();
        // The caller may have given up before the fetch did, whose failure counts when it lands.
        let mut attempts = Vec::new();
        while attempts.last() != Some(&200) && attempts.len() < 2 {
            self.clock.advance(SECOND);
            attempts.push(server.get("/", &token).await.status().as_u16());
        }
        let expected: &[&[u16]] = match ends {
            Ends::ByItself => &[&[200]],
            Ends::Never => &[&[200], &[503, 200]],
        };
        assert!(expected.contains(&&attempts[..]), "{name}: recovered, after {attempts:?}");
    }

    /// Once the server has fallen silent, time leaps to the next timer.
    async fn skip_time_if_stalled(&self, stalls: Option<u64>) {
        if let Some(before) = stalls {
            self.hostile.stalled(before + 1).await;
            tokio::time::pause();
        }
    }

    async fn withstands(&self, name: &str, ends: Ends, misbehave: impl Fn(&Hostile)) {
        println!("hostile: {name}");
        self.good_keys_survive(name, ends, &misbehave).await;
        self.a_cold_start_recovers(name, ends, &misbehave).await;
    }

    /// Each of these answers is as good as none.
    async fn withstands_answers<N: AsRef<str>>(
        &self,
        answers: impl IntoIterator<Item = (N, Vec<u8>)>,
    ) {
        for (name, answer) in answers {
            self.withstands(name.as_ref(), Ends::ByItself, |hostile| {
                hostile.answer(answer.clone())
            })
            .await;
        }
    }
}

fn set_of(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn with(key: &Value, name: &str, value: impl Into<Value>) -> Value {
    let mut key = key.clone();
    key[name] = value.into();
    key
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An RSA key of so many bits, never to be used.
fn rsa(bits: usize, exponent: &str) -> Value {
    let mut n = vec![0xa5; bits / 8];
    n[0] = 0xff;
    json!({ "kty": "RSA", "use": "sig", "kid": "rsa", "n": base64url(n), "e": exponent })
}

#[tokio::test]
async fn bodies_that_are_no_key_set() {
    let scene = Scene::set().await;
    let set = scene.logto.jwks();
    let key = scene.logto.signing_key().jwk();
    let deep = "[".repeat(100_000);
    let utf_16 = set.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let bodies = [
        ("nothing", Vec::new()),
        ("null", "null".into()),
        ("an array", "[]".into()),
        ("an empty object", "{}".into()),
        ("keys null", r#"{"keys":null}"#.into()),
        ("keys an object", r#"{"keys":{}}"#.into()),
        ("keys a string", r#"{"keys":"x"}"#.into()),
        ("no keys", r#"{"keys":[]}"#.into()),
        ("keys that are none", r#"{"keys":[null,"x",7,true,[],{}]}"#.into()),
        ("the key alone", key.to_string().into()),
        ("an array of keys", json!([key]).to_string().into()),
        ("an array of the set", format!("[{set}]").into()),
        ("a string of the set", json!(set).to_string().into()),
        ("two sets", format!("{set}{set}").into()),
        ("keys twice", format!("{{\"keys\":[],{}", &set[1..]).into()),
        ("a BOM", format!("\u{feff}{set}").into()),
        ("UTF-16", utf_16),
        ("a cut set", set[..set.len() - 2].into()),
        ("a NUL behind", format!("{set}\0").into()),
        ("a byte that is no UTF-8", [set.as_bytes(), b"\xff"].concat()),
        ("100,000 brackets", deep.clone().into()),
        ("100,000 brackets as keys", format!("{{\"keys\":{deep}").into()),
        ("100,000 brackets as a key", format!("{{\"keys\":[{{\"kty\":{deep}").into()),
        ("HTML", "<!doctype html><title>Sign in</title>".into()),
        ("an error", r#"{"code":"oidc.not_found","message":"no such tenant"}"#.into()),
        ("discovery", r#"{"issuer":"https://x/oidc","jwks_uri":"https://x/oidc/jwks"}"#.into()),
        ("3,000 keys", set_of(&vec![key.clone(); 3_000]).into()),
        ("3,000 nulls", set_of(&vec![Value::Null; 3_000]).into()),
        ("65 keys", set_of(&vec![key; 65]).into()),
        ("a little too large", format!("{set}{}", " ".repeat(256 * 1024)).into()),
    ];
    scene.withstands_answers(bodies.map(|(name, body): (_, Vec<u8>)| (name, ok(body)))).await;
}

#[tokio::test]
async fn key_sets_without_a_usable_key() {
    let scene = Scene::set().await;
    let key = scene.logto.signing_key().jwk();
    let kid = key["kid"].clone();
    let p256 = SigningKey::generate(Algorithm::ES256).jwk();
    let sets = [
        ("a secret", vec![json!({ "kty": "oct", "kid": kid, "alg": "HS256", "k": "c2VjcmV0" })]),
        (
            "a secret for ES384",
            vec![json!({ "kty": "oct", "kid": kid, "alg": "ES384", "k": "AA" })],
        ),
        ("a private key", vec![with(&key, "d", "c2VjcmV0")]),
        ("use: enc", vec![with(&key, "use", "enc")]),
        ("key_ops: sign", vec![with(&key, "key_ops", json!(["sign"]))]),
        ("alg: none", vec![with(&key, "alg", "none")]),
        ("alg: HS256", vec![with(&key, "alg", "HS256")]),
        ("alg: EdDSA", vec![with(&key, "alg", "EdDSA")]),
        ("an unknown type", vec![with(&key, "kty", "PQC")]),
        (
            "OKP",
            vec![json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64url([1; 32]) })],
        ),
        ("an unknown curve", vec![with(&key, "crv", "secp256k1")]),
        ("another curve", vec![with(&key, "crv", "P-256")]),
        ("a point off the curve", vec![with(&key, "x", key["y"].clone())]),
        (
            "the point at zero",
            vec![with(&with(&key, "x", base64url([0; 48])), "y", base64url([0; 48]))],
        ),
        ("a long coordinate", vec![with(&key, "x", base64url([0; 49]))]),
        ("a coordinate of 100 KB", vec![with(&key, "x", base64url([1; 75_000]))]),
        ("the kid twice", vec![key.clone(), key.clone()]),
        (
            "the kid for another key too",
            vec![
                key.clone(),
                with(&SigningKey::generate(Algorithm::ES384).jwk(), "kid", kid.clone()),
            ],
        ),
        ("RSA of 512 bits", vec![rsa(512, "AQAB")]),
        ("RSA of 64 kbit", vec![rsa(65_536, "AQAB")]),
        ("RSA of a megabit", vec![rsa(1 << 20, "AQAB")]),
        ("RSA with e = 1", vec![rsa(2048, "AQ")]),
        ("RSA with an even e", vec![rsa(2048, "AQAA")]),
        ("RSA with an e of 2,048 bits", vec![rsa(2048, &base64url([0xff; 256]))]),
        ("RSA with an even n", vec![with(&rsa(2048, "AQAB"), "n", base64url([0xfe; 256]))]),
        ("null and text", vec![Value::Null, "key".into(), 7.into()]),
        ("another algorithm than allowed", vec![with(&p256, "alg", "ES384")]),
    ];
    scene.withstands_answers(sets.map(|(name, keys)| (name, ok(set_of(&keys))))).await;
}

#[tokio::test]
async fn statuses_other_than_200_whatever_comes_with_them() {
    let scene = Scene::set().await;
    let set = scene.logto.jwks();
    let statuses = [
        201, 202, 203, 204, 205, 206, 207, 226, 300, 304, 305, 306, 400, 401, 403, 404, 407, 410,
        418, 421, 429, 451, 499, 500, 501, 502, 503, 504, 511, 599, 600, 999,
    ];
    let answers = statuses.map(|status| {
        let head = format!("{status} Whatever\r\nContent-Type: application/jwk-set+json");
        (format!("{status} with the key set"), response(&head, &set))
    });
    scene.withstands_answers(answers).await;
    let moody = [
        ("503 and Retry-After", response("503 Slow Down\r\nRetry-After: 99999999999", "")),
        ("429 and Retry-After", response("429 Slow Down\r\nRetry-After: Never", "")),
        ("401 and a challenge", response("401 No\r\nWWW-Authenticate: Basic", &set)),
        ("304 nobody asked for", response("304 Not Modified\r\nETag: \"x\"", "")),
        ("200 of HTTP/0.9", set.clone().into()),
    ];
    scene.withstands_answers(moody).await;
}

#[tokio::test]
async fn a_304_that_nobody_asked_for_is_no_redirect() {
    let stage = Stage::set().await;
    stage.logto.fault_jwks(Fault::Status(304, String::new()));
    let met = stage.validator().warm_up().await.unwrap_err().to_string();
    assert!(met.contains("304") && met.contains("cache") && !met.contains("redirect"), "{met}");
}

#[tokio::test]
async fn redirects_lead_nowhere() {
    let scene = Scene::set().await;
    let canary = Hostile::start();
    canary.answer(ok(scene.logto.jwks()));
    for status in [300, 301, 302, 303, 307, 308] {
        for (name, location) in [
            ("elsewhere", canary.url()),
            ("to a file", "file:///etc/passwd".into()),
            ("to itself", "/oidc/jwks".into()),
        ] {
            let head =
                format!("{status} Moved\r\nLocation: {location}\r\nRefresh: 0;url={location}");
            let answer = response(&head, scene.logto.jwks());
            let name = format!("{status} {name}");
            scene.withstands_answers([(name, answer)]).await;
        }
    }
    assert_eq!(canary.requests(), [""; 0], "the canary was asked");
}

#[tokio::test]
async fn broken_framing() {
    let scene = Scene::set().await;
    let set = scene.logto.jwks();
    let framed = |head: &str| format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{set}").into_bytes();
    let length = set.len();
    let chunk = format!("{length:x}\r\n{set}\r\n");
    let chunked = |body: &str| {
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes()
    };
    let header = "x".repeat(1024 * 1024);
    let headers = (0..10_000).fold(String::new(), |all, n| all + &format!("X-{n}: {n}\r\n"));
    let answers = [
        ("a Content-Length too long", framed(&format!("Content-Length: {}", length + 1))),
        ("a Content-Length too short", framed(&format!("Content-Length: {}", length - 1))),
        ("a Content-Length of 0", framed("Content-Length: 0")),
        ("a Content-Length of an exabyte", framed("Content-Length: 1000000000000000000")),
        ("a Content-Length beyond 64 bits", framed("Content-Length: 99999999999999999999999")),
        ("a negative Content-Length", framed("Content-Length: -1")),
        ("a Content-Length that is none", framed("Content-Length: many")),
        ("two Content-Lengths", framed(&format!("Content-Length: {length}\r\nContent-Length: 5"))),
        ("a chunk that ends early", chunked(&chunk[..chunk.len() - 9])),
        ("chunks without an end", chunked(&chunk)),
        ("a chunk without a size", chunked(&format!("\r\n{set}\r\n0\r\n\r\n"))),
        ("a chunk of a negative size", chunked(&format!("-5\r\n{set}\r\n0\r\n\r\n"))),
        ("a chunk of 2^64", chunked(&format!("10000000000000000\r\n{set}\r\n0\r\n\r\n"))),
        (
            "a chunk extension of a MB",
            chunked(&format!("{length:x};{header}\r\n{set}\r\n0\r\n\r\n")),
        ),
        ("nothing at all", Vec::new()),
        ("a status line and no more", b"HTTP/1.1 200 OK\r\n".to_vec()),
        ("a status that is none", b"HTTP/1.1 two hundred\r\n\r\n".to_vec()),
        ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
        ("a TLS alert", b"\x15\x03\x03\x00\x02\x02\x28".to_vec()),
        ("HTTP/2", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00".to_vec()),
        ("a header without a colon", framed("Content-Length")),
        ("a NUL in a header", framed("X: \0")),
        ("a header of a MB", framed(&format!("X: {header}"))),
        ("10,000 headers", framed(headers.trim_end())),
        ("a thousand 103s and no more", b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000)),
        ("101", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".to_vec()),
    ];
    scene.withstands_answers(answers).await;
}

#[tokio::test]
async fn compression_that_nobody_asked_for() {
    let scene = Scene::set().await;
    let set = scene.logto.jwks();
    let head = |encoding: &str| format!("200 OK\r\nContent-Encoding: {encoding}");
    let answers = [
        ("a gzip bomb", response(&head("gzip"), gzip_bomb())),
        ("a gzip bomb twice", response(&head("gzip, gzip"), gzip_bomb())),
        ("an honest gzip", response(&head("gzip"), gzip(set.as_bytes()))),
        ("gzip that is none", response(&head("gzip"), "no")),
        ("a transfer coding", {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
            let body = gzip(set.as_bytes());
            let size = format!("{:x}\r\n", body.len());
            [head.as_bytes(), size.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()
        }),
    ];
    scene.withstands_answers(answers).await;
    let requests = scene.hostile.requests().concat().to_ascii_lowercase();
    assert!(!requests.contains("accept-encoding"), "{requests}");
}

#[tokio::test]
async fn bodies_without_measure() {
    let scene = Scene::set().await;
    const LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n";
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let spaces = [b' '; 64 * 1024];
    scene
        .withstands("100 MB", Ends::ByItself, |hostile| {
            hostile.behave(move |connection| {
                connection.send(LENGTH)?;
                (0..1600).try_for_each(|_| connection.send(&spaces))
            });
        })
        .await;
    let chunk = [&b"10000\r\n"[..], &spaces, b"\r\n"].concat();
    for (name, start) in [
        ("an endless body in chunks", CHUNKED.to_vec()),
        ("an endless body until close", b"HTTP/1.0 200 OK\r\n\r\n".to_vec()),
        ("an endless header", b"HTTP/1.1 200 OK\r\nX: ".to_vec()),
    ] {
        scene
            .withstands(name, Ends::ByItself, |hostile| {
                let (start, chunk) = (start.clone(), chunk.clone());
                hostile.behave(move |connection| {
                    connection.send(&start)?;
                    connection.flood(&chunk)
                });
            })
            .await;
    }
}

#[tokio::test]
async fn silence() {
    let scene = Scene::set().await;
    let set = scene.logto.jwks();
    let half = &set[..set.len() / 2];
    let length = set.len();
    let ok = "HTTP/1.1 200 OK\r\n";
    let drip = |connection: &mut crate::hostile::Connection| connection.drip(b"x", 20);
    for (name, start) in [
        ("from the start", String::new()),
        ("in the status line", "HTTP/1".into()),
        ("in a header", format!("{ok}X: ")),
        ("after a header", format!("{ok}X: x\r\n")),
        ("before the body", format!("{ok}Content-Length: {length}\r\n\r\n")),
        ("in the body", format!("{ok}Content-Length: {length}\r\n\r\n{half}")),
        ("before the first chunk", format!("{ok}Transfer-Encoding: chunked\r\n\r\n")),
        ("in a chunk", format!("{ok}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{half}")),
        ("after a 100", "HTTP/1.1 100 Continue\r\n\r\n".into()),
        ("after a 503's head", "HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n{".into()),
    ] {
        let stall = |hostile: &Hostile| {
            let start = start.clone();
            hostile.behave(move |connection| {
                connection.send(start.as_bytes())?;
                connection.stall()
            });
        };
        scene.withstands(&format!("silence {name}"), Ends::Never, stall).await;
    }
    for (name, start) in [
        ("of a header", format!("{ok}X: ")),
        ("of a body", format!("{ok}Content-Length: 100000\r\n\r\n")),
    ] {
        let stall = |hostile: &Hostile| {
            let start = start.clone();
            hostile.behave(move |connection| {
                connection.send(start.as_bytes())?;
                drip(connection)
            });
        };
        scene.withstands(&format!("a drip {name}"), Ends::Never, stall).await;
    }
}

/// Odd company spoils no good key, and cannot stand in for it.
#[tokio::test]
async fn odd_entries_beside_a_good_key() {
    let scene = Scene::set().await;
    let key = scene.logto.signing_key().jwk();
    let kid = key["kid"].clone();
    let mallory = SigningKey::generate(Algorithm::ES384);
    let companions = [
        ("a secret under its kid", json!({ "kty": "oct", "kid": kid, "alg": "HS256", "k": "AA" })),
        (
            "an encryption key under its kid",
            with(&with(&mallory.jwk(), "kid", kid.clone()), "use", "enc"),
        ),
        ("a private key under its kid", with(&with(&mallory.jwk(), "kid", kid.clone()), "d", "AA")),
        ("an RSA key under its kid", with(&rsa(2048, "AQAB"), "kid", kid.clone())),
        ("a bad RSA key under its kid", with(&rsa(512, "AQAB"), "kid", kid.clone())),
        ("a point off the curve under its kid", with(&key, "x", key["y"].clone())),
        ("a kid with spaces", with(&mallory.jwk(), "kid", format!(" {} ", kid.as_str().unwrap()))),
        ("a kid of 100 KB", with(&mallory.jwk(), "kid", "k".repeat(100_000))),
        ("a kid that is none", with(&mallory.jwk(), "kid", 7)),
        (
            "x5c and x5u",
            with(&with(&rsa(2048, "AQAB"), "x5c", json!(["AA"])), "x5u", "http://127.0.0.1:9/"),
        ),
        ("null", Value::Null),
        ("text", "key".into()),
        ("an array", json!([key])),
        ("63 nulls", Value::Null),
    ];
    for (name, companion) in companions {
        println!("hostile: {name}");
        let copies = if name == "63 nulls" { 63 } else { 1 };
        let company = vec![companion; copies];
        for keys in
            [[slice::from_ref(&key), &company].concat(), [&company, slice::from_ref(&key)].concat()]
        {
            scene.hostile.answer(ok(set_of(&keys)));
            let validator = scene.builder().build().unwrap();
            assert_eq!(scene.status(&validator, &scene.token().build()).await, 200, "{name}");
            let forged = scene.token().signed_by(&mallory).kid(kid.as_str().unwrap()).build();
            assert_eq!(scene.status(&validator, &forged).await, 401, "{name}: forged");
        }
    }
}

#[tokio::test]
async fn a_huge_etag_is_not_kept() {
    let scene = Scene::set().await;
    for (name, etag, kept) in [
        ("short", "\"abc\"".to_owned(), true),
        ("weak", "W/\"abc\"".to_owned(), true),
        ("unquoted", "abc".to_owned(), true),
        ("257 bytes", format!("\"{}\"", "e".repeat(255)), false),
        ("100 KB", format!("\"{}\"", "e".repeat(100_000)), false),
    ] {
        println!("hostile: ETag, {name}");
        let head = format!("200 OK\r\nETag: {etag}");
        scene.hostile.answer(response(&head, scene.logto.jwks()));
        let validator = scene.builder().build().unwrap();
        let known = scene.token().build();
        assert_eq!(scene.status(&validator, &known).await, 200, "{name}");
        let stranger = scene.token().kid("nobody's").build();
        assert_eq!(scene.status(&validator, &stranger).await, 401, "{name}");
        let requests = scene.hostile.requests();
        let sent = requests.last().unwrap().to_ascii_lowercase().contains("if-none-match");
        assert_eq!(sent, kept, "{name}");
        assert_eq!(scene.status(&validator, &known).await, 200, "{name}");
    }
}

/// What was wrong once with the client is not wrong for ever.
#[tokio::test]
async fn a_client_that_could_not_be_built_is_built_again() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let scene = Scene::set().await;
    scene.behave_well();
    let broken = AtomicBool::new(true);
    let make = move || {
        // No header value, so the client cannot be built.
        let agent = if broken.swap(false, Ordering::Relaxed) { "\n" } else { "agent" };
        reqwest::Client::builder().user_agent(agent)
    };
    let validator = scene.builder().http_client_builder(make).build().unwrap();
    let token = scene.token().build();
    assert_eq!(scene.status(&validator, &token).await, 503);
    scene.clock.advance(SECOND);
    assert_eq!(scene.status(&validator, &token).await, 200);
}
