//! Machine-to-machine: access tokens for services that call others.

mod bearer_layer;
mod issued_token;
mod management;
mod management_error;
mod pages;
mod token_cache;
mod token_client;
mod token_endpoint;
mod token_error;
mod token_request;

pub use bearer_layer::{BearerLayer, BearerService};
pub use issued_token::IssuedToken;
pub use management::ManagementApi;
pub use management_error::{ManagementError, ManagementErrorKind};
pub use pages::Pages;
pub use token_client::{TokenClient, TokenClientBuilder};
pub use token_endpoint::ClientAuthentication;
pub use token_error::{TokenRequestError, TokenRequestErrorKind};
pub use token_request::TokenRequest;
