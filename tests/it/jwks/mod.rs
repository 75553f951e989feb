//! Tests of JWKS fetches over HTTP. The tests check when fetches start, what happens to requests
//! during a fetch, and how a validator handles malicious JWKS endpoints.

mod cold_start;
mod content;
mod malicious;
mod outage;
mod rotation;
mod runtimes;
mod transport;
mod unknown_keys;
