//! Rules that refuse tokens before they expire.

mod rules;
mod webhooks;
