//! Measures how long a router with the layer takes for one request. Each kind of token has its own
//! measurement. The program also measures a router without the layer, the validator alone, and the
//! signature check alone. A request to a router is a call of `Router::oneshot`.
//!
//! Run `cargo bench --bench requests`, and compare only results of the same run. Tokens and keys
//! were captured from a real Logto server, and the clock is stopped.

#![allow(missing_docs, reason = "the macros of criterion generate public items")]
#![allow(clippy::unwrap_used, reason = "a failing setup fails the benchmark")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use axum::{Router, extract::Request, routing::get};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tower::ServiceExt as _;
use tower_logto::{AccessToken, Algorithm, AuthLayer, Validator, testing::KeySet};

use crate::support::{
    base64url_decode,
    offline::{
        self, ISSUED, es384_token, foreign_jwks, foreign_token, jwks, rs256_token, validator,
    },
};

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
    let protected_with_cache = || protected(validator(jwks(), ISSUED, 10_000));
    let es384 = es384_token();
    for (name, router, token, status) in [
        ("bare", bare(), Some(&es384), 200),
        ("valid ES384", protected_with_cache(), Some(&es384), 200),
        ("valid RS256", protected(validator(jwks(), ISSUED, 9)), Some(&rs256_token()), 200),
        ("missing", protected_with_cache(), None, 401),
        ("malformed", protected_with_cache(), Some(&"not-a-jwt".to_owned()), 401),
        ("unknown kid", protected(validator(foreign_jwks(), ISSUED, 9)), Some(&es384), 401),
        ("expired", protected(validator(jwks(), ISSUED + 9999, 9)), Some(&es384), 401),
        ("foreign audience", protected_with_cache(), Some(&foreign_token()), 401),
        ("first sight", protected(validator(jwks(), ISSUED, 0)), Some(&es384), 200),
    ] {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let send = |request: Request| runtime.block_on(router.clone().oneshot(request)).unwrap();
        let make = || offline::request(token.map(String::as_str));
        assert_eq!(send(make()).status(), status, "{name}");
        group.bench_function(name, |b| b.iter_batched(make, send, BatchSize::SmallInput));
    }
    group.finish();
}

fn validation(c: &mut Criterion) {
    let mut group = c.benchmark_group("validate");
    let token = es384_token();
    let first_sight = validator(jwks(), ISSUED, 0);
    group.bench_function("first sight ES384", |b| {
        b.iter(|| first_sight.try_validate(black_box(&token)).unwrap().unwrap());
    });
    let cached = validator(jwks(), ISSUED, 10_000);
    group.bench_function("hit", |b| {
        b.iter(|| cached.try_validate(black_box(&token)).unwrap().unwrap());
    });
    let keys = KeySet::from_json(jwks().as_bytes(), &Algorithm::LOGTO).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = base64url_decode(signature);
    let kid = Some("ZuydfINXJZloSx7ICtyIE5jVpEQ6T_ESHpkokY9DBuk");
    group.bench_function("bare check ES384", |b| {
        let message = message.as_bytes();
        b.iter(|| keys.verify(kid, Algorithm::ES384, black_box(message), &signature).unwrap());
    });
    group.finish();
}

criterion_group!(benches, requests, validation);
criterion_main!(benches);
