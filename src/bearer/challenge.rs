//! Writes the `WWW-Authenticate` header (RFC 6750 §3, RFC 9728 §5.1).

use std::{fmt, sync::OnceLock};

use http::HeaderValue;

use crate::escape::{is_quotable, without_user_info};

/// The parameters that all challenges of a validator share (RFC 6750 §3, RFC 9728 §5.1).
#[derive(Default)]
pub(crate) struct ChallengeSettings {
    pub(crate) realm: Option<String>,
    pub(crate) resource_metadata: Option<String>,
    /// Whether guards must name the issuer, and whether they must name the audience. Guards read
    /// these flags through the token, because every accepted token holds a reference to these
    /// settings.
    pub(crate) guards_name: GuardsName,
    /// The level at which refusals are logged.
    pub(crate) log_level: RefusalLevel,
    /// Cache of rendered challenges, keyed by error and description.
    rendered: [OnceLock<(ErrorAndDescription, HeaderValue)>; MAX_RENDERED],
}

impl fmt::Debug for ChallengeSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resource_metadata = self.resource_metadata.as_deref().map(without_user_info);
        f.debug_struct("ChallengeSettings")
            .field("realm", &self.realm)
            .field("resource_metadata", &resource_metadata)
            .finish_non_exhaustive()
    }
}

/// Whether a guard must name the issuer, and whether it must name the audience. If the validator
/// has several issuers, a guard must name the issuer. If the validator has several audiences, a
/// guard must name the audience. With `trust_all_alike`, a guard need not name either. In the field
/// `AccessToken::named`, the flags have another meaning. They record whether the issuer has been
/// named, and whether the audience has been named.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct GuardsName {
    pub(crate) issuer: bool,
    pub(crate) audience: bool,
}

/// The level at which refusals are logged. The default is debug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RefusalLevel(pub(crate) tracing::Level);

impl Default for RefusalLevel {
    fn default() -> Self {
        Self(tracing::Level::DEBUG)
    }
}

impl RefusalLevel {
    /// Returns whether the maximum level of the `tracing` subscribers includes this level.
    pub(crate) fn is_enabled(self) -> bool {
        self.0 <= tracing::level_filters::LevelFilter::current()
    }
}

type ErrorAndDescription = (Option<&'static str>, Option<&'static str>);

/// The parameters of a challenge that depend on the refusal.
#[derive(Default, Clone, Copy)]
pub(crate) struct ChallengeError<'a> {
    pub(crate) error: Option<&'static str>,
    pub(crate) description: Option<&'static str>,
    pub(crate) scope: Option<&'a dyn std::fmt::Display>,
}

impl ChallengeSettings {
    /// Returns the value of `WWW-Authenticate`.
    pub(crate) fn header(&self, error: ChallengeError<'_>) -> HeaderValue {
        let key = (error.error, error.description);
        let slots = if error.scope.is_none() { self.rendered.as_slice() } else { &[] };
        // The search stops at the slot with this key. If no slot has the key, `get_or_init` stores
        // the rendered challenge in the first free slot.
        let mut slots = slots.iter().map(|slot| slot.get_or_init(|| (key, self.render(error))));
        let rendered = slots.find(|(rendered_key, _)| *rendered_key == key);
        rendered.map_or_else(|| self.render(error), |(_, header)| header.clone())
    }

    fn render(&self, error: ChallengeError<'_>) -> HeaderValue {
        if self.realm.is_none() && self.resource_metadata.is_none() && error.error.is_none() {
            return HeaderValue::from_static("Bearer");
        }
        let scope = error.scope.map(ToString::to_string);
        let parameters = [
            ("realm", self.realm.as_deref()),
            ("error", error.error),
            ("error_description", error.description),
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

/// The maximum number of cached challenges. A validator never reaches this maximum, because the
/// error description in a challenge is one of a few constant texts.
const MAX_RENDERED: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_have_the_syntax_of_rfc_6750_section_3() {
        let bare = ChallengeSettings::default();
        assert_eq!(bare.header(ChallengeError::default()), "Bearer");
        let scope = "read:products write:products";
        let refusal = ChallengeError {
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
    fn no_character_ends_a_quoted_string() {
        let scope = "a\"\r\nSet-Cookie: x=\u{1}\\é";
        let header = ChallengeSettings::default().header(ChallengeError {
            error: Some("insufficient_scope"),
            description: None,
            scope: Some(&scope),
        });
        assert_eq!(header, "Bearer error=\"insufficient_scope\", scope=\"aSet-Cookie: x=\"");
    }
}
