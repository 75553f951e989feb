//! The cache of validated tokens. The signature of a cached token is not checked again.

use std::{
    fmt,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::{
    OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use crate::access_token::AccessToken;

/// Validated tokens, keyed by the last 16 characters of their signatures.
///
/// An entry contains the validated claims and the SHA-256 digest of the whole compact
/// serialization. An entry does not contain the serialization itself, so the cache contains no
/// bearer token. A look-up is a hit only if the digest of the token equals the digest in the entry.
/// If no entry has the same 16 characters, the look-up is a miss and computes no digest. A clone
/// shares the entries.
#[derive(Clone)]
pub(crate) struct TokenCache(Option<Arc<Entries>>);

type Entries = Cache<SignatureEnd, Entry, HeapSize, BuildHasherDefault<SignatureEndHasher>>;

/// The last 16 characters of a token, which encode 96 bits of the signature.
///
/// Only validated tokens are inserted, so a caller cannot choose these characters.
type SignatureEnd = [u8; 16];

#[derive(Clone)]
struct Entry {
    /// The SHA-256 digest of the compact serialization.
    digest: [u8; 32],
    token: AccessToken,
}

impl TokenCache {
    /// Creates a cache for this number of tokens of the usual size. A larger token counts as
    /// several tokens. With a capacity of 0, nothing is cached.
    pub(crate) fn new(capacity: usize) -> Self {
        if capacity == 0 {
            return Self(None);
        }
        // After the cache evicts a token, it still remembers the token's cache key. It remembers at
        // most `capacity` such keys. If a token with a remembered key is inserted again, the token
        // replaces a cached token that is no longer used. By default, `quick_cache` remembers only
        // `capacity / 2` keys. With this default, if most clients renewed their tokens at the same
        // time, the new tokens could never replace the expired tokens.
        //
        // The entries have no expiry, because every hit checks `exp`. Expiry timers would cost
        // memory and cause bursts of work.
        let options = OptionsBuilder::new()
            .estimated_items_capacity(capacity)
            .weight_capacity(capacity as u64)
            .ghost_allocation(1.0)
            .build();
        #[allow(clippy::expect_used, reason = "all required options are set")]
        let options = options.expect("the options are complete");
        let hasher = BuildHasherDefault::default();
        let cache = Cache::with_options(options, HeapSize, hasher, DefaultLifecycle::default());
        Self(Some(Arc::new(cache)))
    }

    pub(crate) fn get(&self, token: &[u8]) -> Option<AccessToken> {
        let entry = self.0.as_ref()?.get(signature_end(token)?)?;
        (entry.digest == sha256(token)).then_some(entry.token)
    }

    pub(crate) fn insert(&self, token: &[u8], accepted: AccessToken) {
        if let (Some(cache), Some(end)) = (&self.0, signature_end(token)) {
            cache.insert(*end, Entry { digest: sha256(token), token: accepted });
        }
    }

    /// Removes a token that [`get`](Self::get) returned.
    pub(crate) fn remove(&self, token: &[u8]) {
        if let (Some(cache), Some(end)) = (&self.0, signature_end(token)) {
            cache.remove(end);
        }
    }

    /// Returns the number of cached tokens.
    pub(crate) fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, |cache| cache.len() as u64)
    }

    /// Returns the number of tokens, and how much of the capacity the tokens use.
    #[cfg(test)]
    #[cfg(feature = "testing")]
    pub(crate) fn count_and_weight(&self) -> (u64, u64) {
        let cache = self.0.as_ref().expect("the cache is on");
        (self.count(), cache.weight())
    }
}

/// Weighs a token by its heap size.
#[derive(Clone)]
struct HeapSize;

impl Weighter<SignatureEnd, Entry> for HeapSize {
    fn weight(&self, _: &SignatureEnd, entry: &Entry) -> u64 {
        entry.token.heap_size().div_ceil(USUAL_SIZE) as u64
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenCache({})", self.count())
    }
}

/// Returns the end of the token's signature, which is the key of the cache entry. Returns `None` if
/// the token is too short to be a signed JWT. Such a token is never cached.
fn signature_end(token: &[u8]) -> Option<&SignatureEnd> {
    token.last_chunk().filter(|_| token.len() >= MIN_JWT_LENGTH)
}

fn sha256(token: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token).as_ref());
    bytes
}

