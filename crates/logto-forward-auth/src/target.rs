//! Checks a raw request target (RFC 9112 §3.2) and splits its path into segments.
//!
//! Proxies and services disagree about how to normalize a path. This module therefore never
//! normalizes a target, and refuses every target whose meaning depends on the normalization. For
//! example, suppose that this module accepted `/products/../admin`. A rule for `/products/{*rest}`
//! could then permit the request, although nginx with `proxy_pass http://app/` would send `/admin`
//! to the service.

use std::fmt;

/// The reason why a request target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadTarget {
    /// The target does not start with a slash, so it is not in origin form (RFC 9112 §3.2.1).
    NotOriginForm,
    /// A control character or a space in the path or in the query.
    ControlByte,
    /// `\`, `;` or `#` in the path.
    ReservedByte,
    /// A percent sign without two hexadecimal digits.
    BadEscape,
    /// A percent-encoded character that changes the structure of the path for some parsers.
    ReservedEscape,
    /// The percent-decoded path is not UTF-8.
    NotUtf8,
    /// `//` in the path.
    EmptySegment,
    /// The segment `.` or `..` in the path.
    DotSegment,
}

impl fmt::Display for BadTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOriginForm => "the target does not start with a slash",
            Self::ControlByte => "the target has a control character or a space",
            Self::ReservedByte => "the path has a backslash, a semicolon or a number sign",
            Self::BadEscape => "the path has a percent sign without two hexadecimal digits",
            Self::ReservedEscape => {
                "the path has a percent-encoded slash, backslash, dot, percent sign, semicolon, \
                 number sign, question mark or control character"
            }
            Self::NotUtf8 => "the path is not UTF-8",
            Self::EmptySegment => "the path has an empty segment",
            Self::DotSegment => "the path has a dot segment",
        })
    }
}

/// Returns the percent-decoded segments of the path. If the path ends with a slash, the last
/// segment is empty.
pub(crate) fn segments(target: &[u8]) -> Result<Vec<String>, BadTarget> {
    if target.first() != Some(&b'/') {
        return Err(BadTarget::NotOriginForm);
    }
    if target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return Err(BadTarget::ControlByte);
    }
    let path = path_of(target);
    if path.iter().any(|byte| is_reserved(*byte)) {
        return Err(BadTarget::ReservedByte);
    }
    let mut segments = Vec::new();
    let mut raw = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = raw.next() {
        if segment.is_empty() && raw.peek().is_some() {
            return Err(BadTarget::EmptySegment);
        }
        if segment == b"." || segment == b".." {
            return Err(BadTarget::DotSegment);
        }
        segments.push(decode(segment)?);
    }
    Ok(segments)
}

/// Returns the part of the target before the query. A query may contain secrets, so logs show only
/// the path.
pub(crate) fn path_of(target: &[u8]) -> &[u8] {
    target.split(|byte| *byte == b'?').next().unwrap_or_default()
}

fn decode(segment: &[u8]) -> Result<String, BadTarget> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let (Some(high), Some(low)) = (hex(bytes.next()), hex(bytes.next())) else {
            return Err(BadTarget::BadEscape);
        };
        let byte = high << 4 | low;
        if is_reserved(byte) || byte.is_ascii_control() || b"/.%?".contains(&byte) {
            return Err(BadTarget::ReservedEscape);
        }
        decoded.push(byte);
    }
    let decoded = String::from_utf8(decoded).map_err(|_| BadTarget::NotUtf8)?;
    // Refuses the control characters from U+0080 to U+009F. The other control characters were
    // refused above.
    if decoded.chars().any(char::is_control) {
        return Err(BadTarget::ControlByte);
    }
    Ok(decoded)
}

/// Returns whether some parsers treat the character as a separator or as the end of the path.
pub(crate) const fn is_reserved(byte: u8) -> bool {
    matches!(byte, b'\\' | b';' | b'#')
}

fn hex(digit: Option<&u8>) -> Option<u8> {
    let digit = char::from(*digit?).to_digit(16)?;
    u8::try_from(digit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_targets_are_refused() {
        use BadTarget::*;
        for (target, expected) in [
            (&b""[..], NotOriginForm),
            (b"*", NotOriginForm),
            (b"http://app/products", NotOriginForm),
            (b"\\products", NotOriginForm),
            (b"/products/../admin", DotSegment),
            (b"/products/./admin", DotSegment),
            (b"/products/..", DotSegment),
            (b"/..?x", DotSegment),
            (b"//admin", EmptySegment),
            (b"/products//admin", EmptySegment),
            (b"/products//", EmptySegment),
            (b"/products\\..\\admin", ReservedByte),
            (b"/products;x=1", ReservedByte),
            (b"/products/..;/admin", ReservedByte),
            (b"/products#/admin", ReservedByte),
            (b"/products%2Fadmin", ReservedEscape),
            (b"/products%2fadmin", ReservedEscape),
            (b"/products%5C..", ReservedEscape),
            (b"/products%5c..", ReservedEscape),
            (b"/%2E%2E/admin", ReservedEscape),
            (b"/%2e%2e/admin", ReservedEscape),
            (b"/.%2e/admin", ReservedEscape),
            (b"/%252e%252e/admin", ReservedEscape),
            (b"/products%00", ReservedEscape),
            (b"/products%0d%0aX:y", ReservedEscape),
            (b"/products%7f", ReservedEscape),
            (b"/products%3Bx", ReservedEscape),
            (b"/products%23x", ReservedEscape),
            (b"/products%3Fx", ReservedEscape),
            (b"/products%", BadEscape),
            (b"/products%2", BadEscape),
            (b"/products%zz", BadEscape),
            (b"/products%+1", BadEscape),
            (b"/products%u002e", BadEscape),
            (b"/%c0%ae%c0%ae/admin", NotUtf8),
            (b"/%ff", NotUtf8),
            (b"/\xff", NotUtf8),
            (b"/\xc0\xaf", NotUtf8),
            (b"/%c2%85", ControlByte),
            (b"/products admin", ControlByte),
            (b"/products\tadmin", ControlByte),
            (b"/products?x=\x01", ControlByte),
            (b"/products?x=\x7f", ControlByte),
        ] {
            let found = segments(target);
            assert_eq!(found, Err(expected), "{}", target.escape_ascii());
        }
    }

    #[test]
    fn plain_targets_are_decoded_once() {
        for (target, expected) in [
            (&b"/"[..], &[""][..]),
            (b"/products", &["products"]),
            (b"/products/", &["products", ""]),
            (b"/%61dmin", &["admin"]),
            (b"/caf%C3%A9", &["café"]),
            ("/café".as_bytes(), &["café"]),
            (b"/a%20b/c+d", &["a b", "c+d"]),
            (b"/file.txt/...", &["file.txt", "..."]),
            (b"/products?next=/../%2e%2e//;#x", &["products"]),
            (b"/products?%00", &["products"]),
        ] {
            assert_eq!(segments(target).unwrap(), expected, "{}", target.escape_ascii());
        }
    }
}
