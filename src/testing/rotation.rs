//! Rotation of the signing keys.

use crate::{
    Algorithm,
    testing::{issuer::TestIssuer, key::SigningKey},
};

/// # Key rotation
/// These methods rotate keys in the same way as `logto db config rotate` and Logto's Console:
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
/// validator.validate(&issuer.token().build()).await?; // the new key signs now
/// validator.validate(&old).await?; // the old key is still published
/// # Ok(())
/// # }
/// ```
impl TestIssuer {
    /// Generates a key for the algorithm of the current key. The new key becomes the current key,
    /// which signs tokens.
    ///
    /// The replaced key becomes the previous key and stays published. The key set contains at most
    /// one previous key. If an earlier rotation has left one, this method removes it.
    pub fn rotate(&self) {
        self.rotate_to(self.signing_key().algorithm());
    }

    /// Rotates the keys like [`rotate`](Self::rotate), but generates a key for this algorithm.
    pub fn rotate_to(&self, algorithm: Algorithm) {
        let key = SigningKey::generate(algorithm);
        self.state().keys().rotate(key);
    }

    /// Generates the next key and publishes it. The key does not sign until it is
    /// [promoted](Self::promote).
    pub fn stage(&self, algorithm: Algorithm) {
        let key = SigningKey::generate(algorithm);
        self.state().keys().next = Some(key);
    }

    /// Makes the next key the current key. The replaced key becomes the previous key.
    ///
    /// # Panics
    /// Panics if there is no next key. Call [`stage`](Self::stage) first.
    pub fn promote(&self) {
        let mut keys = self.state().keys();
        let next = keys.next.take().expect("no next key to promote: call stage() first");
        keys.rotate(next);
    }

    /// Removes the previous key from the key set. On a real Logto server, an administrator can
    /// remove this key at any time.
    pub fn delete_previous(&self) {
        self.state().keys().previous = None;
    }

    /// Serves this body, which may be invalid, instead of the issuer's key set. Tokens are signed
    /// as before.
    ///
    /// Call [`recover`](Self::recover) to serve the issuer's key set again.
    pub fn publish(&self, json: impl Into<String>) {
        self.state().keys().published = Some(json.into());
    }

    /// Returns the body of the key set that is published now.
    pub fn jwks(&self) -> String {
        self.state().keys().to_json()
    }

    /// Returns the current signing key.
    pub fn signing_key(&self) -> SigningKey {
        self.state().keys().current.clone()
    }

    /// Returns the `kid` of the current signing key.
    pub fn current_kid(&self) -> String {
        self.signing_key().kid().into()
    }
}
