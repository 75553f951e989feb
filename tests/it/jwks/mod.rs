//! The JWKS over HTTP: when it is fetched, what happens to requests meanwhile, and what a
//! malicious JWKS endpoint can do.

mod cold_start;
mod content;
mod malicious;
mod outage;
mod rotation;
mod runtimes;
mod transport;
mod unknown_keys;
