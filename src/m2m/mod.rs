//! Machine-to-machine: access tokens for services that call other services.
//!
//! # Getting a token
//! A [`TokenClient`] represents one machine-to-machine application in Logto. A [`TokenRequest`]
//! specifies the API, the organization and the scopes for which a token is requested:
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
//! For tower HTTP clients (hyper-util, tonic), [`BearerLayer`] attaches a token to every request.
//! [`ManagementApi`] calls Logto's Management API with your own types.
//!
//! # Caching and cost
//! Logto Cloud charges for every token. The client therefore shares tokens and token requests:
//!
//! - Equal token requests share one cached token. The order of the scopes does not matter.
//! - Concurrent calls for the same token share one HTTP request to the token endpoint. If a call is
//!   cancelled, the HTTP request continues.
//! - The client refreshes a token before it expires. The refresh margin is 60 s or a tenth of the
//!   token's lifetime, whichever is shorter. The client lengthens this margin at random, by up to
//!   50 %. The refresh runs in the background, and calls return the cached token in the meantime.
//! - A refresh starts only when a call asks for the token within the refresh margin. No timer
//!   starts a refresh, so the client does not refresh a token that the program no longer asks for.
//!
//! For a token that is in constant use and has a lifetime of one hour, the client sends about 25
//! token requests a day.
//!
//! # When Logto is unavailable
//! Calls return the cached token until it expires. After a failed token request, the client sends
//! no token request for 250 ms. During this delay, calls without a usable token immediately return
//! the last error. The first call after the delay sends the next token request. With each further
//! failure, the delay doubles, up to 30 s. Each delay is shortened at random, by at most a fifth.
//! If the server sends a longer delay in `Retry-After`, the client uses the server's delay instead.
//! The client limits the server's delay to two minutes. If the cached token expires during the
//! server's delay, the delay ends when the token expires.
//!
//! Some errors last until the configuration changes: `invalid_client`, `invalid_target`,
//! `access_denied`, or a missing role. After such an error, the first delay is 10 s. Each further
//! delay is twice as long, up to 5 min. Because the client keeps trying, a corrected configuration
//! takes effect without a restart.
//!
//! If no usable token is cached, a call waits for the token request in flight. If no token request
//! is in flight, the call sends a token request and waits for the response. The longest wait is the
//! [timeout](crate::m2m::TokenClientBuilder::timeout) plus 1 s. The default timeout is 10 s.
//!
//! # When a service refuses a token
//! [`invalidate`](crate::m2m::TokenClient::invalidate) starts to fetch a new token in the
//! background. This method affects only the given token, not its successor. To repeat a refused
//! call, use [`successor`](crate::m2m::TokenClient::successor), which also waits for the new token.
//! Until the new token arrives, all other calls get the old token.
//!
//! If the service refuses the successor too, a third token would not help. For 10 s after the first
//! invalidation, the client therefore keeps the successor, regardless of further `401` responses.
//! After this period, the next invalidation takes effect and starts a period that is twice as long,
//! up to 10 min. If a service refuses every token, for example because of a wrong audience, the
//! client requests about a dozen tokens in the first hour. Without these periods, the client would
//! request a new token for every call to the service.
//!
//! # Scopes that Logto did not grant
//! Logto leaves out scopes that the application's roles do not include, and still answers `200`.
//! If the client returned a token without these scopes, the service that receives the token would
//! refuse it with a `403` that does not mention roles. The client therefore returns an error that
//! names the missing scopes and the fix. If a token is useful without some of the scopes, request
//! those scopes with [`optional_scopes`](crate::m2m::TokenRequest::optional_scopes).
//!
//! If a refresh returns a token without a required scope, the refresh counts as failed. The cached
//! token stays in use until it expires.
//!
//! # Connections
//! Token requests are rare, and Logto closes idle connections after 5 s. The client therefore keeps
//! no idle connection to the token endpoint. Calls to the Management API often follow one another,
//! so the client keeps idle connections to the Management API for 4 s.
//!
//! If a connection breaks before a response arrives, the client sends the request once more. `POST`
//! and `PATCH` calls to the Management API are the exception, because such a call may already have
//! taken effect. The client repeats such a call only if the connection could not be opened. The
//! client never follows redirects, because a redirect would send the secret or the token to another
//! address.
//!
//! # Other HTTP clients
//! [`TokenClient::send`] and [`TokenClient::authorize`] take requests of reqwest 0.13. For every
//! other HTTP client, [`IssuedToken::authorization`] returns the value of the `Authorization`
//! header:
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
//! This module does not support `private_key_jwt`, DPoP, discovery, or grant types other than
//! client credentials. It contains no generated types for the Management API.

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
