//! The metrics functions for builds without the feature `metrics`. These functions do nothing.

use std::time::Duration;

pub(crate) struct TokenMetrics;

impl TokenMetrics {
    pub(crate) const fn new() -> Self {
        Self
    }

    pub(crate) const fn cache_hit(&self) {}

    pub(crate) const fn accepted(&self, _cached_tokens: impl Fn() -> u64 + Copy) {}
}

pub(crate) const fn refused(_reason: &'static str) {}

pub(crate) const fn signature_checked(_is_valid: bool, _took: Duration) {}

pub(crate) const fn flooded(_is_flooded: bool) {}

pub(crate) const fn queued_checks(_count: usize) {}

pub(crate) const fn jwks_fetched(_issuer: &str, _unix_time: Duration) {}

pub(crate) const fn jwks_fetch_failed(_issuer: &str) {}

#[cfg(feature = "client")]
pub(crate) const fn token_requested(_outcome: &'static str) {}
