//! Rules that refuse tokens before they expire.

mod lost;
mod rules;
mod webhooks;
