//! The cache of verified tokens, so that a signature is checked once.

use std::{
    fmt,
    hash::{BuildHasherDefault, Hasher},
};

use aws_lc_rs::digest::{SHA256, digest};
use moka::{policy::EvictionPolicy, sync::Cache};

use crate::access_token::AccessToken;

/// Verified tokens by the SHA-256 of the whole compact serialization.
///
/// With a digest as the key, the cache holds no bearer token, and no prefix of one can be found by
/// timing. The same claims with another signature are another entry. A clone shares the tokens.
#[derive(Clone)]
pub(crate) struct VerifiedTokenCache(
    Option<Cache<TokenDigest, AccessToken, BuildHasherDefault<DigestHasher>>>,
);

/// The SHA-256 of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TokenDigest([u8; 32]);

impl VerifiedTokenCache {
    /// A cache for this number of tokens of the usual size. A larger token takes the place of
    /// several. With a capacity of 0 nothing is cached.
    pub(crate) fn new(capacity: usize) -> Self {
        if capacity == 0 {
            return Self(None);
        }
        let weigh = |_: &TokenDigest, token: &AccessToken| {
            u32::try_from(token.heap_size().div_ceil(USUAL_SIZE)).unwrap_or(u32::MAX)
        };
        // LRU: the default policy keeps new tokens out of a full cache until they are frequent.
        // No expiry: every hit checks `exp`, and timers would cost memory and bursts of work.
        let cache = Cache::builder()
            .max_capacity(capacity as u64)
            .eviction_policy(EvictionPolicy::lru())
            .weigher(weigh)
            .build_with_hasher(BuildHasherDefault::default());
        Self(Some(cache))
    }

    /// The key of a token. `None`: the token is never cached.
    pub(crate) fn digest(&self, token: &str) -> Option<TokenDigest> {
        (self.0.is_some() && token.len() >= MIN_JWT_LENGTH).then(|| TokenDigest::of(token))
    }

    pub(crate) fn get(&self, digest: &TokenDigest) -> Option<AccessToken> {
        self.0.as_ref()?.get(digest)
    }

    pub(crate) fn insert(&self, digest: TokenDigest, token: AccessToken) {
        if let Some(cache) = &self.0 {
            cache.insert(digest, token);
        }
    }

    pub(crate) fn remove(&self, digest: &TokenDigest) {
        if let Some(cache) = &self.0 {
            cache.invalidate(digest);
        }
    }

    /// The number of tokens, and the capacity that they take.
    #[cfg(test)]
    #[cfg(feature = "testing")]
    pub(crate) fn count_and_weight(&self) -> (u64, u64) {
        let cache = self.0.as_ref().expect("the cache is on");
        cache.run_pending_tasks();
        (cache.entry_count(), cache.weighted_size())
    }
}

impl fmt::Debug for VerifiedTokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.as_ref().map_or(0, Cache::entry_count);
        write!(f, "VerifiedTokenCache({count})")
    }
}

impl TokenDigest {
    fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }
}

/// A digest is a hash already, so its first bytes serve as the hash.
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

/// The claims of a Logto token, with room for a few custom ones.
const USUAL_SIZE: usize = 1024;
/// Anything shorter cannot be a signed JWT (an ES256 signature alone has 86 characters), so it is
/// not looked up.
const MIN_JWT_LENGTH: usize = 128;

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use super::*;
    use crate::testing::{TestIssuer, TokenBuilder};

    /// Validates `tokens` distinct tokens, and returns how many are still cached.
    async fn cached_of(
        tokens: usize,
        capacity: usize,
        form: impl Fn(TokenBuilder) -> TokenBuilder,
    ) -> u64 {
        let logto = TestIssuer::start().await.unwrap();
        let trusted = logto.trusted("https://shopping.api");
        let builder = crate::Validator::builder().trust(trusted).token_cache_capacity(capacity);
        let validator = builder.build().unwrap();
        for _ in 0..tokens {
            validator.validate(&form(logto.token()).build()).await.unwrap();
        }
        validator.cache().count_and_weight().0
    }

    #[tokio::test]
    async fn the_capacity_bounds_tokens_and_bytes() {
        assert_eq!(cached_of(50, 100, |token| token).await, 50);
        assert_eq!(cached_of(150, 100, |token| token).await, 100);
        // 4 KiB of claims take the place of five tokens.
        let large = |token: TokenBuilder| token.claim("note", "x".repeat(4096));
        assert_eq!(cached_of(50, 100, large).await, 20);
        // 400 short audiences, 1.6 KiB of text and 3.1 KiB of spans, take the place of six.
        let audience = [vec!["https://shopping.api"], vec!["x"; 400]].concat();
        let many = |token: TokenBuilder| token.claim("aud", audience.clone());
        assert_eq!(cached_of(50, 100, many).await, 16);
    }

    #[test]
    fn the_digest_depends_on_every_byte() {
        let token = "header.payload.signature";
        for other in ["header.payload.signaturf", "header.payload.signature=", "header.payload", ""]
        {
            assert_ne!(TokenDigest::of(token), TokenDigest::of(other));
        }
        assert_eq!(TokenDigest::of(token), TokenDigest::of("header.payload.signature"));
    }
}
