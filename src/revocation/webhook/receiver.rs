//! The route that Logto sends webhooks to.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody as _, to_bytes},
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    routing::post,
};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use tokio::{sync::oneshot, time::timeout};

use super::{
    event::Webhook,
    mapping::EventMapping,
    signature::{Signature, SigningKeys},
};
use crate::{
    error::ConfigError,
    rate_limit::RepeatedWarning,
    revocation::{Revocations, rule::Rule},
};

/// Receives Logto's webhooks and stores the resulting rules.
///
/// In Logto's Console, create a webhook with the URL of this route and the events
/// `User.SuspensionStatus.Updated`, `User.Deleted`, `Organization.Membership.Updated` and
/// `Organization.Deleted`. The webhook's page shows the signing key.
///
/// ```
/// use axum::Router;
/// use tower_logto::{Issuer, revocation::{Revocations, WebhookReceiver}};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let revocations = Revocations::new([&issuer])?;
/// # let key = "a key of Logto's Console";
/// let receiver = WebhookReceiver::builder(&revocations).signing_key(key).build()?;
/// // Do not add an AuthLayer to this route. The webhook's signature authenticates the request.
/// let app: Router = Router::new().merge(receiver.router("/webhooks/logto"));
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
///
/// # Responses
/// | status | when |
/// |---|---|
/// | 204 | the rules are stored, or the event results in no rules |
/// | 400 | the signature is valid, but the body is not a webhook |
/// | 401 | the signature is missing or wrong |
/// | 408 | the body did not arrive within 4 s |
/// | 413 | the body is larger than 1 MiB, or could not be read |
/// | 503 | the rules could not be stored, or the receiver stopped reading the body (see below) |
///
/// The receiver reads at most 16 bodies at the same time. If another body arrives, the receiver
/// stops reading the oldest of the 16 bodies.
///
/// Logto sends each event only once. In the Console, the webhook's page lists failed deliveries on
/// the tab "Recent requests (24h)".
#[derive(Clone)]
pub struct WebhookReceiver(Arc<Inner>);

struct Inner {
    revocations: Revocations,
    keys: SigningKeys,
    mapping: Mapping,
    bodies: Bodies,
    warning: Mutex<RepeatedWarning>,
}

/// The bodies that are being read, the oldest first. Their signatures are not checked yet. Each
/// body is represented by the sender of a channel. If this sender is dropped, the body is no longer
/// read, and the response is 503.
#[derive(Default)]
struct Bodies(Mutex<VecDeque<oneshot::Sender<()>>>);

type Mapping = Box<dyn Fn(&Webhook) -> Vec<Rule> + Send + Sync>;

/// The settings of a [`WebhookReceiver`].
///
/// ```
/// use tower_logto::{Issuer, revocation::{Revocations, WebhookReceiver}};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let revocations = Revocations::new([&issuer])?;
/// let error = WebhookReceiver::builder(&revocations).build().unwrap_err();
/// assert_eq!(error.setting(), "signing_key");
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[must_use]
pub struct WebhookReceiverBuilder {
    revocations: Revocations,
    keys: Vec<String>,
    mapping: Mapping,
}

impl WebhookReceiver {
    /// Returns a builder for a receiver that stores rules in this set.
    pub fn builder(revocations: &Revocations) -> WebhookReceiverBuilder {
        let defaults = EventMapping::default();
        WebhookReceiverBuilder {
            revocations: revocations.clone(),
            keys: Vec::new(),
            mapping: Box::new(move |webhook| defaults.rules(webhook)),
        }
    }

    /// Returns a router with the webhook route. Merge the router outside of
    /// [`AuthLayer`](crate::AuthLayer), because Logto sends webhooks without a token.
    ///
    /// # Panics
    /// If axum does not accept the path.
    pub fn router<S: Clone + Send + Sync + 'static>(&self, path: &str) -> Router<S> {
        Router::new().route(path, post(receive).with_state(self.clone()))
    }

    /// Stores the rules of a webhook that is known to come from Logto. Returns the number of rules.
    pub(super) async fn apply(&self, webhook: &Webhook) -> Result<usize, Response> {
        let rules = (self.0.mapping)(webhook);
        let count = rules.len();
        if count > 0 {
            self.0.revocations.store(rules).await.map_err(|error| {
                tracing::error!(%error, event = webhook.event(), "webhook rules were not stored");
                busy()
            })?;
            tracing::info!(event = webhook.event(), rules = count, "webhook rules were stored");
        }
        Ok(count)
    }

    /// Logs a warning. If the same warning repeats, it is logged at most once per minute.
    pub(super) fn warn(&self, text: &str) {
        let mut warning = self.0.warning.lock().unwrap_or_else(PoisonError::into_inner);
        if warning.is_due(text, self.0.revocations.clock().monotonic()) {
            tracing::warn!("{text}");
        }
    }

    /// Reads the body and checks its signature.
    async fn read(&self, request: Request) -> Result<Bytes, Response> {
        let Some(signature) = Signature::read(request.headers()) else {
            return Err(refuse(StatusCode::UNAUTHORIZED, "no valid signature header"));
        };
        let body = request.into_body();
        if body.size_hint().lower() > MAX_BODY as u64 {
            return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB"));
        }
        let mut displaced = self.0.bodies.register();
        let mut body = pin!(read_body(body));
        let body = poll_fn(|context| match Pin::new(&mut displaced).poll(context) {
            Poll::Ready(_) => Poll::Ready(Err(busy())),
            Poll::Pending => body.as_mut().poll(context),
        });
        let body = body.await?;
        if !self.0.keys.verify(&signature, &body) {
            // Either the configured key is wrong, or the request does not come from Logto.
            self.warn(
                "a webhook with a wrong signature was refused: compare the signing keys with the \
                 webhook in Logto's Console",
            );
            return Err(refuse(StatusCode::UNAUTHORIZED, "the signature is wrong"));
        }
        Ok(body)
    }
}

