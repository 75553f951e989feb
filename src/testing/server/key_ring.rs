//! The signing keys of the issuer, and the key set that it publishes.

use crate::testing::key::SigningKey;

/// The keys of the issuer. At most three keys are published: the current key (which signs tokens),
/// the next key and the previous key.
#[derive(Debug)]
pub(crate) struct KeyRing {
    pub(crate) current: SigningKey,
    pub(crate) next: Option<SigningKey>,
    pub(crate) previous: Option<SigningKey>,
    /// If set, the server responds with this body instead of the keys above. The body need not be a
    /// valid key set.
    pub(crate) published: Option<String>,
}

impl KeyRing {
    pub(crate) const fn new(current: SigningKey) -> Self {
        Self { current, next: None, previous: None, published: None }
    }

    /// Makes `key` the current key. The replaced key becomes the previous key.
    pub(crate) fn rotate(&mut self, key: SigningKey) {
        self.previous = Some(std::mem::replace(&mut self.current, key));
    }

    /// Returns the body of the key set, with the keys in Logto's order.
    pub(crate) fn to_json(&self) -> String {
        if let Some(json) = &self.published {
            return json.clone();
        }
        let keys = [Some(&self.current), self.next.as_ref(), self.previous.as_ref()];
        let keys: Vec<_> = keys.into_iter().flatten().map(SigningKey::jwk_json).collect();
        format!("{{\"keys\":[{}]}}", keys.join(","))
    }
}
