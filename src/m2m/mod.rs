//! Machine-to-machine: access tokens for services that call other services.
//!
//! # Getting a token
//! A [`TokenClient`] represents one machine-to-machine application in Logto. A [`TokenRequest`]
//! names the API, the organization and the scopes that a token is for:
//!
//! ```no_run
//! use tower_logto::{m2m::{ClientSecret, TokenClient, TokenRequest}, Issuer};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let issuer = Issuer::logto("https://tenant.logto.app")?;
//! let secret = ClientSecret::new(std::env::var("LOGTO_APP_SECRET")?);
//! let tokens = TokenClient::new(&issuer, "app id", secret)?;
//!
//! let read = TokenRequest::resource("https://shopping.api").scopes(["read:products"]);
//! let token = tokens.token(&read).await?;
//!
//! let http = reqwest::Client::builder().timeout(std::time::Duration::from_secs(10)).build()?;
//! let products = http.get("https://shopping.example/products");
//! let products = tokens.authorize(products, &read).await?.send().await?;
//! # Ok(())
//! # }
//! ```
//!
//! For tower HTTP clients (hyper-util, tonic), [`BearerLayer`] attaches a
//! token to every request. [`ManagementApi`] calls Logto's Management
//! API with your own types.
//!
//! # Caching and cost
//! Logto Cloud bills every token. The client therefore shares tokens and requests:
//!
//! - Equal token requests share one cached token. The order of the scopes does not matter.
//! - Concurrent calls share one HTTP request to the token endpoint. If a call is cancelled, the
//!   request continues.
//! - The client refreshes a token before it expires: 60 s or a tenth of its lifetime before,
//!   whichever is shorter, plus up to half of that at random. The refresh runs in the background.
//!   Calls return the current token in the meantime.
//! - A call starts the refresh. A token that the program no longer asks for is not refreshed.
//!
//! A token with a lifetime of one hour, in constant use, takes about 25 token requests a day.
//!
//! # When Logto is unavailable
//! Calls return the cached token until it expires. After that, they immediately return the last
//! error. The first call after 250 ms sends a new token request. This delay doubles up to 30 s. A
//! longer `Retry-After` replaces it, up to two minutes and up to the expiry of the cached token.
//!
//! Some errors last until the configuration changes: `invalid_client`, `invalid_target`,
//! `access_denied`, a missing role. After those the delay is 10 s, doubling up to 5 min. A
//! corrected configuration therefore takes effect without a restart.
//!
//! A call without a usable token waits for the request in flight: at most the
//! [timeout](crate::m2m::TokenClientBuilder::timeout), 10 s by default, plus 1 s.
//!
//! # When a service refuses a token
//! [`invalidate`](crate::m2m::TokenClient::invalidate) starts the request for a new token and
//! affects exactly the given one, not its successor. The call that was refused waits in
//! [`successor`](crate::m2m::TokenClient::successor). All others get the old token meanwhile. If
//! the service refuses the successor too, a third token does not help. The client therefore keeps
//! the successor for 10 s, doubling up to 10 min, regardless of further `401` responses. A service
//! that refuses every token, for example because of a wrong audience, costs about a dozen tokens in
//! the first hour instead of one per request.
//!
//! # Scopes that Logto did not grant
//! Logto leaves out scopes that the application's roles do not include, and still answers `200`.
//! Another service would then refuse the token with a `403` that does not mention roles. The client
//! therefore returns an error that names the missing scopes and the fix. If a token is useful
//! without some scopes, request those with
//! [`optional_scopes`](crate::m2m::TokenRequest::optional_scopes).
//!
//! If a refresh returns a token without a required scope, the refresh counts as failed. The cached
//! token stays in use until it expires.
//!
//! # Connections
//! Token requests are rare, and Logto closes idle connections after 5 s. The client therefore keeps
//! no idle connection to the token endpoint. Calls to the Management API often follow one another,
//! so it keeps those connections for 4 s.
//!
//! If a connection breaks before a response arrives, the client sends the request once more. `POST`
//! and `PATCH` calls to the Management API are the exception, because they may have taken effect:
//! they are repeated only if connecting failed. The client never follows redirects, because they
//! would send the secret or the token to another address.
//!
//! # Other HTTP clients
//! [`TokenClient::send`] and [`TokenClient::authorize`] take requests of reqwest 0.13. Every other
//! client takes [`IssuedToken::authorization`], the value of the `Authorization` header:
//!
//! ```
//! # use tower_logto::m2m::{TokenClient, TokenRequest, TokenRequestError};
//! # async fn example(tokens: TokenClient) -> Result<(), TokenRequestError> {
//! let request = TokenRequest::resource("https://shopping.api").scopes(["read:products"]);
//! let token = tokens.token(&request).await?;
//! // reqwest 0.12: client.get(url).header("authorization", token.authorization())
//! // reqwest-middleware: in `Middleware::handle`,
//! //   request.headers_mut().insert("authorization", token.authorization())
//! // After a 401: tokens.successor(&token).await?
//! # let _ = token;
//! # Ok(())
//! # }
//! ```
//!
//! # Not supported
//! Other grant types, `private_key_jwt`, DPoP, discovery, and generated types for the Management
//! API.

mod cache;
mod client;
mod credentials;
mod error;
mod error_inner;
mod headers;
mod layer;
mod management;
mod send;
mod token;
mod token_endpoint;
mod token_request;

pub use client::{TokenClient, TokenClientBuilder};
pub use credentials::{ClientAuthentication, ClientSecret};
pub use error::{TokenRequestError, TokenRequestErrorKind};
pub use layer::{BearerLayer, BearerService};
pub use management::{ManagementApi, ManagementError, ManagementErrorKind, Pages};
pub use send::SendError;
pub use token::IssuedToken;
pub use token_request::TokenRequest;
