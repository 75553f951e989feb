//! The value of a claim, and the expected values.

use std::{fmt, sync::Arc};

use url::Url;

use crate::escape::escaped;

/// The unexpected value of a claim, and the expected values.
///
/// ```
/// use tower_logto::error::InvalidToken;
///
/// fn found_audience(reason: &InvalidToken) -> Option<&str> {
///     match reason {
///         InvalidToken::WrongAudience(mismatch) => Some(mismatch.found()),
///         _ => None,
///     }
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Mismatch {
    found: Box<str>,
    expected: Arc<[Box<str>]>,
}

impl Mismatch {
    pub(crate) fn new(found: &str, expected: &Arc<[Box<str>]>) -> Self {
        Self { found: escaped(found), expected: Arc::clone(expected) }
    }

    /// Returns the value in the token: untrusted text, escaped and cut after 80 characters.
    pub fn found(&self) -> &str {
        &self.found
    }

    /// Returns the values that the settings, the guard or the handler allows.
    pub fn expected(&self) -> impl Iterator<Item = &str> {
        self.expected.iter().map(AsRef::as_ref)
    }

    /// Returns whether the found value differs from an expected value only in trailing slashes.
    pub(crate) fn differs_by_a_slash(&self) -> bool {
        let bare = self.found.trim_end_matches('/');
        let mut others = self.expected().filter(|one| *one != self.found());
        others.any(|one| one.trim_end_matches('/') == bare)
    }

    /// Returns whether the found URL differs from an expected URL only in the host.
    pub(crate) fn differs_in_the_host_only(&self) -> bool {
        let Ok(found) = Url::parse(self.found()) else { return false };
        self.expected().filter_map(|one| Url::parse(one).ok()).any(|expected| {
            let port = found.port_or_known_default() == expected.port_or_known_default();
            let same = found.scheme() == expected.scheme() && found.path() == expected.path();
            port && same && found.host() != expected.host()
        })
    }

    /// Writes the expected values in quotes.
    pub(crate) fn write_expected(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expected().enumerate().try_for_each(|(position, one)| {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{one:?}")
        })
    }
}

/// Writes `"found", expected "one", "other"`, and a hint if a trailing slash is the only
/// difference.
impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\", expected ", self.found)?;
        self.write_expected(f)?;
        f.write_str(if self.differs_by_a_slash() { ": mind the trailing slash" } else { "" })
    }
}

impl fmt::Debug for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{ found: \"{}\", expected: {:?} }}", self.found, self.expected)
    }
}
