//! Helpers that validate without I/O, for tests and benchmarks that measure allocations,
//! instructions or time. They use captured tokens, static keys, a stopped clock, and a service that
//! allocates nothing.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, header::AUTHORIZATION};
use tower::Service;
use tower_logto::{Clock, Issuer, TrustedIssuer, Validator};

use super::{SHOPPING_API, fixtures};

/// A time, in Unix seconds, at which the tokens of [`es384_token`] and [`rs256_token`] are valid.
pub(crate) const ISSUED: u64 = 1_795_343_090;
pub(crate) const CAPTURED_ISSUER: &str = "http://localhost:3001/oidc";

pub(crate) fn es384_token() -> String {
    fixtures::captured_token("api-read-write")
}

pub(crate) fn rs256_token() -> String {
    fixtures::captured_token("rs256-api-read-write")
}

/// Returns a token whose audience is another API.
pub(crate) fn foreign_token() -> String {
    fixtures::captured_token("other-resource")
}

/// Returns the JWKS with the keys of all captured tokens.
pub(crate) fn jwks() -> String {
    fixtures::captured_jwks("all")
}

/// Returns the JWKS of another issuer.
pub(crate) fn foreign_jwks() -> String {
    fixtures::captured_jwks("admin-tenant")
}

/// Returns a validator that trusts the issuer of the captured tokens. Its clock is stopped at
/// `unix_time`.
pub(crate) fn validator(jwks: String, unix_time: u64, cache_capacity: usize) -> Validator {
    let issuer = Issuer::new(CAPTURED_ISSUER).unwrap();
    let trusted = TrustedIssuer::new(&issuer).audience(SHOPPING_API).static_jwks(jwks);
    let builder = Validator::builder().trust(trusted).clock(StoppedClock(unix_time));
    builder.token_cache_capacity(cache_capacity).build().unwrap()
}

#[derive(Debug)]
struct StoppedClock(u64);

impl Clock for StoppedClock {
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

/// An inner service that allocates nothing.
#[derive(Clone)]
pub(crate) struct EmptyService;

impl Service<Request<()>> for EmptyService {
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
