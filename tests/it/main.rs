//! One binary for the integration tests: a module per concern.

mod attacks;
mod captures;
mod cors;
mod example;
mod extract;
mod guards;
mod hostile;
mod hostile_keys;
mod keys_over_time;
mod logging;
mod readiness;
mod responses;
mod strangers;
mod support;
mod vectors;
