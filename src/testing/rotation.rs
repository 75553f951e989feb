//! The signing keys over time: what is published, and which one signs.

use super::{SigningKey, TestIssuer};
use crate::Algorithm;

/// At most three keys are published: the one that signs, the next one, the previous one.
#[derive(Debug)]
pub(super) struct KeyRing {
    pub(super) current: SigningKey,
    next: Option<SigningKey>,
    previous: Option<SigningKey>,
    /// Served instead of the keys above.
    pub(super) published: Option<String>,
}

impl KeyRing {
    pub(super) const fn new(current: SigningKey) -> Self {
        Self { current, next: None, previous: None, published: None }
    }

    /// The body of the key set, the keys in Logto's order.
    pub(super) fn to_json(&self) -> String {
        if let Some(json) = &self.published {
            return json.clone();
        }
        let keys = [Some(&self.current), self.next.as_ref(), self.previous.as_ref()];
        let keys: Vec<_> = keys.into_iter().flatten().map(SigningKey::jwk_json).collect();
        format!("{{\"keys\":[{}]}}", keys.join(","))
    }

    fn rotate(&mut self, key: SigningKey) {
        self.previous = Some(std::mem::replace(&mut self.current, key));
    }
}

/// Rotation, as `logto db config rotate` and the console do it.
///
/// ```
/// use tower_logto::testing::TestIssuer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let issuer = TestIssuer::start().await?;
/// let validator = issuer.validator("https://shopping.api")?;
/// let old = issuer.token().build();
/// validator.validate(&old).await?;
/// issuer.rotate();
/// validator.validate(&issuer.token().build()).await?; // the new key signs at once
/// validator.validate(&old).await?; // the old one is still published
/// # Ok(())
/// # }
/// ```
impl TestIssuer {
    /// A new key of the same algorithm signs from now on; the old one stays published as the
    /// previous key, and the key that was that is gone.
    pub fn rotate(&self) {
        self.rotate_to(self.signing_key().algorithm());
    }

    /// The same, to a key of this algorithm.
    pub fn rotate_to(&self, algorithm: Algorithm) {
        let key = SigningKey::generate(algorithm);
        self.state().keys().rotate(key);
    }

    /// Publishes a next key that does not sign yet.
    pub fn stage(&self, algorithm: Algorithm) {
        let key = SigningKey::generate(algorithm);
        self.state().keys().next = Some(key);
    }

    /// The staged key signs from now on, and the present one becomes the previous key.
    ///
    /// # Panics
    /// When no key was [staged](Self::stage).
    pub fn promote(&self) {
        let mut keys = self.state().keys();
        let next = keys.next.take().expect("a key was staged");
        keys.rotate(next);
    }

    /// Takes the previous key out of the key set, as an administrator may at any time.
    pub fn delete_previous(&self) {
        self.state().keys().previous = None;
    }

    /// Serves this body as the key set, whatever it is, until [`recover`](Self::recover); the
    /// issuer's keys sign as before.
    pub fn publish(&self, json: impl Into<String>) {
        self.state().keys().published = Some(json.into());
    }

    /// The body of the key set as it is published now.
    #[must_use]
    pub fn jwks(&self) -> String {
        self.state().keys().to_json()
    }

    /// The key that signs now.
    #[must_use]
    pub fn signing_key(&self) -> SigningKey {
        self.state().keys().current.clone()
    }

    /// The `kid` of the key that signs now.
    #[must_use]
    pub fn current_kid(&self) -> String {
        self.signing_key().kid().into()
    }
}
