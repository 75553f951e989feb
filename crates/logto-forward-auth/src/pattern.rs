//! The path pattern of a rule.

use crate::target::is_reserved;

/// A path pattern. It consists of literal segments and of parameters. `{name}` matches one segment.
/// `{*rest}` matches all remaining segments, and must be the last segment of the pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Parameter(String),
    Rest,
}

/// How literal segments are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    /// Byte for byte.
    Exactly,
    /// Ignores ASCII case and a trailing slash, because some services ignore them.
    Loosely,
}

/// A segment of a path, or a part of a pattern. Both are converted to pieces, so one function can
/// compare them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Literal(&'a str),
    Parameter,
    Rest,
}

impl Pattern {
    /// Parses a pattern. The error says what is wrong and how to fix it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err(format!(
                "{text:?} does not start with a slash; write a path such as \"/products\""
            ));
        };
        let mut parts = Vec::new();
        let mut segments = path.split('/').peekable();
        while let Some(segment) = segments.next() {
            let is_last = segments.peek().is_none();
            let part =
                Part::parse(segment, is_last).map_err(|error| format!("{text:?} {error}"))?;
            if matches!(part, Part::Parameter(_)) && parts.contains(&part) {
                return Err(format!(
                    "{text:?} has {segment} twice; give each parameter a different name"
                ));
            }
            parts.push(part);
        }
        Ok(Self(parts))
    }

    /// Returns whether the pattern matches a path.
    pub(crate) fn matches(&self, segments: &[String], compare: Compare) -> bool {
        let pieces: Vec<_> = segments.iter().map(|one| Piece::Literal(one)).collect();
        self.covers_pieces(&pieces, compare)
    }

    /// Returns whether the pattern matches every path that the other pattern matches.
    pub(crate) fn covers(&self, other: &Self, compare: Compare) -> bool {
        let pieces: Vec<_> = other.0.iter().map(Part::piece).collect();
        self.covers_pieces(&pieces, compare)
    }

    /// Returns whether the pattern has a parameter with this name.
    pub(crate) fn has_parameter(&self, name: &str) -> bool {
        self.position_of(name).is_some()
    }

    /// Returns the value of a parameter in a path that the pattern matches.
    pub(crate) fn parameter<'a>(&self, name: &str, segments: &'a [String]) -> Option<&'a str> {
        segments.get(self.position_of(name)?).map(String::as_str)
    }

    fn position_of(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|part| matches!(part, Part::Parameter(other) if other == name))
    }

    fn covers_pieces(&self, mut theirs: &[Piece<'_>], compare: Compare) -> bool {
        let pieces: Vec<_> = self.0.iter().map(Part::piece).collect();
        let mut mine = pieces.as_slice();
        let loosely = compare == Compare::Loosely;
        if loosely {
            mine = without_trailing_slash(mine);
            theirs = without_trailing_slash(theirs);
        }
        loop {
            match (mine.split_first(), theirs.split_first()) {
                (None, None) => return true,
                (Some((Piece::Rest, _)), rest) => return rest.is_some() || loosely,
                (Some((one, more)), Some((other, others))) if one.covers(*other, loosely) => {
                    (mine, theirs) = (more, others);
                }
                _ => return false,
            }
        }
    }
}

impl Part {
    fn parse(segment: &str, is_last: bool) -> Result<Self, String> {
        if let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let (name, is_rest) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_name) {
                return Err(format!(
                    "has the parameter {segment}; a name consists of letters, digits and _"
                ));
            }
            return match (is_rest, is_last) {
                (true, false) => Err(format!("has {segment} before the end; move it to the end")),
                (true, true) => Ok(Self::Rest),
                (false, _) => Ok(Self::Parameter(name.into())),
            };
        }
        if segment.contains(['{', '}']) {
            return Err(format!(
                "has {segment:?}; a parameter must be a whole segment, such as \"/{{name}}\""
            ));
        }
        if segment.is_empty() && !is_last {
            return Err(
                "has an empty segment, which is refused in every request; remove a slash".into()
            );
        }
        if segment == "." || segment == ".." {
            return Err("has a dot segment, which is refused in every request; remove it".into());
        }
        if segment.contains(['%', '?']) {
            return Err(
                "has a percent sign or a query; write the character itself instead of %XX, and \
                 remove the query"
                    .into(),
            );
        }
        if segment.bytes().any(is_reserved) || segment.chars().any(char::is_control) {
            return Err("has a character that is refused in every request; remove it".into());
        }
        Ok(Self::Literal(segment.into()))
    }

    fn piece(&self) -> Piece<'_> {
        match self {
            Self::Literal(text) => Piece::Literal(text),
            Self::Parameter(_) => Piece::Parameter,
            Self::Rest => Piece::Rest,
        }
    }
}

