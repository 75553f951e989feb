//! Compares tower-logto with other crates in one run. Most cases call `Router::oneshot` on a router
//! whose handler reads the claims. The program prints a table, and then one line `ratio NAME VALUE`
//! per ratio. It also writes `chart.svg`.
//!
//! `cargo run --release --manifest-path benches/compare/Cargo.toml [-- --rounds 100]`

mod chart;
mod measure;
mod subjects;
mod tokens;

use std::{process::Command, sync::Arc};

use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};
use http::{Request, Response};
use jsonwebtoken::crypto::{aws_lc, rust_crypto};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

use crate::{
    measure::{Case, Cost, CountingAllocator, measure, timed},
    tokens::{AUDIENCE, Content, ISSUER, Kind, Signer, decode, forged},
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() {
    let arguments = std::env::args().collect::<Vec<_>>();
    let rounds = arguments.iter().position(|argument| argument == "--rounds");
    let rounds = rounds.map_or(100, |at| arguments[at + 1].parse().unwrap());
    let bench = Bench::new();
    if arguments.iter().any(|argument| argument == RUST_CRYPTO) {
        rust_crypto::DEFAULT_PROVIDER.install_default().unwrap();
        for (name, ratio) in bench.rust_crypto(rounds) {
            println!("ratio {name} {ratio:.4}");
        }
        return;
    }
    aws_lc::DEFAULT_PROVIDER.install_default().unwrap();
    let costs = bench.all(rounds);
    print_table(&costs);
    let mut ratios = ratios(&costs);
    // jsonwebtoken can have only one crypto provider per process. This process uses aws-lc, so the
    // measurement with RustCrypto runs in a second process.
    let mut child = Command::new(&arguments[0]);
    let output = child.args([RUST_CRYPTO, "--rounds", &rounds.to_string()]).output();
    ratios.extend(parse_ratios(&output));
    for (name, ratio) in &ratios {
        println!("ratio {name} {ratio:.4}");
    }
    println!("note axum-jwt-auth: one decoder per algorithm (none accepts both EC and RSA keys)");
    println!("note oauth-resource-server, jwt-authorizer: both use jsonwebtoken 9 with ring");
    println!("note axum-jwt-auth: this crate uses jsonwebtoken 10 with RustCrypto");
    chart::write(&ratios);
}

/// The runtime and the keys that all cases of a run share.
struct Bench {
    runtime: Runtime,
    signer: Signer,
    jwks: String,
    jwks_uri: String,
    /// A JWKS whose keys and key ids differ from those in `jwks`.
    foreign_jwks: String,
}

/// A kind of request, and the status that is expected from every crate.
struct RequestKind {
    name: String,
    authorization: Option<String>,
    status: u16,
}

impl Bench {
    fn new() -> Self {
        let (signer, foreign) = (Signer::new(), Signer::new());
        let jwks = signer.jwks();
        let foreign_jwks = foreign.jwks().replace("\"kid\":\"", "\"kid\":\"other-");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let jwks_uri = subjects::serve_jwks(jwks.clone());
        Self { runtime, signer, jwks, jwks_uri, foreign_jwks }
    }

    fn all(&self, rounds: usize) -> Vec<Cost> {
        let mut cases = Vec::new();
        let kinds = self.request_kinds();
        let es384 = &kinds[0];
        cases.push(self.case("bare", subjects::bare(), es384));
        cases.push(self.case("no-op layer", subjects::no_op(), es384));
        self.add_ours(&mut cases);
        self.add_checks(&mut cases);
        self.add_jsonwebtoken(&mut cases);
        let uri = &self.jwks_uri;
        self.add(&mut cases, "tower-oauth2-resource-server aws-lc", || {
            self.runtime.block_on(subjects::tower_oauth2(&self.jwks))
        });
        self.add(&mut cases, "oauth-resource-server", || {
            self.runtime.block_on(subjects::oauth_resource_server(uri))
        });
        self.add(&mut cases, "jwt-authorizer", || {
            self.runtime.block_on(subjects::jwt_authorizer(&self.jwks))
        });
        for kind in Kind::BOTH {
            let router = self.runtime.block_on(subjects::axum_jwt_auth(uri, kind));
            let request_kind =
                kinds.iter().find(|request_kind| request_kind.name == kind.name()).unwrap();
            cases.push(self.case("axum-jwt-auth", router, request_kind));
        }
        measure(cases, rounds)
    }

    /// Measures tower-oauth2-resource-server with its default crypto provider. Returns the times,
    /// each divided by the time of the router without a layer. All times are measured in the same
    /// process.
    fn rust_crypto(&self, rounds: usize) -> Vec<(String, f64)> {
        let request_kinds = self.request_kinds();
        let mut cases = vec![self.case("bare", subjects::bare(), &request_kinds[0])];
        for request_kind in &request_kinds[..2] {
            let router = self.runtime.block_on(subjects::tower_oauth2(&self.jwks));
            cases.push(self.case("tower-oauth2-resource-server default", router, request_kind));
        }
        peer_ratios(&measure(cases, rounds.min(30)))
    }

    /// Returns all kinds of requests. The first two kinds have valid tokens.
    fn request_kinds(&self) -> Vec<RequestKind> {
        let request_kind = |name: &str, authorization: Option<String>, status| {
            let authorization = authorization.map(|token| format!("Bearer {token}"));
            RequestKind { name: name.into(), authorization, status }
        };
        let token = |content| self.signer.token(Kind::Es384, content);
        let valid = Content::default();
        let unknown = Content { kid: Some("ZuydfINXJZloSx7ICtyIE5jVpEQ6T_ESHpkokYUNKNO"), ..valid };
        vec![
            request_kind("es384", Some(token(valid)), 200),
            request_kind("rs256", Some(self.signer.token(Kind::Rs256, valid)), 200),
            request_kind("missing", None, 401),
            request_kind("malformed", Some("not-a-jwt".into()), 401),
            request_kind("unknown_kid", Some(token(unknown)), 401),
            request_kind("expired", Some(token(Content { expires_in: -3600, ..valid })), 401),
            request_kind(
                "foreign_audience",
                Some(token(Content { audience: "https://x", ..valid })),
                401,
            ),
            request_kind("bad_signature", Some(forged(&token(valid))), 401),
        ]
    }

    fn add<'a, A: App + 'a>(&'a self, cases: &mut Vec<Case<'a>>, name: &str, app: impl Fn() -> A) {
        for request_kind in self.request_kinds() {
            cases.push(self.case(name, app(), &request_kind));
        }
    }

    fn case<'a, A: App + 'a>(&'a self, name: &str, app: A, request_kind: &RequestKind) -> Case<'a> {
        let name = format!("{name} {}", request_kind.name);
        let authorization = request_kind.authorization.clone();
        let request = move || {
            let mut request = Request::builder().uri("/");
            if let Some(value) = &authorization {
                request = request.header("authorization", value);
            }
            request.body(A::Body::default()).unwrap()
        };
        let send = move |request| self.runtime.block_on(app.clone().answer(request));
        let status = send(request()).status();
        if status != request_kind.status {
            println!("note {name}: {status}, expected {}", request_kind.status);
        }
        let sample = move |runs| timed(runs, |_| request(), &send);
        Case { name, most: 2048, sample: Box::new(sample) }
    }

    fn add_ours<'a>(&'a self, cases: &mut Vec<Case<'a>>) {
        for request_kind in self.request_kinds() {
            // In the case `unknown_kid`, tower-logto gets `foreign_jwks`, and the other crates get
            // `jwks`. The `kid` of the token is in neither JWKS.
            let jwks = match request_kind.name.as_str() {
                "unknown_kid" => &self.foreign_jwks,
                _ => &self.jwks,
            };
            let router = subjects::ours(subjects::validator(jwks, 10_000));
            cases.push(self.case("tower-logto", router, &request_kind));
        }
        let short = Signer::with_short_rsa();
        let token = short.token(Kind::Rs256, Content::default());
        let short_rsa = RequestKind {
            name: "rs256_2048".into(),
            authorization: Some(format!("Bearer {token}")),
            status: 200,
        };
        let router = subjects::ours(subjects::validator(&short.jwks(), 10_000));
        cases.push(self.case("tower-logto", router, &short_rsa));
        for kind in Kind::BOTH {
            let few = match kind {
                Kind::Es384 => 64,
                Kind::Rs256 => 32,
            };
            let content = |number| Content { number, ..Content::default() };
            let tokens =
                (0..few).map(|number| self.signer.token(kind, content(number))).collect::<Vec<_>>();
            let tokens = Arc::new(tokens);
            let name = |what: &str| format!("tower-logto {what} {}", kind.name());
            let new_tokens = Arc::clone(&tokens);
            // Each sample uses a new validator, so no token is cached.
            let sample = move |runs: usize| {
                let validator = subjects::validator(&self.jwks, 10_000);
                let token = |number| &new_tokens[number];
                timed(runs, token, |token| validator.try_validate(token).unwrap().unwrap())
            };
            cases.push(Case { name: name("first sight"), most: few, sample: Box::new(sample) });
            let validator = subjects::validator(&self.jwks, 10_000);
            for token in tokens.iter() {
                validator.try_validate(token).unwrap().unwrap();
            }
            let sample = move |runs| {
                let token = |number| &tokens[number % few];
                timed(runs, token, |token| validator.try_validate(token).unwrap().unwrap())
            };
            cases.push(Case { name: name("hit"), most: 4096, sample: Box::new(sample) });
        }
    }

    /// Adds one case per algorithm. The case measures only the signature check, with a parsed key.
    /// The first validation of a token cannot be faster than this check.
    fn add_checks<'a>(&'a self, cases: &mut Vec<Case<'a>>) {
        for kind in Kind::BOTH {
            let algorithm: &'static dyn VerificationAlgorithm = match kind {
                Kind::Es384 => &ECDSA_P384_SHA384_FIXED,
                Kind::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            };
            let key = ParsedPublicKey::new(algorithm, self.signer.public_key(kind)).unwrap();
            let token = self.signer.token(kind, Content::default());
            let (message, signature) = token.rsplit_once('.').unwrap();
            let (message, signature) = (message.to_owned(), decode(signature));
            let sample = move |runs| {
                let check = |_| key.verify_sig(message.as_bytes(), &signature).unwrap();
                timed(runs, |_| (), check)
            };
            let name = format!("bare check {}", kind.name());
            cases.push(Case { name, most: 64, sample: Box::new(sample) });
        }
    }

    /// Adds one case per algorithm. The case measures only `jsonwebtoken::decode` with a parsed
    /// key, without the lookup of the key in a JWKS and without a layer.
    fn add_jsonwebtoken<'a>(&'a self, cases: &mut Vec<Case<'a>>) {
        use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};

        let jwks = serde_json::from_str::<JwkSet>(&self.jwks).unwrap();
        for (kind, jwk) in Kind::BOTH.into_iter().zip(&jwks.keys) {
            let key = DecodingKey::from_jwk(jwk).unwrap();
            let mut validation = Validation::new(match kind {
                Kind::Es384 => Algorithm::ES384,
                Kind::Rs256 => Algorithm::RS256,
            });
            validation.set_issuer(&[ISSUER]);
            validation.set_audience(&[AUDIENCE]);
            let token = self.signer.token(kind, Content::default());
            #[allow(clippy::disallowed_methods, reason = "what is compared")]
            let sample = move |runs| {
                let decode =
                    |_| jsonwebtoken::decode::<subjects::Claims>(&token, &key, &validation);
                timed(runs, |_| (), decode)
            };
            let name = format!("jsonwebtoken 11 aws-lc {}", kind.name());
            cases.push(Case { name, most: 64, sample: Box::new(sample) });
        }
    }
}

