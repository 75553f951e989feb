//! Escapes untrusted text for logs and errors.

use std::{
    borrow::Cow,
    error::Error,
    fmt::{self, Write as _},
    ops::BitAnd,
};

/// Untrusted text that was escaped, and cut if it was long. `Display` and `Debug` write the text in
/// quotes.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(not(feature = "testing"), allow(unreachable_pub, reason = "exported by `testing`"))]
pub struct Escaped(Box<str>);

impl Escaped {
    pub(crate) fn new(text: &str) -> Self {
        Self(escaped(text))
    }

    /// Returns the message of an error's innermost source, escaped and cut after 200 characters.
    /// Such a message describes, for example, a refused connection or an invalid certificate.
    pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> Self {
        let mut innermost = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        Self(escape(&innermost.to_string(), 200))
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

/// Returns the text, escaped and cut after 80 characters.
pub(crate) fn escaped(text: &str) -> Box<str> {
    escape(text, 80)
}

/// Writes text from the user's code, and does not cut the text. Escapes control characters, because
/// these could forge a log line.
pub(crate) fn write_printable(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.chars().try_for_each(|c| match c {
        '"' | '\'' | '\\' => f.write_char(c),
        _ => write!(f, "{}", c.escape_debug()),
    })
}

fn escape(text: &str, length: usize) -> Box<str> {
    if text.len() <= length && all_quotable(text) {
        return text.into();
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
    escaped.into()
}

/// Returns whether every challenge parameter may contain the character in its quoted value.
/// RFC 6750 §3 allows printable ASCII except `"` and `\`.
pub(crate) const fn is_quotable(c: char) -> bool {
    matches!(c, ' ' | '!' | '#'..='[' | ']'..='~')
}

/// Returns whether all characters are quotable.
///
/// The loop has no early exit, so it compiles to a few vector instructions.
pub(crate) fn all_quotable(text: &str) -> bool {
    let quotable = |byte| (b' '..=b'~').contains(&byte) & (byte != b'"') & (byte != b'\\');
    text.bytes().map(quotable).fold(true, BitAnd::bitand)
}

/// Returns the URL with `…` in place of a user name and password. `Debug` output uses this form.
pub(crate) fn without_user_info(text: &str) -> Cow<'_, str> {
    let start = text.find("//").map_or(0, |slashes| slashes + 2);
    let authority = text.get(start..).unwrap_or_default();
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rfind('@') {
        Some(at) => [&text[..start], "…", &text[start + at..]].concat().into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_is_escaped_and_cut() {
        let text = format!("a\"b\r\n\u{1b}[31m\u{202e}é{}", "x".repeat(1000));
        let escaped = Escaped::new(&text).to_string();
        assert!(escaped.chars().all(|c| c.is_ascii_graphic() || c == ' ' || c == '…'), "{escaped}");
        assert!(escaped.starts_with("\"a\\\"b\\r\\n\\u{1b}[31m\\u{202e}\\u{e9}xxx"), "{escaped}");
        assert!(escaped.len() < 200);
    }

    #[test]
    fn printable_text_is_kept_and_control_characters_are_escaped() {
        struct Printable(&'static str);
        impl fmt::Display for Printable {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_printable(f, self.0)
            }
        }
        for (text, written) in [
            (r#"the plan "é" doesn't allow \exports"#, r#"the plan "é" doesn't allow \exports"#),
            ("a\r\nb\u{1b}[31m\u{202e}", r"a\r\nb\u{1b}[31m\u{202e}"),
        ] {
            assert_eq!(Printable(text).to_string(), written);
        }
    }

    #[test]
    fn debug_output_shows_no_user_info() {
        for (text, shown) in [
            ("https://tenant.logto.app/oidc", "https://tenant.logto.app/oidc"),
            ("https://alice:secret@logto/oidc", "https://…@logto/oidc"),
            ("https://a@b@logto/oidc?c=@", "https://…@logto/oidc?c=@"),
            ("alice:secret@logto", "…@logto"),
            ("https://logto/@path", "https://logto/@path"),
            ("", ""),
        ] {
            assert_eq!(without_user_info(text), shown);
        }
    }
}