impl Piece<'_> {
    fn covers(self, other: Self, loosely: bool) -> bool {
        match (self, other) {
            (Self::Literal(one), Self::Literal(other)) => {
                one == other || loosely && one.eq_ignore_ascii_case(other)
            }
            // The value of a parameter is never empty.
            (Self::Parameter, Self::Literal(other)) => !other.is_empty(),
            (Self::Parameter, Self::Parameter) => true,
            _ => false,
        }
    }
}

fn without_trailing_slash<'a, 'b>(pieces: &'a [Piece<'b>]) -> &'a [Piece<'b>] {
    match pieces.split_last() {
        Some((Piece::Literal(""), rest)) => rest,
        _ => pieces,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target;

    fn matches(pattern: &str, path: &str, compare: Compare) -> bool {
        let segments = target::segments(path.as_bytes()).unwrap();
        Pattern::parse(pattern).unwrap().matches(&segments, compare)
    }

    #[test]
    fn patterns_match_whole_segments() {
        for (pattern, path, exactly, loosely) in [
            ("/", "/", true, true),
            ("/", "/a", false, false),
            ("/products", "/products", true, true),
            ("/products", "/products/", false, true),
            ("/products/", "/products", false, true),
            ("/products", "/Products", false, true),
            ("/products", "/productsX", false, false),
            ("/products", "/products/1", false, false),
            ("/products/{id}", "/products/1", true, true),
            ("/products/{id}", "/products/1/", false, true),
            ("/products/{id}", "/products/", false, false),
            ("/products/{id}", "/products", false, false),
            ("/static/{*rest}", "/static/a/b/", true, true),
            ("/static/{*rest}", "/static/", true, true),
            ("/static/{*rest}", "/static", false, true),
            ("/{*rest}", "/", true, true),
            ("/café", "/caf%C3%A9", true, true),
            ("/admin", "/%61dmin", true, true),
        ] {
            assert_eq!(matches(pattern, path, Compare::Exactly), exactly, "{pattern} {path}");
            assert_eq!(matches(pattern, path, Compare::Loosely), loosely, "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_covers_narrower_patterns() {
        for (pattern, other, expected) in [
            ("/a", "/a", true),
            ("/{x}", "/a", true),
            ("/{x}", "/{y}", true),
            ("/a", "/{x}", false),
            ("/{x}", "/", false),
            ("/{*rest}", "/{x}/a", true),
            ("/{*rest}", "/{*more}", true),
            ("/{x}", "/{*rest}", false),
            ("/a/{*rest}", "/a", false),
        ] {
            let [one, two] = [pattern, other].map(|text| Pattern::parse(text).unwrap());
            assert_eq!(one.covers(&two, Compare::Exactly), expected, "{pattern} {other}");
        }
    }

    #[test]
    fn error_for_a_wrong_pattern_says_what_to_write() {
        for (pattern, expected) in [
            ("products", "does not start with a slash"),
            ("/{}", "letters, digits and _"),
            ("/{a-b}", "letters, digits and _"),
            ("/{*rest}/a", "move it to the end"),
            ("/a{id}", "whole segment"),
            ("/{id}/{id}", "twice"),
            ("//a", "empty segment"),
            ("/a/../b", "dot segment"),
            ("/caf%C3%A9", "the character itself"),
            ("/a?b", "remove the query"),
            ("/a;b", "refused in every request"),
        ] {
            let error = Pattern::parse(pattern).unwrap_err();
            assert!(error.contains(expected), "{pattern}: {error}");
        }
    }

    #[test]
    fn parameter_values_are_percent_decoded() {
        let pattern = Pattern::parse("/orgs/{org}/{*rest}").unwrap();
        let segments = target::segments(b"/orgs/a%20b/c").unwrap();
        assert_eq!(pattern.parameter("org", &segments), Some("a b"));
        assert!(!pattern.has_parameter("rest"));
    }
}
