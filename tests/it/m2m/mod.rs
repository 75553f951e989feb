//! Tests of machine-to-machine tokens, of the layer for HTTP clients, and of the client for the
//! Management API.

mod bearer_layer;
mod cache;
mod example;
mod hints;
mod leaks;
mod management;
mod outage;
mod requests;
mod responses;
mod send;
mod steady;
mod support;
