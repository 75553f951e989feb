//! Receives Logto's webhooks and turns them into rules.

mod event;
mod lost;
mod mapping;
mod receiver;
mod signature;

pub use event::Webhook;
pub use mapping::EventMapping;
pub use receiver::{WebhookReceiver, WebhookReceiverBuilder};
