//! RFC 6750 on the wire, both ways: reads `Authorization`, writes `WWW-Authenticate`.

use std::{ops::BitAnd, sync::OnceLock};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

/// What the `Authorization` headers of a request hold (RFC 6750 §2.1).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credentials<'a> {
    /// None, or those of another scheme.
    None,
    /// The text behind `Bearer `, not yet looked at.
    Bearer(&'a str),
    /// `Bearer` without a token, or with bytes that are not text.
    Malformed,
    /// More than one header.
    Several,
}

/// Reads the credentials, and marks every `Authorization` value sensitive so that no log prints it.
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
        // RFC 9110 §11.4: one space or more between scheme and token.
        [b' ', rest @ ..] => {
            match std::str::from_utf8(rest).map(|rest| rest.trim_start_matches(' ')) {
                Ok("") | Err(_) => Credentials::Malformed,
                Ok(token) => Credentials::Bearer(token),
            }
        }
        // `Bearerish`, another scheme.
        _ => Credentials::None,
    }
}

/// Whether this is a `b64token` of RFC 6750 §2.1.
pub(crate) fn is_b64token(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !body.is_empty() && body.bytes().all(allowed)
}

/// What every challenge of one resource server says about itself (RFC 6750 §3, RFC 9728 §5.1).
#[derive(Debug, Default)]
pub(crate) struct ChallengeSettings {
    pub(crate) realm: Option<String>,
    pub(crate) resource_metadata: Option<String>,
    /// Challenges that were written before: there are no more than descriptions.
    written: [OnceLock<(Description, HeaderValue)>; DESCRIPTIONS],
}

type Description = (Option<&'static str>, Option<&'static str>);

/// The part of a challenge that depends on the refusal.
#[derive(Default, Clone, Copy)]
pub(crate) struct Refusal<'a> {
    pub(crate) error: Option<&'static str>,
    pub(crate) description: Option<&'static str>,
    pub(crate) scope: Option<&'a dyn std::fmt::Display>,
}

impl ChallengeSettings {
    /// The value of `WWW-Authenticate`.
    pub(crate) fn header(&self, refusal: Refusal<'_>) -> HeaderValue {
        let wanted = (refusal.error, refusal.description);
        let slots = if refusal.scope.is_none() { self.written.as_slice() } else { &[] };
        let mut slots = slots.iter().map(|slot| slot.get_or_init(|| (wanted, self.write(refusal))));
        let written = slots.find(|(description, _)| *description == wanted);
        written.map_or_else(|| self.write(refusal), |(_, header)| header.clone())
    }

    fn write(&self, refusal: Refusal<'_>) -> HeaderValue {
        if self.realm.is_none() && self.resource_metadata.is_none() && refusal.error.is_none() {
            return HeaderValue::from_static("Bearer");
        }
        let scope = refusal.scope.map(ToString::to_string);
        let parameters = [
            ("realm", self.realm.as_deref()),
            ("error", refusal.error),
            ("error_description", refusal.description),
            ("scope", scope.as_deref()),
            ("resource_metadata", self.resource_metadata.as_deref()),
        ];
        let mut text = String::from("Bearer");
        let mut separator = " ";
        for (name, value) in parameters.into_iter().filter_map(|(name, value)| Some((name, value?)))
        {
            text.extend([separator, name, "=\""]);
            text.extend(value.chars().filter(|c| is_quotable(*c)));
            text.push('"');
            separator = ", ";
        }
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"))
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

/// More than there are: each refusal has one, and no other.
const DESCRIPTIONS: usize = 32;

#[cfg(test)]
mod tests {
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
            (&[&b"Bearer abc"[..]], Bearer("abc")),
            (&[b"bEaReR abc"], Bearer("abc")),
            (&[b"Bearer   abc"], Bearer("abc")),
            (&[b"Bearer a b"], Bearer("a b")),
            (&[b"Bearer \tabc"], Bearer("\tabc")),
            (&[b"Bearer"], Malformed),
            (&[b"Bearer "], Malformed),
            (&[b"Bearer \xff"], Malformed),
            (&[b"Bearer\tabc"], None),
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
    fn the_b64token_grammar() {
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
            assert_eq!(is_b64token(token), expected, "{token:?}");
        }
    }

    #[test]
    fn challenges_are_written_in_rfc_6750_section_3_syntax() {
        let bare = ChallengeSettings::default();
        assert_eq!(bare.header(Refusal::default()), "Bearer");
        let scope = "read:products write:products";
        let refusal = Refusal {
            error: Some("insufficient_scope"),
            description: Some("a scope is missing"),
            scope: Some(&scope),
        };
        let settings = ChallengeSettings {
            realm: Some("shop, \"north\"".into()),
            resource_metadata: Some("https://shop/.well-known/oauth-protected-resource".into()),
            ..ChallengeSettings::default()
        };
        assert_eq!(settings.header(refusal), settings.header(refusal));
        assert_eq!(
            settings.header(refusal),
            "Bearer realm=\"shop, north\", error=\"insufficient_scope\", \
             error_description=\"a scope is missing\", scope=\"read:products write:products\", \
             resource_metadata=\"https://shop/.well-known/oauth-protected-resource\""
        );
    }

    #[test]
    fn nothing_breaks_out_of_a_quoted_string() {
        let scope = "a\"\r\nSet-Cookie: x=\u{1}\\é";
        let header = ChallengeSettings::default().header(Refusal {
            error: Some("insufficient_scope"),
            description: None,
            scope: Some(&scope),
        });
        assert_eq!(header, "Bearer error=\"insufficient_scope\", scope=\"aSet-Cookie: x=\"");
    }
}
