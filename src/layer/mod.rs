//! The tower layers of the resource server.

mod auth;
pub(crate) mod future;
mod require;

pub use auth::{AuthLayer, AuthService};
pub use future::ResponseFuture;
pub use require::{Guarded, RequireOrganization, RequireScopes};
