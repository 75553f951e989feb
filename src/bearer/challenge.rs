//! Writes the `WWW-Authenticate` header (RFC 6750 §3, RFC 9728 §5.1).

use std::sync::OnceLock;

use http::HeaderValue;

use crate::escape::is_quotable;

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

/// More than there are: each refusal has one, and no other.
const DESCRIPTIONS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

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
