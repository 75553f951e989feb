//! Measures the cost of revocation rules on a cache hit. The program compares a validator without a
//! set of rules to validators with sets of several sizes. Some of these sets change during the
//! measurement.
//!
//! `cargo run --release --manifest-path benches/compare/Cargo.toml --features revocation --bin
//! revocation [-- ROUNDS]`
//!
//! The program prints a table, and then one line `ratio NAME VALUE` for each set. The ratio is the
//! time of a cache hit with the set, divided by the time of a cache hit without a set.

#[allow(dead_code, reason = "shared with the comparison")]
mod measure;
#[allow(dead_code, reason = "shared with the comparison")]
mod subjects;
#[allow(dead_code, reason = "shared with the comparison")]
mod tokens;

use std::{
    thread,
    time::{Duration, SystemTime},
};

use http::Request;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use tower_logto::{
    Issuer, TrustedIssuer, Validator,
    revocation::{Revocations, Rule},
};

use crate::{
    measure::{Case, CountingAllocator, measure, timed},
    tokens::{AUDIENCE, Content, ISSUER, Kind, Signer},
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() {
    let rounds = std::env::args().nth(1).map_or(200, |rounds| rounds.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let signer = Signer::new();
    let token = signer.token(Kind::Es384, Content::default());
    let case = |name: &str, revocations: Option<&Revocations>| {
        hit(&runtime, &signer.jwks(), &token, name, revocations)
    };
    let sets = [(0, false), (1_000, false), (100_000, false), (1_000, true), (100_000, true)];
    let sets = sets.map(|(rules, is_changing)| {
        let news = if is_changing { ", 50 changes per second" } else { "" };
        (format!("{rules} rules{news}"), rules, is_changing)
    });
    let mut cases = vec![case("no set", None)];
    for (name, rules, is_changing) in &sets {
        let revocations = set(&runtime, *rules);
        if *is_changing {
            change(revocations.clone());
        }
        cases.push(case(name, Some(&revocations)));
    }
    let costs = measure(cases, rounds);
    println!("{:<36}{:>10}{:>10}{:>14}", "cache hit", "least ns", "median", "allocations");
    for cost in &costs {
        println!(
            "{:<36}{:>10.0}{:>10.0}{:>14.1}",
            cost.name, cost.least, cost.median, cost.allocations
        );
    }
    for cost in &costs[1..] {
        println!("ratio {} {:.4}", cost.name.replace(' ', "_"), cost.median / costs[0].median);
    }
}

/// Returns a set with this number of cut-offs for clients. None of the cut-offs is for the client
/// of the benchmark's token, so this token stays valid.
fn set(runtime: &Runtime, rules: usize) -> Revocations {
    let issuer = Issuer::new(ISSUER).unwrap();
    let revocations = Revocations::new([&issuer]).unwrap();
    let now = SystemTime::now();
    let rules = (0..rules).map(|n| Rule::revoke_client(format!("client-{n}"), now));
    runtime.block_on(revocations.store(rules)).unwrap();
    revocations
}

/// Stores one rule every 20 ms, until the process ends.
fn change(revocations: Revocations) {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for n in 0_u64.. {
            let client = format!("changing-{}", n % 1_000);
            runtime.block_on(revocations.revoke_client(client)).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
    });
}

fn hit<'a>(
    runtime: &'a Runtime,
    jwks: &str,
    token: &str,
    name: &str,
    revocations: Option<&Revocations>,
) -> Case<'a> {
    let issuer = Issuer::new(ISSUER).unwrap();
    let trusted = TrustedIssuer::new(&issuer).audience(AUDIENCE).static_jwks(jwks);
    let builder = Validator::builder().trust(trusted);
    let builder = match revocations {
        Some(revocations) => builder.revocations(revocations),
        None => builder,
    };
    let router = subjects::ours(builder.build().unwrap());
    let authorization = format!("Bearer {token}");
    let request = move || {
        let request = Request::builder().uri("/").header("authorization", &authorization);
        request.body(axum::body::Body::empty()).unwrap()
    };
    let send = move |request| runtime.block_on(router.clone().oneshot(request)).unwrap();
    assert_eq!(send(request()).status(), 200, "{name}");
    let sample = move |runs| timed(runs, |_| request(), &send);
    Case { name: name.into(), most: 2048, sample: Box::new(sample) }
}
