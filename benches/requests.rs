//! What a request costs: `Router::oneshot` with each kind of token, beside the same router bare.
//!
//! `cargo bench --bench requests`, and compare within one run. Tokens and keys are those captured
//! from a real Logto; the clock stands still.

#![allow(missing_docs, reason = "criterion's macros write the public items")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up fails")]

#[path = "../tests/stage/mod.rs"]
mod stage;

use std::hint::black_box;

use axum::{Router, extract::Request, routing::get};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tower::ServiceExt as _;
use tower_logto::{AccessToken, Algorithm, AuthLayer, Validator, testing::KeySet};

use crate::stage::{ES384, FOREIGN, ISSUED, JWKS, OTHER_JWKS, RS256, fixture};

fn validator(jwks: &str, at: u64, verified: usize) -> Validator {
    stage::validator(fixture(jwks), at, verified)
}

async fn with_claims(token: AccessToken) -> &'static str {
    if token.scopes().contains("read:products") { "yes" } else { "no" }
}

fn protected(validator: Validator) -> Router {
    Router::new().route("/", get(with_claims)).route_layer(AuthLayer::new(validator))
}

fn bare() -> Router {
    Router::new().route("/", get(async || "yes"))
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("oneshot");
    let good = || protected(validator(JWKS, ISSUED, 10_000));
    let es384 = fixture(ES384);
    for (name, router, token, status) in [
        ("bare", bare(), Some(&es384), 200),
        ("valid ES384", good(), Some(&es384), 200),
        ("valid RS256", protected(validator(JWKS, ISSUED, 9)), Some(&fixture(RS256)), 200),
        ("missing", good(), None, 401),
        ("malformed", good(), Some(&"not-a-jwt".to_owned()), 401),
        ("unknown kid", protected(validator(OTHER_JWKS, ISSUED, 9)), Some(&es384), 401),
        ("expired", protected(validator(JWKS, ISSUED + 9999, 9)), Some(&es384), 401),
        ("foreign audience", good(), Some(&fixture(FOREIGN)), 401),
        ("first sight", protected(validator(JWKS, ISSUED, 0)), Some(&es384), 200),
    ] {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let send = |request: Request| runtime.block_on(router.clone().oneshot(request)).unwrap();
        let make = || stage::request(token.map(String::as_str));
        assert_eq!(send(make()).status(), status, "{name}");
        group.bench_function(name, |b| b.iter_batched(make, send, BatchSize::SmallInput));
    }
    group.finish();
}

fn validation(c: &mut Criterion) {
    let mut group = c.benchmark_group("validate");
    let token = fixture(ES384);
    let first_sight = validator(JWKS, ISSUED, 0);
    group.bench_function("first sight ES384", |b| {
        b.iter(|| first_sight.try_validate(black_box(&token)).unwrap().unwrap());
    });
    let cached = validator(JWKS, ISSUED, 10_000);
    group.bench_function("hit", |b| {
        b.iter(|| cached.try_validate(black_box(&token)).unwrap().unwrap());
    });
    let keys = KeySet::from_json(fixture(JWKS).as_bytes(), &Algorithm::LOGTO).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = decode(signature);
    let kid = Some("ZuydfINXJZloSx7ICtyIE5jVpEQ6T_ESHpkokY9DBuk");
    group.bench_function("bare check ES384", |b| {
        let message = message.as_bytes();
        b.iter(|| keys.verify(kid, Algorithm::ES384, black_box(message), &signature).unwrap());
    });
    group.finish();
}

fn decode(base64url: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(base64url).unwrap()
}

criterion_group!(benches, requests, validation);
criterion_main!(benches);
