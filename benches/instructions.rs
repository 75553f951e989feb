//! One kind of request, so many times, for a tool that counts instructions: `.ci/instructions`.
//!
//! `instructions NAME COUNT`; without a name it lists them. No peer, no router: the layer around a
//! service that answers at once.

#![allow(missing_docs, clippy::unwrap_used, reason = "a program of its own")]

#[path = "../tests/stage/mod.rs"]
mod stage;

use std::{
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

use tower::{Layer as _, Service as _};
use tower_logto::AuthLayer;

use crate::stage::{ES384, FOREIGN, Handler, ISSUED, JWKS, OTHER_JWKS, RS256, fixture};

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
        kind("hit", JWKS, 0, Some(fixture(ES384)), 200),
        kind("hit_rs256", JWKS, 0, Some(fixture(RS256)), 200),
        kind("missing", JWKS, 0, None, 401),
        kind("malformed", JWKS, 0, Some("not-a-jwt".into()), 401),
        kind("unknown_kid", OTHER_JWKS, 0, Some(fixture(ES384)), 401),
        kind("expired", JWKS, 9999, Some(fixture(ES384)), 401),
        kind("foreign_audience", JWKS, 0, Some(fixture(FOREIGN)), 401),
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
    let validator = stage::validator(fixture(kind.jwks), ISSUED + kind.after, 10_000);
    let mut service = AuthLayer::new(validator).layer(Handler);
    for _ in 0..count {
        let request = stage::request(kind.token.as_deref());
        let mut future = pin!(service.call(black_box(request)));
        let context = &mut Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(response)) = future.as_mut().poll(context) else { return };
        assert_eq!(response.status(), kind.status);
    }
}
