//! Untrusted text, made safe for logs and errors.

use std::{error::Error, fmt, ops::BitAnd};

/// A stranger's text, safe to print: escaped, and cut after 80 characters (a cause after 200).
#[derive(Clone, PartialEq, Eq)]
pub struct Escaped(pub(crate) Box<str>);

impl Escaped {
    pub(crate) fn new(text: &str) -> Self {
        Self::cut(text, 80)
    }

    /// What is at the bottom of an error: the refused connection, the certificate that is wrong.
    pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> Self {
        let mut bottom = error;
        while let Some(source) = bottom.source() {
            bottom = source;
        }
        Self::cut(&bottom.to_string(), 200)
    }

    fn cut(text: &str, length: usize) -> Self {
        if text.len() <= length && all_quotable(text) {
            return Self(text.into());
        }
        let mut escaped = String::with_capacity(text.len().min(length));
        let mut characters = text.chars();
        characters.by_ref().take(length).for_each(|c| {
            if is_quotable(c) {
                escaped.push(c);
            } else {
                escaped.extend(c.escape_default());
            }
        });
        if characters.next().is_some() {
            escaped.push('…');
        }
        Self(escaped.into())
    }
}

impl fmt::Display for Escaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

impl fmt::Debug for Escaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a character may stand between the quotes of any parameter of a challenge
/// (RFC 6750 §3: printable ASCII, neither `"` nor `\`).
pub(crate) const fn is_quotable(c: char) -> bool {
    matches!(c, ' ' | '!' | '#'..='[' | ']'..='~')
}

/// Without an early end, so that it compiles to a few vector instructions.
pub(crate) fn all_quotable(text: &str) -> bool {
    let quotable = |byte| (b' '..=b'~').contains(&byte) & (byte != b'"') & (byte != b'\\');
    text.bytes().map(quotable).fold(true, BitAnd::bitand)
}
