//! Tests of the metrics that a recorder receives.

use std::collections::BTreeMap;

use axum::{Router, routing::get};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tower_logto::{AuthLayer, Require};

use crate::support::{HOUR, Harness, SECOND, Server};

/// Returns the values of all metrics, by name and labels. The value of a histogram is the number of
/// its entries.
fn values(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let metrics = snapshotter.snapshot().into_vec().into_iter();
    let metrics = metrics.map(|(key, _, _, value)| {
        let labels: Vec<_> =
            key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(values) => values.len() as f64,
        };
        (format!("{} {}", key.key().name(), labels.join(",")).trim().to_owned(), value)
    });
    metrics.collect()
}

#[tokio::test]
async fn metrics_count_requests_signature_checks_and_fetches() {
    let harness = Harness::start().await;
    // The validator is built before the recorder is installed. The metrics must also work in
    // programs that use this order.
    let validator = harness.validator();
    let router = Router::new()
        .route("/", get(async || ""))
        .route_layer(Require::global().scopes(["a"]))
        .route_layer(AuthLayer::new(validator));
    let server = Server::start(router).await;
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let good = harness.token().scopes(["a"]).build();
    for _ in 0..3 {
        server.get("/", &good).await;
    }
    server.get("/", &harness.token().scopes(["b"]).build()).await;
    server.get("/", &harness.token().expired().build()).await;
    server.get("/", &harness.token().bad_signature().build()).await;
    server.request("GET", "/").send().await.unwrap();
    let issuer = harness.logto.issuer();
    let found = values(&snapshotter);
    for (name, expected) in [
        ("tower_logto_accepted_tokens_total cached=false", 2.0),
        ("tower_logto_accepted_tokens_total cached=true", 2.0),
        ("tower_logto_refused_requests_total reason=insufficient_scope", 1.0),
        ("tower_logto_refused_requests_total reason=expired", 1.0),
        ("tower_logto_refused_requests_total reason=bad_signature", 1.0),
        ("tower_logto_refused_requests_total reason=missing_token", 1.0),
        ("tower_logto_signature_check_seconds outcome=valid", 2.0),
        ("tower_logto_signature_check_seconds outcome=invalid", 1.0),
        (&format!("tower_logto_jwks_fetches_total issuer={issuer},outcome=success"), 1.0),
    ] {
        assert_eq!(found.get(name), Some(&expected), "{name}: {found:?}");
    }
    let fetched_at = found[&format!("tower_logto_jwks_fetched_timestamp_seconds issuer={issuer}")];
    assert!(fetched_at > 1_000_000_000.0, "{fetched_at}");
    assert!(found.contains_key("tower_logto_cached_tokens"));

    harness.logto.go_down();
    harness.clock.advance(25 * HOUR);
    server.get("/", &harness.token().build()).await;
    let found = values(&snapshotter);
    let failures = format!("tower_logto_jwks_fetches_total issuer={issuer},outcome=failure");
    assert!(found[&failures] >= 1.0, "{found:?}");
    assert_eq!(found["tower_logto_refused_requests_total reason=keys_unavailable"], 1.0);
    harness.clock.advance(SECOND);
}
