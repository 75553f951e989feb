//! The tower layers of a resource server, their services and their response future.

mod auth;
mod future;
mod require;

pub use auth::{AuthLayer, AuthService};
pub use future::ResponseFuture;
pub use require::{Require, RequireService};
