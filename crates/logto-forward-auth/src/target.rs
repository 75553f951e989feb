//! Reads the path of the original request. What proxies and services could read differently is
//! refused, and nothing is normalized.

use std::fmt;

use percent_encoding::percent_decode_str;

/// The decoded segments of a path. `/products/` has two: `products`, and an empty one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Segments(pub(crate) Vec<String>);

/// Why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetError {
    NotAPath,
    EmptySegment,
    DotSegment,
    Character(char),
    NotUtf8,
}

/// Reads the target of a request line: a path, and perhaps a query, which no rule looks at.
pub(crate) fn segments(target: &str) -> Result<Segments, TargetError> {
    if let Some(control) = target.chars().find(|c| c.is_control() || *c == '#' || *c == ' ') {
        return Err(TargetError::Character(control));
    }
    let path = target.split('?').next().unwrap_or_default();
    let path = path.strip_prefix('/').ok_or(TargetError::NotAPath)?;
    let segments: Vec<_> = path.split('/').collect();
    let last = segments.len().saturating_sub(1);
    let decoded = segments.iter().enumerate().map(|(position, segment)| {
        // Only the last segment may be empty: `/` and `/products/`.
        if segment.is_empty() && position != last {
            return Err(TargetError::EmptySegment);
        }
        decode(segment)
    });
    decoded.collect::<Result<_, _>>().map(Segments)
}

fn decode(segment: &str) -> Result<String, TargetError> {
    let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| TargetError::NotUtf8)?;
    if let Some(found) = decoded.chars().find(|c| c.is_control() || AMBIGUOUS.contains(c)) {
        return Err(TargetError::Character(found));
    }
    // A service may remove an encoded dot segment, and so may a proxy in front of it.
    let is_dots = matches!(&*decoded, "." | "..");
    if is_dots || segment.to_ascii_lowercase().contains("%2e") {
        return Err(TargetError::DotSegment);
    }
    Ok(decoded.into_owned())
}

/// Characters that some servers take for a separator, encoded or not, and the escape itself.
const AMBIGUOUS: [char; 6] = ['/', '\\', ';', '#', '?', '%'];

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPath => f.write_str("the target does not begin with a slash"),
            Self::EmptySegment => f.write_str("the path has an empty segment (//)"),
            Self::DotSegment => f.write_str("the path has a dot segment, or an encoded dot"),
            Self::Character(found) => write!(f, "the path contains {found:?}"),
            Self::NotUtf8 => f.write_str("the path is not UTF-8"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_split_and_decoded() {
        for (target, expected) in [
            ("/", &[""][..]),
            ("/products", &["products"]),
            ("/products/", &["products", ""]),
            ("/a/b?c=/../d;e", &["a", "b"]),
            ("/%61dmin", &["admin"]),
            ("/caf%C3%A9", &["café"]),
            ("/a.b/.well-known", &["a.b", ".well-known"]),
        ] {
            let found = segments(target).unwrap();
            assert_eq!(found.0, expected, "{target}");
        }
    }

    #[test]
    fn targets_that_servers_read_differently_are_refused() {
        use TargetError::{Character, DotSegment, EmptySegment, NotAPath, NotUtf8};
        for (target, reason) in [
            ("", NotAPath),
            ("*", NotAPath),
            ("http://shop/products", NotAPath),
            ("products", NotAPath),
            ("//products", EmptySegment),
            ("/products//1", EmptySegment),
            ("/products/../admin", DotSegment),
            ("/products/./1", DotSegment),
            ("/products/..", DotSegment),
            ("/products/%2e%2e/admin", DotSegment),
            ("/products/%2E./admin", DotSegment),
            ("/products/a%2Eb", DotSegment),
            ("/products/..;/admin", Character(';')),
            ("/products;x=1", Character(';')),
            ("/products%3Bx", Character(';')),
            ("/products\\..\\admin", Character('\\')),
            ("/products%5C..%5Cadmin", Character('\\')),
            ("/products%2F..%2Fadmin", Character('/')),
            ("/products%2fadmin", Character('/')),
            ("/products%252Fadmin", Character('%')),
            ("/products%00", Character('\0')),
            ("/products%0d%0aX", Character('\r')),
            ("/products%3Fx", Character('?')),
            ("/products%23x", Character('#')),
            ("/products#x", Character('#')),
            ("/products x", Character(' ')),
            ("/products\u{7f}", Character('\u{7f}')),
            ("/%ff", NotUtf8),
            ("/%zz", Character('%')),
            ("/%", Character('%')),
        ] {
            assert_eq!(segments(target), Err(reason), "{target:?}");
        }
    }
}
