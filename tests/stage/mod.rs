//! What allocations, instructions and times are counted on: tokens captured from a real Logto, a
//! clock that stands still, a service that answers at once.

#![allow(dead_code, clippy::unwrap_used, reason = "each binary takes its part, and fails loudly")]

use std::{
    convert::Infallible,
    future::{Ready, ready},
    path::Path,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, header::AUTHORIZATION};
use tower::Service;
use tower_logto::{Clock, Issuer, TrustedIssuer, Validator};

pub(crate) const ES384: &str = "tokens/api-read-write.jwt";
pub(crate) const RS256: &str = "tokens/rs256-api-read-write.jwt";
/// For another API.
pub(crate) const FOREIGN: &str = "tokens/other-resource.jwt";
pub(crate) const JWKS: &str = "jwks/all.json";
/// Keys of another issuer.
pub(crate) const OTHER_JWKS: &str = "jwks/admin-tenant.json";
/// When the tokens were good.
pub(crate) const ISSUED: u64 = 1_795_343_090;

pub(crate) fn fixture(path: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/logto-captures");
    std::fs::read_to_string(folder.join(path)).unwrap().trim().to_owned()
}

/// At this time, with room for so many verified tokens.
pub(crate) fn validator(jwks: String, at: u64, verified: usize) -> Validator {
    let issuer = Issuer::new("http://localhost:3001/oidc").unwrap();
    let trusted = TrustedIssuer::new(&issuer).audience("https://shopping.api").static_jwks(jwks);
    let builder = Validator::builder().trust(trusted).clock(Stopped(at));
    builder.token_cache_capacity(verified).build().unwrap()
}

#[derive(Debug)]
struct Stopped(u64);

impl Clock for Stopped {
    fn unix_time(&self) -> Duration {
        Duration::from_secs(self.0)
    }
    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0)
    }
}

pub(crate) fn request<B: Default>(token: Option<&str>) -> Request<B> {
    let mut request = Request::new(B::default());
    if let Some(token) = token {
        request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    }
    request
}

/// The service behind the layer; it allocates nothing.
#[derive(Clone)]
pub(crate) struct Handler;

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
