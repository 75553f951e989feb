//! Machine-to-machine tokens, the layer for HTTP clients, and the Management API.

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
