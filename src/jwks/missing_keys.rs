//! Remembers the key ids that are still missing from the key set after a refresh.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

/// The key ids that were still missing from the key set after a refresh. While no refresh is
/// permitted, tokens with these key ids are refused immediately.
///
/// The number of stored key ids is limited, so callers cannot fill the memory. The hashes are
/// seeded, so callers cannot find colliding ids.
#[derive(Debug, Default)]
pub(super) struct MissingKeys {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl MissingKeys {
    /// Adds a key id. If 1,024 key ids are already stored, removes all of them first.
    pub(super) fn insert(&mut self, kid: Option<&str>) {
        if self.hashes.len() >= MAX_MISSING_KEYS {
            self.hashes.clear();
        }
        self.hashes.insert(self.hasher.hash_one(kid));
    }

    pub(super) fn contains(&self, kid: Option<&str>) -> bool {
        self.hashes.contains(&self.hasher.hash_one(kid))
    }

    /// Removes the key ids that the refreshed key set contains.
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
    fn a_missing_key_is_remembered_until_it_is_published() {
        let mut missing = MissingKeys::default();
        missing.insert(Some("a"));
        missing.insert(None);
        assert!(missing.contains(Some("a")) && missing.contains(None));
        assert!(!missing.contains(Some("b")) && !missing.contains(Some("")));
        missing.remove_published([Some("a"), Some("c")].into_iter());
        assert!(!missing.contains(Some("a")) && missing.contains(None));
    }

    #[test]
    fn the_number_of_stored_key_ids_is_limited() {
        let mut missing = MissingKeys::default();
        for number in 0..10_000 {
            missing.insert(Some(&number.to_string()));
            assert!(missing.hashes.len() <= MAX_MISSING_KEYS);
        }
    }
}
