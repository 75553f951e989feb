//! The metrics functions for builds with the feature `metrics`. The guide documents the names of
//! the metrics.

use std::{sync::OnceLock, time::Duration};

use metrics::{
    Counter, Gauge, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

/// The metrics of the request path.
///
/// If a handle is created before the program installs a recorder, the handle records nothing.
/// Programs often build the validator before they install the recorder, so the handles are created
/// only when the first token is accepted.
pub(crate) struct TokenMetrics(OnceLock<Handles>);

struct Handles {
    from_cache: Counter,
    checked: Counter,
    cached_tokens: Gauge,
}

impl TokenMetrics {
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    pub(crate) fn cache_hit(&self) {
        self.handles().from_cache.increment(1);
    }

    #[allow(clippy::cast_precision_loss, reason = "gauges of the `metrics` crate take only f64")]
    pub(crate) fn accepted(&self, cached_tokens: impl Fn() -> u64 + Copy) {
        let handles = self.handles();
        handles.checked.increment(1);
        handles.cached_tokens.set(cached_tokens() as f64);
    }

    fn handles(&self) -> &Handles {
        self.0.get_or_init(|| {
            describe();
            Handles {
                from_cache: counter!(ACCEPTED, "cached" => "true"),
                checked: counter!(ACCEPTED, "cached" => "false"),
                cached_tokens: gauge!(CACHED),
            }
        })
    }
}

pub(crate) fn refused(reason: &'static str) {
    counter!(REFUSED, "reason" => reason).increment(1);
}

pub(crate) fn signature_checked(is_valid: bool, took: Duration) {
    let outcome = if is_valid { "valid" } else { "invalid" };
    histogram!(SIGNATURE_CHECK, "outcome" => outcome).record(took.as_secs_f64());
}

pub(crate) fn flooded(is_flooded: bool) {
    gauge!(FLOODED).set(f64::from(u8::from(is_flooded)));
}

#[allow(clippy::cast_precision_loss, reason = "gauges of the `metrics` crate take only f64")]
pub(crate) fn queued_checks(count: usize) {
    gauge!(QUEUED).set(count as f64);
}

pub(crate) fn jwks_fetched(issuer: &str, unix_time: Duration) {
    counter!(JWKS_FETCHES, "issuer" => issuer.to_owned(), "outcome" => "success").increment(1);
    gauge!(JWKS_FETCHED_AT, "issuer" => issuer.to_owned()).set(unix_time.as_secs_f64());
}

pub(crate) fn jwks_fetch_failed(issuer: &str) {
    counter!(JWKS_FETCHES, "issuer" => issuer.to_owned(), "outcome" => "failure").increment(1);
}

#[cfg(feature = "client")]
pub(crate) fn token_requested(outcome: &'static str) {
    counter!(TOKEN_REQUESTS, "outcome" => outcome).increment(1);
}

fn describe() {
    describe_counter!(ACCEPTED, Unit::Count, "Accepted tokens");
    describe_counter!(REFUSED, Unit::Count, "Refused requests by reason");
    describe_gauge!(CACHED, Unit::Count, "Cached tokens");
    describe_histogram!(SIGNATURE_CHECK, Unit::Seconds, "Duration of a signature check");
    describe_gauge!(FLOODED, Unit::Count, "1 if signature checks are queued, otherwise 0");
    describe_gauge!(QUEUED, Unit::Count, "Signature checks in the queue");
    describe_counter!(JWKS_FETCHES, Unit::Count, "JWKS fetches by outcome");
    describe_gauge!(JWKS_FETCHED_AT, Unit::Seconds, "Unix time of the last successful JWKS fetch");
    describe_counter!(TOKEN_REQUESTS, Unit::Count, "Requests to the token endpoint by outcome");
}

const ACCEPTED: &str = "tower_logto_accepted_tokens_total";
const REFUSED: &str = "tower_logto_refused_requests_total";
const CACHED: &str = "tower_logto_cached_tokens";
const SIGNATURE_CHECK: &str = "tower_logto_signature_check_seconds";
const FLOODED: &str = "tower_logto_flooded";
const QUEUED: &str = "tower_logto_queued_signature_checks";
const JWKS_FETCHES: &str = "tower_logto_jwks_fetches_total";
const JWKS_FETCHED_AT: &str = "tower_logto_jwks_fetched_timestamp_seconds";
const TOKEN_REQUESTS: &str = "tower_logto_token_requests_total";
