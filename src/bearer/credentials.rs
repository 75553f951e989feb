//! Reads the `Authorization` header (RFC 6750 §2.1).

use http::{HeaderMap, header::AUTHORIZATION};

/// The content of a request's `Authorization` headers (RFC 6750 §2.1).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credentials<'a> {
    /// No `Authorization` header, or a header with a scheme other than `Bearer`.
    None,
    /// The bytes after `Bearer `. They are not checked yet, and are not necessarily UTF-8.
    Bearer(&'a [u8]),
    /// `Bearer` without a token, or `Bearer` directly followed by a tab.
    Malformed,
    /// More than one `Authorization` header.
    Several,
}

/// Reads the credentials. Marks every `Authorization` value as sensitive, so `Debug` output hides
/// the value.
pub(crate) fn read(headers: &mut HeaderMap) -> Credentials<'_> {
    if headers.get_all(AUTHORIZATION).iter().nth(1).is_some() {
        if let http::header::Entry::Occupied(mut entry) = headers.entry(AUTHORIZATION) {
            entry.iter_mut().for_each(|value| value.set_sensitive(true));
        }
        return Credentials::Several;
    }
    let Some(value) = headers.get_mut(AUTHORIZATION) else { return Credentials::None };
    value.set_sensitive(true);
    credentials(value.as_bytes())
}

fn credentials(value: &[u8]) -> Credentials<'_> {
    const SCHEME: &[u8] = b"bearer";
    let Some((scheme, rest)) = value.split_at_checked(SCHEME.len()) else {
        return Credentials::None;
    };
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Credentials::None;
    }
    match rest {
        [] => Credentials::Malformed,
        // RFC 9110 §11.4: one or more spaces separate scheme and token.
        [b' ', rest @ ..] => match without_leading_spaces(rest) {
            [] => Credentials::Malformed,
            token => Credentials::Bearer(token),
        },
        // RFC 9110 §11.4 allows spaces only. Without this arm, a request with a tab after `Bearer`
        // would count as a request without credentials.
        [b'\t', ..] => Credentials::Malformed,
        // Another scheme, such as `Bearerish`.
        _ => Credentials::None,
    }
}

const fn without_leading_spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] = text {
        text = rest;
    }
    text
}

/// Returns whether the text is a `b64token` (RFC 6750 §2.1).
pub(crate) fn is_b64token(token: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    let mut body = token.iter().rev().skip_while(|byte| **byte == b'=').peekable();
    body.peek().is_some() && body.all(allowed)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_bytes(value).unwrap())).fold(
            HeaderMap::new(),
            |mut map, (name, value)| {
                map.append(name, value);
                map
            },
        )
    }

    #[test]
    fn rfc_6750_section_2_1_credentials() {
        use Credentials::{Bearer, Malformed, None, Several};
        for (values, expected) in [
            (&[][..], None),
            (&[&b"Bearer abc"[..]], Bearer(b"abc")),
            (&[b"bEaReR abc"], Bearer(b"abc")),
            (&[b"Bearer   abc"], Bearer(b"abc")),
            (&[b"Bearer a b"], Bearer(b"a b")),
            (&[b"Bearer \tabc"], Bearer(b"\tabc")),
            (&[b"Bearer"], Malformed),
            (&[b"Bearer "], Malformed),
            (&[b"Bearer \xff"], Bearer(b"\xff")),
            (&[b"Bearer\tabc"], Malformed),
            (&[b"Bearerish abc"], None),
            (&[b"Basic abc"], None),
            (&[b""], None),
            (&[b"Bearer a", b"Bearer a"], Several),
            (&[b"Basic a", b"Bearer b"], Several),
        ] {
            let mut map = headers(values);
            assert_eq!(read(&mut map), expected, "{values:?}");
            assert!(map.get_all(AUTHORIZATION).iter().all(HeaderValue::is_sensitive));
        }
    }

    #[test]
    fn is_b64token_follows_the_grammar_of_rfc_6750() {
        for (token, expected) in [
            ("abcXYZ019-._~+/", true),
            ("abc==", true),
            ("a=b", false),
            ("==", false),
            ("", false),
            ("a b", false),
            ("a\"b", false),
            ("é", false),
        ] {
            assert_eq!(is_b64token(token.as_bytes()), expected, "{token:?}");
        }
    }
}
