//! Measures the cost of the feature `metrics` on a cache hit, with a recorder for Prometheus.
//!
//! `cargo run --release --manifest-path benches/compare/Cargo.toml --features metrics --bin metrics
//! [-- ROUNDS]`
//!
//! When a validator validates its first token, the validator gets its metric handles from the
//! recorder. The program measures two validators. One of them validates its first token before the
//! recorder is installed, so the handles of this validator do nothing.

#[allow(dead_code, reason = "shared with the comparison")]
mod measure;
#[allow(dead_code, reason = "shared with the comparison")]
mod subjects;
#[allow(dead_code, reason = "shared with the comparison")]
mod tokens;

use http::Request;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

use crate::{
    measure::{Case, CountingAllocator, measure, timed},
    tokens::{Content, Kind, Signer},
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() {
    let rounds = std::env::args().nth(1).map_or(200, |rounds| rounds.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let signer = Signer::new();
    let token = signer.token(Kind::Es384, Content::default());
    let without = hit(&runtime, &signer.jwks(), &token, "no recorder");
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).unwrap();
    let with = hit(&runtime, &signer.jwks(), &token, "Prometheus");
    let costs = measure(vec![without, with], rounds);
    for cost in &costs {
        println!("{:<16}{:>8.0} ns, median {:>8.0} ns", cost.name, cost.least, cost.median);
    }
    let rendered = handle.render();
    let counted = rendered.lines().find(|line| line.contains("cached=\"true\"")).unwrap();
    println!("{counted}");
    println!("ratio metrics_hit {:.4}", costs[1].median / costs[0].median);
}

fn hit<'a>(runtime: &'a Runtime, jwks: &str, token: &str, name: &str) -> Case<'a> {
    let router = subjects::ours(subjects::validator(jwks, 10_000));
    let authorization = format!("Bearer {token}");
    let request = move || {
        let request = Request::builder().uri("/").header("authorization", &authorization);
        request.body(axum::body::Body::empty()).unwrap()
    };
    let send = move |request| runtime.block_on(router.clone().oneshot(request)).unwrap();
    assert_eq!(send(request()).status(), 200, "{name}");
    assert_eq!(send(request()).status(), 200, "{name}");
    let sample = move |runs| timed(runs, |_| request(), &send);
    Case { name: name.into(), most: 2048, sample: Box::new(sample) }
}
