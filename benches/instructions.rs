//! One kind of request, so many times, for a tool that counts instructions: `.ci/instructions`.
//!
//! `instructions NAME COUNT`; without a name it lists them. No peer, no router: the layer around a
//! service that answers at once.

#![allow(missing_docs, clippy::unwrap_used, reason = "a program of its own")]

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    path::Path,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{Request, Response, header::AUTHORIZATION};
use tower::{Layer as _, Service};
use tower_logto::{AuthLayer, Clock, Issuer, TrustedIssuer, Validator};

const ES384: &str = "tokens/api-read-write.jwt";
const RS256: &str = "tokens/rs256-api-read-write.jwt";
const FOREIGN: &str = "tokens/other-resource.jwt";
const ALL: &str = "jwks/all.json";
const OTHERS: &str = "jwks/admin-tenant.json";
/// When the captured tokens were good.
const ISSUED: u64 = 1_795_343_090;

struct Kind {
    name: &'static str,
    jwks: &'static str,
    /// Seconds after `ISSUED`.
    after: u64,
    token: Option<String>,
    status: u16,
}

fn kinds() -> Vec<Kind> {
    let kind = |name, jwks, after, token, status| Kind { name, jwks, after, token, status };
    vec![
        kind("hit", ALL, 0, Some(fixture(ES384)), 200),
        kind("hit_rs256", ALL, 0, Some(fixture(RS256)), 200),
        kind("missing", ALL, 0, None, 401),
        kind("malformed", ALL, 0, Some("not-a-jwt".into()), 401),
        kind("unknown_kid", OTHERS, 0, Some(fixture(ES384)), 401),
        kind("expired", ALL, 9999, Some(fixture(ES384)), 401),
        kind("foreign_audience", ALL, 0, Some(fixture(FOREIGN)), 401),
    ]
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mut kinds = kinds();
    let Some(name) = arguments.next() else {
        kinds.iter().for_each(|kind| println!("{}", kind.name));
        return;
    };
    let count = arguments.next().map_or(1, |count| count.parse().unwrap());
    kinds.retain(|kind| kind.name == name);
    let kind = kinds.pop().unwrap();
    let mut service = AuthLayer::new(validator(&kind)).layer(Handler);
    for _ in 0..count {
        let mut request = Request::new(());
        if let Some(token) = &kind.token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let mut future = pin!(service.call(black_box(request)));
        let context = &mut Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(response)) = future.as_mut().poll(context) else { return };
        assert_eq!(response.status(), kind.status);
    }
}

fn validator(kind: &Kind) -> Validator {
    let issuer = Issuer::new("http://localhost:3001/oidc").unwrap();
    let trusted = TrustedIssuer::new(&issuer)
        .audience("https://shopping.api")
        .static_jwks(fixture(kind.jwks));
    Validator::builder().issuer(trusted).clock(Stopped(ISSUED + kind.after)).build().unwrap()
}

fn fixture(path: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/logto-captures");
    std::fs::read_to_string(folder.join(path)).unwrap().trim().to_owned()
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
