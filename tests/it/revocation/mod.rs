//! Tests of revocation rules, which refuse tokens before the tokens expire.

mod lost;
#[cfg(feature = "redis")]
mod redis;
mod rules;
mod webhooks;
