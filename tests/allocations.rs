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

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    convert::Infallible,
    future::{Ready, ready},
    path::Path,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, Response, header::AUTHORIZATION};
use tower::{Layer as _, Service};
use tower_logto::{AuthLayer, Clock, Issuer, TrustedIssuer, Validator};

const ES384: &str = "tokens/api-read-write.jwt";
const RS256: &str = "tokens/rs256-api-read-write.jwt";
const FOREIGN: &str = "tokens/other-resource.jwt";
/// When the captured tokens were good.
const ISSUED: u64 = 1_795_343_090;

#[test]
fn a_hit_allocates_nothing() {
    let validator = validator("jwks/all.json", 10_000);
    for token in [fixture(ES384), fixture(RS256)] {
        validator.try_validate(&token).unwrap().unwrap();
        let hit = fewest(|| validator.try_validate(&token).unwrap().unwrap());
        assert_eq!(hit, 0);
    }
}

#[test]
fn a_hit_in_the_layer_allocates_what_an_extension_does() {
    let layer = AuthLayer::new(validator("jwks/all.json", 10_000));
    let authorization = format!("Bearer {}", fixture(ES384));
    let hit = fewest_of_calls(&mut layer.layer(Handler), Some(&authorization), 200);
    let extension = fewest(|| http::Extensions::new().insert(Arc::new(())));
    // The Arc itself, which the layer holds already.
    assert_eq!(hit, extension - 1);
}

#[test]
fn first_sight_allocates_eight_times_at_most() {
    let validator = validator("jwks/all.json", 0);
    for token in [fixture(ES384), fixture(RS256)] {
        let first_sight = fewest(|| validator.try_validate(&token).unwrap().unwrap());
        assert!(first_sight <= 8, "{first_sight}");
    }
}

#[test]
fn refusals_allocate_little() {
    let bearer = |token: &str| format!("Bearer {token}");
    let good = "jwks/all.json";
    // The extension takes three, the header map that holds the challenge two.
    for (name, jwks, authorization, most) in [
        ("missing", good, None, 5),
        ("malformed", good, Some(bearer("not-a-jwt")), 16),
        ("unknown kid", "jwks/admin-tenant.json", Some(bearer(&fixture(ES384))), 20),
        ("foreign audience", good, Some(bearer(&fixture(FOREIGN))), 20),
    ] {
        let mut service = AuthLayer::new(validator(jwks, 10_000)).layer(Handler);
        let refusal = fewest_of_calls(&mut service, authorization.as_deref(), 401);
        assert!(refusal <= most, "{name}: {refusal}");
    }
}

#[test]
fn a_remembered_token_takes_700_bytes_at_most() {
    const TOKENS: usize = 10_000;
    let signer = Signer::new();
    let issuer = Issuer::new("http://localhost:3001/oidc").unwrap();
    let trusted =
        TrustedIssuer::new(&issuer).audience("https://shopping.api").static_jwks(signer.jwks());
    let builder = Validator::builder().issuer(trusted).clock(Stopped);
    let validator = builder.verified_tokens(TOKENS).build().unwrap();
    let before = live_bytes();
    for number in 0..TOKENS {
        validator.try_validate(&signer.token(number)).unwrap().unwrap();
    }
    let each = (live_bytes() - before) / TOKENS as isize;
    // Less than the payload itself would mean that nothing was measured.
    println!("{each} bytes per remembered token");
    assert!((300..=700).contains(&each), "{each}");
}

/// The service behind the layer; it allocates nothing.
#[derive(Clone)]
struct Handler;

impl Service<Request<()>> for Handler {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(())))
    }
}

fn fewest_of_calls<S>(service: &mut S, authorization: Option<&str>, status: u16) -> usize
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    let counts = (0..RUNS).map(|_| {
        let mut request = Request::new(());
        if let Some(value) = authorization {
            request.headers_mut().insert(AUTHORIZATION, value.parse().unwrap());
        }
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
    let issuer = Issuer::new("http://localhost:3001/oidc").unwrap();
    let trusted =
        TrustedIssuer::new(&issuer).audience("https://shopping.api").static_jwks(fixture(jwks));
    let builder = Validator::builder().issuer(trusted).clock(Stopped);
    builder.verified_tokens(verified).build().unwrap()
}

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn unix_time(&self) -> Duration {
        Duration::from_secs(ISSUED)
    }
    fn monotonic(&self) -> Duration {
        Duration::from_secs(ISSUED)
    }
}

fn fixture(path: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/logto-captures");
    std::fs::read_to_string(folder.join(path)).unwrap().trim().to_owned()
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