/// A router of axum 0.7 or of axum 0.8.
trait App: Clone {
    type Body: Default;

    async fn answer(self, request: Request<Self::Body>) -> Response<Self::Body>;
}

impl App for axum::Router {
    type Body = axum::body::Body;

    async fn answer(self, request: Request<Self::Body>) -> Response<Self::Body> {
        self.oneshot(request).await.unwrap()
    }
}

impl App for axum_07::Router {
    type Body = axum_07::body::Body;

    async fn answer(self, request: Request<Self::Body>) -> Response<Self::Body> {
        self.oneshot(request).await.unwrap()
    }
}

fn ratios(costs: &[Cost]) -> Vec<(String, f64)> {
    let least = |name: &str| costs.iter().find(|cost| cost.name == name).unwrap().least;
    let bare = least("bare es384");
    let mut ratios = Vec::new();
    let mut add = |name: String, ratio: f64| ratios.push((name, ratio));
    add("no_op_vs_bare".into(), least("no-op layer es384") / bare);
    for kind in Kind::BOTH.map(Kind::name) {
        let warm = least(&format!("tower-logto {kind}"));
        let check = least(&format!("bare check {kind}"));
        let first_sight = least(&format!("tower-logto first sight {kind}"));
        add(format!("warm_vs_bare_{kind}"), warm / bare);
        add(format!("first_sight_vs_check_{kind}"), first_sight / check);
        add(format!("hit_vs_check_{kind}"), least(&format!("tower-logto hit {kind}")) / check);
        let peers = PEERS.map(|peer| least(&format!("{peer} {kind}")));
        let best = peers.into_iter().fold(f64::INFINITY, f64::min);
        add(format!("best_peer_vs_ours_{kind}"), best / warm);
    }
    add("warm_vs_bare_rs256_2048".into(), least("tower-logto rs256_2048") / bare);
    add("warm_vs_noop".into(), least("tower-logto es384") / least("no-op layer es384"));
    for what in ["missing", "malformed", "unknown_kid", "expired", "foreign_audience"] {
        add(format!("{what}_vs_bare"), least(&format!("tower-logto {what}")) / bare);
    }
    let check = least("bare check es384");
    add("bad_signature_vs_check".into(), least("tower-logto bad_signature") / check);
    ratios.extend(peer_ratios(costs));
    ratios
}

