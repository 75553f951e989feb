//! Machine-to-machine tokens, the outgoing layer and the Management API.

mod answers;
mod bearer_layer;
mod cache;
mod example;
mod leaks;
mod management;
mod outage;
mod requests;
mod support;