impl Bodies {
    /// Registers a body that is about to be read. If `MAX_BODIES` bodies are already being read,
    /// the new body displaces the oldest of them. Slow bodies therefore cannot delay Logto's
    /// webhooks. A webhook from Logto is rarely displaced, because its body arrives within
    /// milliseconds.
    ///
    /// The returned `oneshot::Receiver` completes when another body displaces the registered body.
    fn register(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut reading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reading.retain(|body| !body.is_closed());
        if reading.len() == MAX_BODIES {
            reading.pop_front();
        }
        reading.push_back(sender);
        receiver
    }
}

impl WebhookReceiverBuilder {
    /// Adds a signing key of the webhook. If you replace the key in Logto, Logto immediately signs
    /// with the new key only. During the replacement, add both the old key and the new key.
    pub fn signing_key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Sets the function that turns a webhook into rules. The default is [`EventMapping::default`].
    ///
    /// ```
    /// use tower_logto::revocation::{EventMapping, Revocations, Rule, WebhookReceiver};
    ///
    /// # let issuer = tower_logto::Issuer::logto("https://tenant.logto.app")?;
    /// # let revocations = Revocations::new([&issuer])?;
    /// let defaults = EventMapping::default().password_resets_revoke_the_user();
    /// let receiver = WebhookReceiver::builder(&revocations)
    ///     .signing_key("a key of Logto's Console")
    ///     .mapping(move |webhook| match webhook.event() {
    ///         "Grant.LimitExceeded" => Vec::new(),
    ///         _ => defaults.rules(webhook),
    ///     })
    ///     .build()?;
    /// # Ok::<(), tower_logto::error::ConfigError>(())
    /// ```
    pub fn mapping(
        mut self,
        mapping: impl Fn(&Webhook) -> Vec<Rule> + Send + Sync + 'static,
    ) -> Self {
        self.mapping = Box::new(mapping);
        self
    }

    /// Builds the receiver.
    ///
    /// # Errors
    /// If there is no signing key, or if a key is empty or has whitespace at its start or end.
    pub fn build(self) -> Result<WebhookReceiver, ConfigError> {
        let refuse = |advice| Err(ConfigError::new("signing_key", advice));
        if self.keys.is_empty() {
            return refuse(
                "not set: expected the webhook's signing key, which Logto's Console shows",
            );
        }
        if self.keys.iter().any(|key| key.is_empty() || key.trim() != key) {
            return refuse("a key is empty, or has whitespace at its start or end");
        }
        Ok(WebhookReceiver(Arc::new(Inner {
            revocations: self.revocations,
            keys: SigningKeys::new(&self.keys),
            mapping: self.mapping,
            bodies: Bodies::default(),
            warning: Mutex::default(),
        })))
    }
}

async fn receive(State(receiver): State<WebhookReceiver>, request: Request) -> Response {
    let received = async {
        let body = receiver.read(request).await?;
        let webhook = Webhook::parse(&body).map_err(|why| refuse(StatusCode::BAD_REQUEST, why))?;
        receiver.apply(&webhook).await
    };
    received.await.map_or_else(|refusal| refusal, |_| StatusCode::NO_CONTENT.into_response())
}

async fn read_body(body: Body) -> Result<Bytes, Response> {
    match timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => {
            Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body exceeds 1 MiB, or is unreadable"))
        }
        Err(_) => Err(refuse(StatusCode::REQUEST_TIMEOUT, "the body took longer than 4 s")),
    }
}

/// Refuses a request. Any caller can cause a refusal, so the refusal is logged only at the level
/// debug.
fn refuse(status: StatusCode, why: &'static str) -> Response {
    tracing::debug!(status = status.as_u16(), "webhook refused: {why}");
    status.into_response()
}

fn busy() -> Response {
    let retry_after = [(RETRY_AFTER, HeaderValue::from_static("1"))];
    (StatusCode::SERVICE_UNAVAILABLE, retry_after).into_response()
}

impl fmt::Debug for WebhookReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { revocations, keys, .. } = self.0.as_ref();
        f.debug_struct("WebhookReceiver")
            .field("revocations", revocations)
            .field("keys", keys)
            .finish_non_exhaustive()
    }
}

/// Shows the number of keys, but not the keys.
impl fmt::Debug for WebhookReceiverBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookReceiverBuilder")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

/// The number of bodies that may be read at the same time.
const MAX_BODIES: usize = 16;
const MAX_BODY: usize = 1024 * 1024;
/// The time limit for reading one body. Logto waits 10 s for the response.
const BODY_TIMEOUT: Duration = Duration::from_secs(4);
