//! Refuses tokens that have not expired but must no longer be accepted. The reason can be a
//! suspended or deleted user, a user who left an organization, or a compromised application.
//!
//! A JWT is valid until it expires. Logto's tokens expire after an hour by default. A set of
//! [`Revocations`] contains rules that refuse tokens before they expire. As long as the rules do
//! not change, they add only one integer comparison to each request with a cached token. If the
//! rules have changed since a token was last accepted, the validator compares that token with the
//! rules again.
//!
//! ```
//! use tower_logto::{Issuer, TrustedIssuer, Validator, revocation::Revocations};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let issuer = Issuer::logto("https://tenant.logto.app")?;
//! let revocations = Revocations::new([&issuer])?;
//! let validator = Validator::builder()
//!     .trust(TrustedIssuer::new(&issuer).audience("https://shopping.api"))
//!     .revocations(&revocations)
//!     .build()?;
//!
//! // For example in an admin page:
//! revocations.revoke_client("id of the application").await?;
//! # Ok(())
//! # }
//! ```
//!
//! The guide's page on revocation has recipes.
//!
//! # Sources of rules
//! - Logto's webhooks, with a `WebhookReceiver`.
//! - Other instances, with a `RedisStore`.
//! - Your own code, as in the example above.
//! - Any other source of events: [`Revocations::store`] with your own [`Rule`]s.

mod builder;
mod by_hand;
#[cfg(feature = "redis")]
mod redis;
mod revocations;
mod rule;
mod rule_book;
pub(crate) mod rules;
pub(crate) mod source;
mod status;
mod store_error;
mod subject_checks;
#[cfg(feature = "axum")]
mod webhook;

#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::RedisStore;
pub use builder::RevocationsBuilder;
pub use revocations::{Changes, Revocations};
pub use rule::Rule;
pub use source::SourceState;
pub use status::RevocationStatus;
pub use store_error::StoreError;
pub use subject_checks::SubjectChecks;
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub use webhook::{EventMapping, Webhook, WebhookReceiver, WebhookReceiverBuilder};
