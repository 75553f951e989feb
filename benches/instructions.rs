//! Sends the same request to the layer many times. `.ci/instructions` runs this program in
//! valgrind, which counts the instructions.
//!
//! `instructions NAME COUNT` sends COUNT requests of the kind NAME. Without arguments, the program
//! prints the names of all kinds. The program calls the layer directly, without a router. The inner
//! service does nothing.

#![allow(missing_docs, clippy::unwrap_used, reason = "a program without a library")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

use tower::{Layer as _, Service as _};
use tower_logto::AuthLayer;

use crate::support::offline::{
    self, EmptyService, ISSUED, es384_token, foreign_jwks, foreign_token, jwks, rs256_token,
};

struct Kind {
    name: &'static str,
    jwks: String,
    /// The time of the request, in seconds after `ISSUED`.
    age: u64,
    token: Option<String>,
    /// The expected status of the response.
    status: u16,
}

fn kinds() -> Vec<Kind> {
    let kind = |name, jwks, age, token, status| Kind { name, jwks, age, token, status };
    vec![
        kind("hit", jwks(), 0, Some(es384_token()), 200),
        kind("hit_rs256", jwks(), 0, Some(rs256_token()), 200),
        kind("missing", jwks(), 0, None, 401),
        kind("malformed", jwks(), 0, Some("not-a-jwt".into()), 401),
        kind("unknown_kid", foreign_jwks(), 0, Some(es384_token()), 401),
        kind("expired", jwks(), 9999, Some(es384_token()), 401),
        kind("foreign_audience", jwks(), 0, Some(foreign_token()), 401),
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
    let validator = offline::validator(kind.jwks, ISSUED + kind.age, 10_000);
    let mut service = AuthLayer::new(validator).layer(EmptyService);
    for _ in 0..count {
        let request = offline::request(kind.token.as_deref());
        let mut future = pin!(service.call(black_box(request)));
        let context = &mut Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(response)) = future.as_mut().poll(context) else { return };
        assert_eq!(response.status(), kind.status);
    }
}
