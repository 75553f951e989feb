//! Machine-to-machine: access tokens for services that call others.

mod issued_token;
mod token_cache;
mod token_client;
mod token_endpoint;
mod token_error;
mod token_request;

pub use issued_token::IssuedToken;
pub use token_client::{TokenClient, TokenClientBuilder};
pub use token_endpoint::ClientAuthentication;
pub use token_error::{TokenRequestError, TokenRequestErrorKind};
pub use token_request::TokenRequest;
