//! Allocations and memory: what a hit, a first sight, a refusal and a remembered token may cost.
//!
//! A binary of its own, for its allocator. Counts hold for the calling thread only, and are the
//! least of several runs: the cache's maintenance comes with one insertion now and then.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper of a test fails it"
)]

mod stage;

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
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, Response};
use tower::{Layer as _, Service};
use tower_logto::{AuthLayer, Validator};

use crate::stage::{ES384, FOREIGN, Handler, ISSUED, JWKS, OTHER_JWKS, RS256, fixture, request};

#[test]
fn a_hit_allocates_nothing() {
    let validator = validator(JWKS, 10_000);
    for token in [fixture(ES384), fixture(RS256)] {
        validator.try_validate(&token).unwrap().unwrap();
        let hit = fewest(|| validator.try_validate(&token).unwrap().unwrap());
        assert_eq!(hit, 0);
    }
}

#[test]
fn a_hit_in_the_layer_allocates_what_an_extension_does() {
    let layer = AuthLayer::new(validator(JWKS, 10_000));
    let hit = fewest_of_calls(&mut layer.layer(Handler), Some(&fixture(ES384)), 200);
    let extension = fewest(|| http::Extensions::new().insert(Arc::new(())));
    // The Arc itself, which the layer holds already.
    assert_eq!(hit, extension - 1);
}

#[test]
fn first_sight_allocates_eight_times_at_most() {
    let validator = validator(JWKS, 0);
    for token in [fixture(ES384), fixture(RS256)] {
        let first_sight = fewest(|| validator.try_validate(&token).unwrap().unwrap());
        assert!(first_sight <= 8, "{first_sight}");
    }
}

#[test]
fn refusals_allocate_little() {
    // The extension takes three, the header map that holds the challenge two.
    for (name, jwks, token, most) in [
        ("missing", JWKS, None, 5),
        ("malformed", JWKS, Some("not-a-jwt".to_owned()), 16),
        ("unknown kid", OTHER_JWKS, Some(fixture(ES384)), 20),
        ("foreign audience", JWKS, Some(fixture(FOREIGN)), 20),
    ] {
        let mut service = AuthLayer::new(validator(jwks, 10_000)).layer(Handler);
        let refusal = fewest_of_calls(&mut service, token.as_deref(), 401);
        assert!(refusal <= most, "{name}: {refusal}");
    }
}

#[test]
fn a_remembered_token_takes_700_bytes_at_most() {
    const TOKENS: usize = 10_000;
    let signer = Signer::new();
    let validator = stage::validator(signer.jwks(), ISSUED, TOKENS);
    let before = live_bytes();
    for number in 0..TOKENS {
        validator.try_validate(&signer.token(number)).unwrap().unwrap();
    }
    let each = (live_bytes() - before) / TOKENS as isize;
    // Less than the payload itself would mean that nothing was measured.
    println!("{each} bytes per remembered token");
    assert!((300..=700).contains(&each), "{each}");
}

fn fewest_of_calls<S>(service: &mut S, token: Option<&str>, status: u16) -> usize
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

fn fewest<T>(mut run: impl FnMut() -> T) -> usize {
    let counts = (0..RUNS).map(|_| {
        let before = allocations();
        drop(run());
        allocations() - before
    });
    counts.min().unwrap()
}

fn validator(jwks: &str, verified: usize) -> Validator {
    stage::validator(fixture(jwks), ISSUED, verified)
}

/// Signs tokens with the payload of a captured one, and a `jti` of their own.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwks(&self) -> String {
        let point = self.0.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        let key = format!(r#"{{"kty":"EC","crv":"P-256","kid":"{KID}","x":"{x}","y":"{y}"}}"#);
        format!(r#"{{"keys":[{key}]}}"#)
    }

    fn token(&self, number: usize) -> String {
        let captured = fixture(ES384);
        let payload = URL_SAFE_NO_PAD.decode(captured.split('.').nth(1).unwrap()).unwrap();
        let payload = String::from_utf8(payload).unwrap();
        let payload = payload.replace("p3R7j-dQic9El6YXvmmd0", &format!("{number:021}"));
        let header = format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"{KID}"}}"#);
        let (header, payload) = (URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signed = format!("{header}.{payload}");
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

const KID: &str = "ZuydfINXJZloSx7ICtyIE5jVpEQ6T_ESHpkokY9DBuk";

/// The system's allocator, which counts.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

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

#[allow(unsafe_code, reason = "GlobalAlloc is an unsafe trait; every call is passed on as it came")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size().cast_signed());
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size.cast_signed() - layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

const RUNS: usize = 64;
