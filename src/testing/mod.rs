//! A simulated Logto server on a loopback port for your own tests, and a clock that a test can set.
//!
//! Enable the feature for tests only:
//!
//! ```toml
//! [dev-dependencies]
//! tower-logto = { version = "0.1", features = ["testing"] }
//! ```
//!
//! [`TestIssuer`] publishes keys and issues tokens as Logto does, over real sockets. Your service
//! therefore runs in a test as it runs in production. In the configuration of your service, use
//! `issuer.issuer()` or `issuer.endpoint()`.
//!
//! - [`TestIssuer::token`] builds a valid or invalid token of any kind, without an HTTP request.
//! - [`TestIssuer::offline`] signs tokens and creates validators without a server, for unit tests.
//! - The token endpoint issues the tokens that your service itself requests. Add a [`TestApp`] for
//!   each application that may request tokens.
//!
//! ```
//! use tower_logto::{error::{AuthErrorKind, InvalidToken}, testing::TestIssuer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let issuer = TestIssuer::start().await?;
//! // In your own test, use the validator of your service instead.
//! let validator = issuer.validator("https://shopping.api")?;
//!
//! let good = issuer.token().scopes(["read:products"]).build();
//! assert!(validator.validate(&good).await.is_ok());
//!
//! let forged = issuer.token().bad_signature().build();
//! let error = validator.validate(&forged).await.unwrap_err();
//! assert!(matches!(error.kind(), AuthErrorKind::InvalidToken(InvalidToken::BadSignature)));
//! # Ok(())
//! # }
//! ```
//!
//! | token | call in the test kit |
//! |---|---|
//! | access token for a global API resource | `issuer.token().audience("https://shopping.api")` |
//! | access token for an organization-level API resource | `issuer.token().audience("https://shopping.api").organization_resource("acme")` |
//! | access token with organization permissions | `issuer.token().organization_permissions("acme")` |
//! | access token for the Management API | `issuer.token().management_api()` |
//! | access token of a user instead of a machine | any call above, followed by `.subject("alice")` |
//! | ID token of a user (not an access token) | `issuer.id_token()` |
//! | opaque token (not a JWT) | `issuer.opaque_token()` |
//!
//! # Time
//! By default, the test kit uses the system clock. To test expired tokens and old cached keys
//! without waiting, pass a [`ManualClock`] to the issuer and to the validator.
//! [`TestIssuer::validator`] passes the issuer's clock to the validator that it returns:
//!
//! ```
//! use std::time::Duration;
//! use tower_logto::testing::{ManualClock, TestIssuer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clock = ManualClock::default();
//! let issuer = TestIssuer::builder().clock(clock.clone()).start().await?;
//! let validator = issuer.validator("https://shopping.api")?;
//! let token = issuer.token().build();
//! assert!(validator.validate(&token).await.is_ok());
//! clock.advance(Duration::from_secs(2 * 60 * 60));
//! assert!(validator.validate(&token).await.is_err());
//! # Ok(())
//! # }
//! ```
//!
//! # Outages and key rotation
//! - Error responses: [`go_down`](TestIssuer::go_down). No responses: [`hang`](TestIssuer::hang).
//!   Slow responses: [`slow`](TestIssuer::slow). [`recover`](TestIssuer::recover) ends each of
//!   these faults.
//! - Refused connections: [`stop`](TestIssuer::stop).
//!   [`start_again`](TestIssuer::start_again) lets the server listen again.
//! - Any other response of one endpoint: [`fault_jwks`](TestIssuer::fault_jwks) or
//!   [`fault_token`](TestIssuer::fault_token) with a [`Fault`].
//! - A new signing key: [`rotate`](TestIssuer::rotate). Another key set:
//!   [`publish`](TestIssuer::publish).
//! - The number of requests that your service sent: [`jwks_requests`](TestIssuer::jwks_requests)
//!   and [`token_requests`](TestIssuer::token_requests).
//!
//! # The Management API
//! `GET /api/applications` returns the [`TestApp`]s in pages. `GET /api/users/{id}` returns whether
//! a test has suspended the user. `GET /api/hooks/{id}/recent-logs` lists failed webhooks (see
//! `TestWebhooks`, with the feature `revocation`).
//!
//! These routes require a token for [`TestIssuer::MANAGEMENT_API`] with the scope `all`. This
//! crate's own layer protects the routes. When the layer validates the first token, the layer
//! fetches the key set over HTTP. [`jwks_requests`](TestIssuer::jwks_requests) counts this fetch.
//!
//! # Limits
//! The test kit is not an identity server. It supports only the client credentials grant, so users
//! cannot sign in. If the kit itself fails, the kit panics and your test fails.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "a failure of the kit must fail the test; panics that a user can cause are documented"
)]

mod app;
mod clock;
mod faults;
mod issuer;
mod key;
mod offline;
mod rotation;
mod server;
#[cfg(test)]
mod tests;
mod token;
#[cfg(feature = "revocation")]
mod webhook;

#[doc(hidden)]
pub use crate::{escape::Escaped, jwks::key_set::KeySet, scope::is_scope_token};
pub use app::TestApp;
pub use clock::ManualClock;
pub use issuer::{TestIssuer, TestIssuerBuilder};
pub use key::SigningKey;
pub use offline::OfflineIssuer;
pub use server::fault_switch::Fault;
pub use token::TokenBuilder;
#[cfg(feature = "revocation")]
#[cfg_attr(docsrs, doc(cfg(feature = "revocation")))]
pub use webhook::{TestWebhook, TestWebhooks};
