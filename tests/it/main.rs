//! One binary for the integration tests: a module per concern.

mod captures;
mod support;
mod vectors;