/// Returns one ratio per peer and kind of request: the time of a request to the peer's router,
/// divided by the time of a request to the router without a layer.
fn peer_ratios(costs: &[Cost]) -> Vec<(String, f64)> {
    let bare = costs.iter().find(|cost| cost.name == "bare es384").unwrap().least;
    let peers = costs.iter().filter(|cost| {
        let name = &cost.name;
        PEERS.iter().any(|peer| name.starts_with(peer)) || name.starts_with("tower-oauth2")
    });
    let name = |cost: &Cost| format!("{}_vs_bare", cost.name.replace([' ', '-'], "_"));
    peers.map(|cost| (name(cost), cost.least / bare)).collect()
}

fn parse_ratios(output: &std::io::Result<std::process::Output>) -> Vec<(String, f64)> {
    let Ok(output) = output else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout);
    let parse = |line: &str| {
        let (name, ratio) = line.strip_prefix("ratio ")?.split_once(' ')?;
        Some((name.to_owned(), ratio.parse().ok()?))
    };
    text.lines().filter_map(parse).collect()
}

fn print_table(costs: &[Cost]) {
    println!("{:<52}{:>12}{:>12}{:>13}", "", "least µs", "median µs", "allocations");
    for Cost { name, least, median, allocations } in costs {
        let (least, median) = (least / 1e3, median / 1e3);
        println!("{name:<52}{least:>12.3}{median:>12.3}{allocations:>13.1}");
    }
}

/// The argument for the second process, which measures only tower-oauth2-resource-server with
/// RustCrypto.
const RUST_CRYPTO: &str = "--rust-crypto";

const PEERS: [&str; 4] = [
    "tower-oauth2-resource-server aws-lc",
    "oauth-resource-server",
    "jwt-authorizer",
    "axum-jwt-auth",
];
