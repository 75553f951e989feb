//! Rules that refuse tokens before they expire.

mod lost;
#[cfg(feature = "redis")]
mod redis;
mod rules;
mod webhooks;
