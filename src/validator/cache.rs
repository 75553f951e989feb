//! The cache of verified tokens: what was validated once need not be verified again.

use std::{
    fmt,
    hash::{BuildHasherDefault, Hasher},
};

use aws_lc_rs::digest::{SHA256, digest};
use moka::{policy::EvictionPolicy, sync::Cache};

use crate::access_token::AccessToken;

/// Tokens by the SHA-256 of the whole compact serialization: no bearer token rests in memory, no
/// prefix of one can be probed by timing, and another signature under the same claims is another
/// key.
pub(crate) struct VerifiedTokens(Cache<Digest, AccessToken, BuildHasherDefault<DigestHasher>>);

/// The SHA-256 of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }
}

impl VerifiedTokens {
    /// Room for so many tokens of the usual size; a larger one takes the room of several.
    pub(crate) fn new(tokens: usize) -> Self {
        let weigh = |_: &Digest, token: &AccessToken| {
            u32::try_from(token.size().div_ceil(USUAL_SIZE)).unwrap_or(u32::MAX)
        };
        // LRU: the default policy turns new tokens away from a full cache until they are seen
        // often. No expiry: `exp` is judged on every hit, and timers would cost memory and bursts.
        let cache = Cache::builder()
            .max_capacity(tokens as u64)
            .eviction_policy(EvictionPolicy::lru())
            .weigher(weigh)
            .build_with_hasher(BuildHasherDefault::default());
        Self(cache)
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<AccessToken> {
        self.0.get(digest)
    }

    pub(crate) fn insert(&self, digest: Digest, token: AccessToken) {
        self.0.insert(digest, token);
    }

    pub(crate) fn remove(&self, digest: &Digest) {
        self.0.invalidate(digest);
    }

    /// How much of the room is taken.
    #[cfg(test)]
    #[cfg(feature = "testing")]
    pub(crate) fn weight(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.weighted_size()
    }
}

impl fmt::Debug for VerifiedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifiedTokens({})", self.0.entry_count())
    }
}

/// A digest is a hash already: its first bytes serve.
#[derive(Debug, Default)]
pub(crate) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The claims of a token as Logto makes them, with room for a few custom ones.
const USUAL_SIZE: usize = 1024;

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use super::*;
    use crate::testing::{TestIssuer, TokenBuilder};

    /// Remembers so many different tokens, and counts what is left of them.
    async fn left_of(
        tokens: usize,
        room: usize,
        form: impl Fn(TokenBuilder) -> TokenBuilder,
    ) -> u64 {
        let logto = TestIssuer::start().await.unwrap();
        let trusted = logto.trusted("https://shopping.api");
        let builder = crate::Validator::builder().trust(trusted).token_cache_capacity(room);
        let validator = builder.build().unwrap();
        for _ in 0..tokens {
            validator.validate(&form(logto.token()).build()).await.unwrap();
        }
        let verified = validator.verified().unwrap();
        verified.0.run_pending_tasks();
        verified.0.entry_count()
    }

    #[tokio::test]
    async fn the_bound_holds_in_tokens_and_in_bytes() {
        assert_eq!(left_of(50, 100, |token| token).await, 50);
        assert_eq!(left_of(150, 100, |token| token).await, 100);
        // 4 KiB of claims take the room of five tokens.
        let large = |token: TokenBuilder| token.claim("note", "x".repeat(4096));
        assert_eq!(left_of(50, 100, large).await, 20);
        // An audience of four hundred short names, 1.6 KiB of text and 3.1 KiB of places in it, that
        // of six.
        let audience = [vec!["https://shopping.api"], vec!["x"; 400]].concat();
        let many = |token: TokenBuilder| token.claim("aud", audience.clone());
        assert_eq!(left_of(50, 100, many).await, 16);
    }

    #[test]
    fn a_token_is_known_by_all_of_its_bytes() {
        let token = "header.payload.signature";
        for other in ["header.payload.signaturf", "header.payload.signature=", "header.payload", ""]
        {
            assert_ne!(Digest::of(token), Digest::of(other));
        }
        assert_eq!(Digest::of(token), Digest::of("header.payload.signature"));
    }
}
