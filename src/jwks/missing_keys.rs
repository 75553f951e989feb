//! Remembers key ids that no refresh has brought.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

/// Key ids that were asked for and not published at the time: a bounded set of seeded hashes, so
/// that a caller can neither fill the memory nor find colliding ids.
#[derive(Debug, Default)]
pub(super) struct MissingKeys {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl MissingKeys {
    /// Adds a key id that a refresh did not bring. A full set starts anew.
    pub(super) fn insert(&mut self, kid: Option<&str>) {
        if self.hashes.len() >= MAX_MISSING_KEYS {
            self.hashes.clear();
        }
        self.hashes.insert(self.hasher.hash_one(kid));
    }

    pub(super) fn contains(&self, kid: Option<&str>) -> bool {
        self.hashes.contains(&self.hasher.hash_one(kid))
    }

    /// Removes the key ids that a refresh has brought.
    pub(super) fn remove_published<'a>(&mut self, kids: impl Iterator<Item = Option<&'a str>>) {
        for kid in kids {
            self.hashes.remove(&self.hasher.hash_one(kid));
        }
    }
}

const MAX_MISSING_KEYS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_key_is_known_until_it_is_published() {
        let mut missing = MissingKeys::default();
        missing.insert(Some("a"));
        missing.insert(None);
        assert!(missing.contains(Some("a")) && missing.contains(None));
        assert!(!missing.contains(Some("b")) && !missing.contains(Some("")));
        missing.remove_published([Some("a"), Some("c")].into_iter());
        assert!(!missing.contains(Some("a")) && missing.contains(None));
    }

    #[test]
    fn the_set_is_bounded() {
        let mut missing = MissingKeys::default();
        for number in 0..10_000 {
            missing.insert(Some(&number.to_string()));
            assert!(missing.hashes.len() <= MAX_MISSING_KEYS);
        }
    }
}
