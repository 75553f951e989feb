//! A Logto on a loopback port for your own tests, and a clock to move by hand.
//!
//! Turn the feature on for tests only:
//!
//! ```toml
//! [dev-dependencies]
//! tower-logto = { version = "0.1", features = ["testing"] }
//! ```
//!
//! [`TestIssuer`] publishes keys and gives tokens as Logto does, over real sockets, so a test
//! drives your service as it runs in production: give it `issuer.issuer()` (or `issuer.endpoint()`)
//! where it reads its configuration. Tokens of every kind, good and bad, come from
//! [`TestIssuer::token`]; those that your service asks for itself, from its token endpoint and the
//! [`TestApp`]s you name.
//!
//! ```
//! use tower_logto::{error::{AuthErrorKind, InvalidToken}, testing::TestIssuer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let issuer = TestIssuer::start().await?;
//! let validator = issuer.validator("https://shopping.api")?; // your service's, in your test
//!
//! let good = issuer.token().scopes(["read:products"]).build();
//! assert!(validator.validate(&good).await.is_ok());
//!
//! let forged = issuer.token().bad_signature().build();
//! let refusal = validator.validate(&forged).await.unwrap_err();
//! assert!(matches!(refusal.kind(), AuthErrorKind::InvalidToken(InvalidToken::BadSignature)));
//! # Ok(())
//! # }
//! ```
//!
//! | token of Logto's | here |
//! |---|---|
//! | global API resource | `issuer.token().audience("https://shopping.api")` |
//! | organization-level API resource | `.audience("https://shopping.api").organization_resource("acme")` |
//! | organization permissions | `.organization_permissions("acme")` |
//! | Management API | `.management_api()` |
//! | a user's, of any of these | `.subject("alice")` |
//! | not access tokens | `issuer.id_token()`, `issuer.opaque_token()` |
//!
//! # Time
//! By default the system's. With a [`ManualClock`] given to the issuer and to the validator
//! ([`TestIssuer::validator`] does that) a test makes tokens expire and keys age without waiting:
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
//! # Trouble
//! [`rotate`](TestIssuer::rotate), [`stop`](TestIssuer::stop), [`go_down`](TestIssuer::go_down),
//! [`hang`](TestIssuer::hang), [`publish`](TestIssuer::publish) and [`Fault`] make the identity
//! server misbehave; [`jwks_requests`](TestIssuer::jwks_requests) and
//! [`token_requests`](TestIssuer::token_requests) count what your service asked of it.
//!
//! # The Management API
//! `GET /api/applications` lists the [`TestApp`]s page by page, for a token with the scope `all` of
//! [`TestIssuer::MANAGEMENT_API`]. It is guarded by this crate's own layer, whose first request
//! fetches the key set.
//!
//! What goes wrong inside the kit panics, as a failed test does. It is no identity server: it knows
//! the client credentials grant and no users.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test kit: its failures are test failures"
)]

mod app;
mod clock;
mod faults;
mod issuer;
mod key;
mod rotation;
mod server;
#[cfg(test)]
mod tests;
mod token;

#[doc(hidden)]
pub use crate::{escape::Escaped, jwks::key_set::KeySet, scope::is_scope_token};
pub use app::TestApp;
pub use clock::ManualClock;
pub use faults::Fault;
pub use issuer::{TestIssuer, TestIssuerBuilder};
pub use key::SigningKey;
pub use token::TokenBuilder;
