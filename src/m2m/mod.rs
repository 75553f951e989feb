//! Machine-to-machine: access tokens for services that call others. How it works, and why so.
//!
//! # A token
//! A [`TokenClient`](crate::m2m::TokenClient) knows one machine-to-machine application of Logto. What a
//! token is for, its scopes and its organization stand in a
//! [`TokenRequest`](crate::m2m::TokenRequest):
//!
//! ```no_run
//! use tower_logto::{m2m::{TokenClient, TokenRequest}, Issuer};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let issuer = Issuer::logto("https://tenant.logto.app")?;
//! let tokens = TokenClient::new(&issuer, "app id", std::env::var("LOGTO_APP_SECRET")?)?;
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
//! Under a tower HTTP client (hyper-util, tonic), [`BearerLayer`](crate::m2m::BearerLayer) does it for
//! every request. [`ManagementApi`](crate::m2m::ManagementApi) is Logto's own API, for your types.
//!
//! # What it costs
//! Logto Cloud bills tokens, so they are shared: one entry per kind of request, whatever the order
//! of its scopes; one token request however many callers wait for it, which none of them can
//! cancel; the next one shortly before the token expires (60 s or a tenth of its life, whichever
//! is less, and up to half as much again at random), in the background, while the old one serves.
//! A token of an hour makes 25 token requests a day. One that nobody asks for makes none.
//!
//! # When Logto is out
//! Nobody notices before the token dies. Then callers get the last error at once, and the token
//! endpoint is asked after 250 ms, doubling to 30 s, or when its `Retry-After` says. What only a
//! person can put right (`invalid_client`, `invalid_target`, `access_denied`, a missing role) is
//! asked again after 10 s, doubling to 5 min: whoever puts it right need not restart the service.
//! A caller that has to wait does so for the [timeout](crate::m2m::TokenClientBuilder::timeout), 10 s.
//!
//! # When a service refuses a token
//! [`invalidate`](crate::m2m::TokenClient::invalidate) drops that very token, not its successor. If the
//! successor is refused as well, another one would not help: it is kept for 10 s, doubling to
//! 10 min, however many answers of 401 come. A service that refuses everything, for a wrong
//! audience say, costs a dozen tokens an hour instead of one per request.
//!
//! # Scopes that were not granted
//! Logto answers 200 and leaves them out. The token would be refused later, by another service,
//! whose 403 says nothing about roles in Logto; so it is an error here, which names the scopes and
//! what to do. Asking is requiring: that is the default. Where less will do, there is
//! [`optional_scopes`](crate::m2m::TokenRequest::optional_scopes). A refresh that brings fewer scopes
//! than are required is a failed one: the old token serves as long as it lives.
//!
//! # Connections
//! A token request comes once an hour, and Logto closes idle connections after 5 s: none is kept,
//! so none can have been closed in the meantime. The Management API is asked many times in a row,
//! page by page: connections are kept for 4 s. Where one breaks all the same before anything was
//! answered, the request is sent once more, unless that could do a thing twice (`POST` and `PATCH`
//! of the Management API). Redirects are never followed, since they would carry secret or token
//! elsewhere.
//!
//! # Not supported
//! Other grants, `private_key_jwt`, DPoP, discovery, generated types of the Management API.

mod cache;
mod client;
mod endpoint;
mod error;
mod flight;
mod headers;
mod layer;
mod management;
mod request;
mod token;

pub use client::{TokenClient, TokenClientBuilder};
pub use endpoint::ClientAuthentication;
pub use error::{TokenRequestError, TokenRequestErrorKind};
pub use layer::{BearerLayer, BearerService};
pub use management::{ManagementApi, ManagementError, ManagementErrorKind, Pages};
pub use request::TokenRequest;
pub use token::IssuedToken;
