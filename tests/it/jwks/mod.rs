//! Tests of JWKS fetches over HTTP: the times of the fetches, requests during a fetch, and
//! malicious JWKS endpoints.

mod cold_start;
mod content;
mod malicious;
mod outage;
mod rotation;
mod runtimes;
mod transport;
mod unknown_keys;