/// The hasher of the cache. Signatures are random, so mixing their bits is enough. The
/// multiplication spreads the six random bits of each base64url character over the whole hash.
#[derive(Debug, Default)]
pub(crate) struct SignatureEndHasher(u64);

impl Hasher for SignatureEndHasher {
    fn write(&mut self, bytes: &[u8]) {
        for half in bytes.as_chunks().0 {
            let mixed = (self.0 ^ u64::from_le_bytes(*half)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.0 = mixed ^ (mixed >> 32);
        }
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// If the heap size of a token is at most this many bytes, the token counts as one token towards
/// the capacity of the cache. This size is enough for the claims of a Logto token and a few custom
/// claims.
const USUAL_SIZE: usize = 1024;
/// The minimum length of a token that is looked up. A shorter text cannot be a signed JWT, because
/// an ES256 signature alone has 86 characters.
const MIN_JWT_LENGTH: usize = 128;

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use super::*;
    use crate::testing::{TestIssuer, TokenBuilder};

    /// Validates a number of distinct tokens, and returns how many of them are still cached.
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
        // A token with 4 KiB of claims counts as five tokens.
        let large = |token: TokenBuilder| token.claim("note", "x".repeat(4096));
        assert_eq!(cached_of(50, 100, large).await, 20);
        // A token with 400 short audiences counts as six tokens. The audiences alone need 1.6 KiB
        // of text and 3.1 KiB of spans.
        let audience = [vec!["https://shopping.api"], vec!["x"; 400]].concat();
        let many = |token: TokenBuilder| token.claim("aud", audience.clone());
        assert_eq!(cached_of(50, 100, many).await, 16);
    }

    #[tokio::test]
    async fn tokens_that_are_no_longer_used_make_room_for_new_ones() {
        const CAPACITY: usize = 1_000;
        let logto = TestIssuer::start().await.unwrap();
        let trusted = logto.trusted("https://shopping.api");
        let validator = crate::Validator::builder().trust(trusted).build().unwrap();
        let accepted = validator.validate(&logto.token().build()).await.unwrap();
        // Only the length and the end of a token matter to the cache.
        let tokens = |series: char, count: usize| {
            let token = |number| {
                let digest = sha256(format!("{series}{number}").as_bytes());
                format!("{:0>128}", digest.map(|byte| format!("{byte:02x}")).concat())
            };
            (0..count).map(token).collect::<Vec<_>>()
        };
        let cache = TokenCache::new(CAPACITY);
        let hits_of_a_round = |tokens: &[String]| {
            let is_hit = |token: &&String| {
                let is_cached = cache.get(token.as_bytes()).is_some();
                if !is_cached {
                    cache.insert(token.as_bytes(), accepted.clone());
                }
                is_cached
            };
            tokens.iter().filter(is_hit).count()
        };
        let expired = tokens('a', CAPACITY);
        for _ in 0..3 {
            hits_of_a_round(&expired);
        }
        let renewed = tokens('b', CAPACITY * 65 / 100);
        for _ in 0..5 {
            hits_of_a_round(&renewed);
        }
        let hits = hits_of_a_round(&renewed);
        assert!(hits > renewed.len() * 8 / 10, "{hits} hits of {}", renewed.len());
    }

    #[tokio::test]
    async fn token_that_ends_like_a_cached_token_is_no_hit_and_removes_nothing() {
        let logto = TestIssuer::start().await.unwrap();
        let trusted = logto.trusted("https://shopping.api");
        let validator = crate::Validator::builder().trust(trusted).build().unwrap();
        let token = logto.token().build();
        validator.validate(&token).await.unwrap();
        let (header, rest) = token.split_once('.').unwrap();
        for other in [format!("{header}x.{rest}"), token.replacen("ey", "eY", 1)] {
            assert!(validator.cache().get(other.as_bytes()).is_none(), "{other}");
            validator.validate(&other).await.unwrap_err();
        }
        assert!(validator.cache().get(token.as_bytes()).is_some());
    }

    #[test]
    fn digest_depends_on_every_byte() {
        let token = b"header.payload.signature";
        let others =
            ["header.payload.signaturf", "header.payload.signature=", "header.payload", ""];
        for other in others {
            assert_ne!(sha256(token), sha256(other.as_bytes()));
        }
        assert_eq!(sha256(token), sha256(b"header.payload.signature"));
    }
}
