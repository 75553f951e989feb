//! Checks limits on the number of allocations of a cache hit, of a first validation and of a
//! refusal. Also checks a limit on the memory that a cached token takes.
//!
//! These tests are a separate binary, because they replace the global allocator. The new allocator
//! counts the allocations of each thread separately. The tests use the minimum of several runs,
//! because some insertions into the cache also run the cache's maintenance, which allocates.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing helper fails the test"
)]

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use http::{Request, Response};
use tower::{Layer as _, Service};
use tower_logto::{AuthLayer, Validator};

use crate::support::{
    base64url, base64url_decode,
    offline::{
        self, EmptyService, ISSUED, es384_token, foreign_jwks, foreign_token, jwks, request,
        rs256_token,
    },
};

#[test]
fn cache_hit_allocates_nothing() {
    let validator = validator(jwks(), 10_000);
    for token in [es384_token(), rs256_token()] {
        validator.try_validate(&token).unwrap().unwrap();
        let hit = min_allocations(|| validator.try_validate(&token).unwrap().unwrap());
        assert_eq!(hit, 0);
    }
}

#[test]
fn cache_hit_in_the_layer_allocates_only_the_extension() {
    let layer = AuthLayer::new(validator(jwks(), 10_000));
    let hit = min_allocations_of_calls(&mut layer.layer(EmptyService), Some(&es384_token()), 200);
    let extension = min_allocations(|| http::Extensions::new().insert(Arc::new(())));
    // `extension` includes the allocation of a new `Arc`. The layer inserts an `Arc` that already
    // exists, so `hit` does not include this allocation.
    assert_eq!(hit, extension - 1);
}

#[test]
fn first_validation_allocates_at_most_eight_times() {
    let validator = validator(jwks(), 0);
    for token in [es384_token(), rs256_token()] {
        let first = min_allocations(|| validator.try_validate(&token).unwrap().unwrap());
        assert!(first <= 8, "{first}");
    }
}

#[test]
fn refusal_does_not_exceed_its_allocation_limit() {
    // The response extension with the error needs three allocations, and the header map with the
    // challenge needs two. With the feature `metrics`, the label of the counter needs one more.
    let labels = usize::from(cfg!(feature = "metrics"));
    for (name, jwks, token, most) in [
        ("missing", jwks(), None, 5),
        ("malformed", jwks(), Some("not-a-jwt".to_owned()), 16),
        ("unknown kid", foreign_jwks(), Some(es384_token()), 20),
        ("foreign audience", jwks(), Some(foreign_token()), 20),
    ] {
        let mut service = AuthLayer::new(validator(jwks, 10_000)).layer(EmptyService);
        let refusal = min_allocations_of_calls(&mut service, token.as_deref(), 401);
        assert!(refusal <= most + labels, "{name}: {refusal}");
    }
}

#[test]
fn cached_token_takes_at_most_700_bytes() {
    const TOKENS: usize = 10_000;
    let signer = Signer::new();
    let validator = offline::validator(signer.jwks(), ISSUED, TOKENS);
    let before = live_bytes();
    for number in 0..TOKENS {
        validator.try_validate(&signer.token(number)).unwrap().unwrap();
    }
    let each = (live_bytes() - before) / TOKENS as isize;
    println!("{each} bytes per cached token");
    // With the feature `revocation`, a cached token also has a pointer to the data that is compared
    // with the revocation rules. In this test, the pointer is null. The payload alone has 300
    // bytes, so a smaller result would mean that the measurement is broken.
    let most = if cfg!(feature = "revocation") { 708 } else { 700 };
    assert!((300..=most).contains(&each), "{each}");
}

fn min_allocations_of_calls<S>(service: &mut S, token: Option<&str>, status: u16) -> usize
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    let counts = (0..RUNS).map(|_| {
        let request = request(token);
        let before = allocations();
        let mut future = std::pin::pin!(service.call(request));
        let context = &mut Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(Ok(response)) = future.as_mut().poll(context) else { panic!("pending") };
        let count = allocations() - before;
        assert_eq!(response.status(), status);
        count
    });
    counts.min().unwrap()
}

fn min_allocations<T>(mut run: impl FnMut() -> T) -> usize {
    let counts = (0..RUNS).map(|_| {
        let before = allocations();
        drop(run());
        allocations() - before
    });
    counts.min().unwrap()
}

fn validator(jwks: String, cache_capacity: usize) -> Validator {
    offline::validator(jwks, ISSUED, cache_capacity)
}

/// Signs tokens that have the payload of a captured token, each with a unique `jti`.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwks(&self) -> String {
        let point = self.0.public_key().as_ref();
        let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
        let key = format!(r#"{{"kty":"EC","crv":"P-256","kid":"{KID}","x":"{x}","y":"{y}"}}"#);
        format!(r#"{{"keys":[{key}]}}"#)
    }

    fn token(&self, number: usize) -> String {
        let captured = es384_token();
        let payload = base64url_decode(captured.split('.').nth(1).unwrap());
        let payload = String::from_utf8(payload).unwrap();
        let payload = payload.replace("p3R7j-dQic9El6YXvmmd0", &format!("{number:021}"));
        let header = format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"{KID}"}}"#);
        let (header, payload) = (base64url(header), base64url(payload));
        let signed = format!("{header}.{payload}");
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", base64url(signature))
    }
}

const KID: &str = "ZuydfINXJZloSx7ICtyIE5jVpEQ6T_ESHpkokY9DBuk";

/// The system allocator, with counters.
struct CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
}

fn allocations() -> usize {
    ALLOCATIONS.get()
}

fn live_bytes() -> isize {
    LIVE_BYTES.get()
}

fn count(allocations: usize, bytes: isize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
    LIVE_BYTES.set(LIVE_BYTES.get() + bytes);
}

#[allow(unsafe_code, reason = "GlobalAlloc is an unsafe trait; every call is passed on unchanged")]
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size().cast_signed());
        // SAFETY: the caller fulfils the contract of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -layout.size().cast_signed());
        // SAFETY: see above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size.cast_signed() - layout.size().cast_signed());
        // SAFETY: see above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

const RUNS: usize = 64;
