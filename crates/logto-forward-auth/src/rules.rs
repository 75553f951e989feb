//! Rules: which requests are allowed, and with which token.

use std::{collections::HashMap, fmt};

use serde::Deserialize;

use crate::target::Segments;

/// The rules in the order of the file. The first rule that fits a request decides.
#[derive(Debug)]
pub(crate) struct Rules(Vec<Rule>);

/// One rule, validated.
#[derive(Debug)]
pub(crate) struct Rule {
    methods: Vec<String>,
    pattern: Pattern,
    pub(crate) access: Access,
}

/// Who may send the requests of a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Public,
    Token {
        /// All of these scopes are required.
        scopes: Vec<String>,
        /// One of these scopes is required, unless the list is empty.
        any_scope: Vec<String>,
        /// The path parameter that the token's organization must equal.
        organization: Option<String>,
    },
}

/// A rule as the file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleSettings {
    methods: Vec<String>,
    path: String,
    #[serde(default)]
    public: bool,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    any_scope: Vec<String>,
    organization: Option<String>,
}

/// The path parameters of a request.
pub(crate) type Parameters = HashMap<String, String>;

#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    segments: Vec<Part>,
    /// Set if the pattern ends with `{*rest}`, which matches one or more segments.
    has_rest: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Parameter(String),
}

impl Rules {
    /// Validates the rules of a file.
    ///
    /// # Errors
    /// Returns the problem, with the number of the rule.
    pub(crate) fn new(settings: Vec<RuleSettings>) -> Result<Self, String> {
        let mut rules: Vec<Rule> = Vec::new();
        for (position, settings) in settings.into_iter().enumerate() {
            let number = position + 1;
            let path = settings.path.clone();
            let rule = Rule::new(settings)
                .map_err(|problem| format!("rule {number} ({path:?}): {problem}"))?;
            if let Some(earlier) = rules.iter().position(|earlier| earlier.covers(&rule)) {
                return Err(format!(
                    "rule {number} ({path:?}): never used, because rule {} matches all of its \
                     requests first",
                    earlier + 1
                ));
            }
            rules.push(rule);
        }
        if rules.is_empty() {
            return Err("there is no [[rule]], so every request would be refused".into());
        }
        Ok(Self(rules))
    }

    /// Returns the first rule that fits.
    pub(crate) fn find(&self, method: &str, path: &Segments) -> Option<(&Rule, Parameters)> {
        // A HEAD request must not reveal what GET would refuse.
        let method = if method == "HEAD" { "GET" } else { method };
        let rules = self.0.iter().filter(|rule| rule.methods.iter().any(|one| one == method));
        let mut matching = rules.filter_map(|rule| Some((rule, rule.pattern.parameters(path)?)));
        matching.next()
    }
}

impl Rule {
    fn new(settings: RuleSettings) -> Result<Self, String> {
        let RuleSettings { methods, path, public, scopes, any_scope, organization } = settings;
        if methods.is_empty() {
            return Err("methods is empty: expected a list such as [\"GET\"]".into());
        }
        if let Some(unknown) = methods.iter().find(|one| !METHODS.contains(&one.as_str())) {
            let known = METHODS.join(", ");
            return Err(format!(
                "{unknown:?} is not a method: expected {known} (HEAD counts as GET)"
            ));
        }
        let pattern = Pattern::new(&path)?;
        if let Some(name) = &organization
            && !pattern.segments.contains(&Part::Parameter(name.clone()))
        {
            return Err(format!("organization is {name:?}, but the path has no {{{name}}}"));
        }
        if let Some(scope) = scopes.iter().chain(&any_scope).find(|scope| !is_scope_token(scope)) {
            return Err(format!("{scope:?} is not a scope (RFC 6749 §3.3): one scope per string"));
        }
        let access = if public {
            if !scopes.is_empty() || !any_scope.is_empty() || organization.is_some() {
                return Err("public is set, so scopes and organization would not be checked".into());
            }
            Access::Public
        } else {
            Access::Token { scopes, any_scope, organization }
        };
        Ok(Self { methods, pattern, access })
    }

    /// Returns whether this rule matches every request that the other one matches.
    fn covers(&self, other: &Self) -> bool {
        other.methods.iter().all(|method| self.methods.contains(method))
            && self.pattern.covers(&other.pattern)
    }
}

impl Pattern {
    fn new(path: &str) -> Result<Self, String> {
        let rest = path.strip_prefix('/').ok_or("the path does not begin with a slash")?;
        let (rest, has_rest) = match rest.rsplit_once('/') {
            Some((before, "{*rest}")) => (Some(before), true),
            None if rest == "{*rest}" => (None, true),
            _ => (Some(rest), false),
        };
        let segments = rest.into_iter().flat_map(|rest| rest.split('/'));
        let segments = segments.map(Part::new).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { segments, has_rest })
    }

    fn parameters(&self, path: &Segments) -> Option<Parameters> {
        let (own, other) = (self.segments.len(), path.0.len());
        if other < own || self.has_rest == (own == other) {
            return None;
        }
        let mut parameters = Parameters::new();
        for (part, segment) in self.segments.iter().zip(&path.0) {
            match part {
                Part::Literal(literal) if literal == segment => {}
                // An empty segment is no value: `/orgs//members` and `/orgs/`.
                Part::Parameter(name) if !segment.is_empty() => {
                    parameters.insert(name.clone(), segment.clone());
                }
                Part::Literal(_) | Part::Parameter(_) => return None,
            }
        }
        Some(parameters)
    }

    fn covers(&self, other: &Self) -> bool {
        let (own, others) = (self.segments.len(), other.segments.len());
        let fits = if self.has_rest {
            others > own || (others == own && other.has_rest)
        } else {
            others == own && !other.has_rest
        };
        fits && self.segments.iter().zip(&other.segments).all(|pair| match pair {
            (Part::Parameter(_), Part::Parameter(_)) => true,
            (Part::Parameter(_), Part::Literal(literal)) => !literal.is_empty(),
            (Part::Literal(own), Part::Literal(other)) => own == other,
            (Part::Literal(_), Part::Parameter(_)) => false,
        })
    }
}

impl Part {
    fn new(segment: &str) -> Result<Self, String> {
        if let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            return if !name.is_empty() && name.chars().all(is_name) {
                Ok(Self::Parameter(name.into()))
            } else {
                Err(format!(
                    "{segment:?} is not a parameter: {{*rest}} may only be the last segment"
                ))
            };
        }
        if segment.contains(['{', '}', '%', '?', '#', ';', '\\']) {
            return Err(format!("{segment:?} has a character that no allowed path has"));
        }
        Ok(Self::Literal(segment.into()))
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rules", self.0.len())
    }
}

fn is_scope_token(scope: &str) -> bool {
    !scope.is_empty() && scope.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::segments;

    fn rules(toml: &str) -> Result<Rules, String> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            rule: Vec<RuleSettings>,
        }
        Rules::new(toml::from_str::<File>(toml).map_err(|error| error.to_string())?.rule)
    }

    fn rule(path: &str, rest: &str) -> String {
        format!("[[rule]]\nmethods = [\"GET\"]\npath = {path:?}\n{rest}\n")
    }

    #[test]
    fn first_rule_that_fits_decides_and_no_rule_is_no_access() {
        let file = [
            rule("/", "public = true"),
            rule("/products", "scopes = [\"a\"]"),
            rule("/orgs/{org}/members", "organization = \"org\""),
            rule("/files/{*rest}", "scopes = [\"b\"]"),
        ];
        let rules = rules(&file.concat()).unwrap();
        for (method, target, expected) in [
            ("GET", "/", Some(&[][..])),
            ("HEAD", "/products", Some(&[])),
            ("GET", "/products", Some(&[])),
            ("GET", "/products/", None),
            ("GET", "/Products", None),
            ("POST", "/products", None),
            ("get", "/products", None),
            ("PROPFIND", "/products", None),
            ("GET", "/orgs/acme/members", Some(&[("org", "acme")])),
            ("GET", "/orgs/acme/members/1", None),
            ("GET", "/orgs/acme", None),
            ("GET", "/files/a/b", Some(&[])),
            ("GET", "/files/", Some(&[])),
            ("GET", "/files", None),
            ("GET", "/admin", None),
        ] {
            let found = rules.find(method, &segments(target).unwrap());
            let found = found.map(|(_, parameters)| parameters);
            let expected = expected.map(|expected| {
                expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
            });
            assert_eq!(found, expected, "{method} {target}");
        }
    }

    #[test]
    fn wrong_rules_are_refused_with_their_number() {
        for (file, expected) in [
            (String::new(), "there is no [[rule]]"),
            (rule("products", ""), "rule 1 (\"products\"): the path does not begin with a slash"),
            (rule("/{*rest}/x", ""), "{*rest} may only be the last segment"),
            (rule("/{a b}", ""), "is not a parameter"),
            (rule("/a%2Fb", ""), "has a character that no allowed path has"),
            (rule("/a", "scopes = [\"a b\"]"), "one scope per string"),
            (rule("/a", "organization = \"org\""), "the path has no {org}"),
            (rule("/a", "public = true\nscopes = [\"a\"]"), "public is set"),
            (rule("/a", "scope = [\"a\"]"), "unknown field `scope`"),
            ([rule("/a", ""), rule("/a", "public = true")].concat(), "rule 2 (\"/a\"): never used"),
            ([rule("/{*rest}", ""), rule("/a/b", "")].concat(), "because rule 1 matches"),
            ([rule("/{x}", ""), rule("/a", "")].concat(), "because rule 1 matches"),
            ("[[rule]]\nmethods = [\"HEAD\"]\npath = \"/\"".into(), "\"HEAD\" is not a method"),
            ("[[rule]]\nmethods = []\npath = \"/\"".into(), "methods is empty"),
        ] {
            let error = rules(&file).unwrap_err();
            assert!(error.contains(expected), "{error}, expected {expected}");
        }
        rules(&[rule("/{x}", ""), rule("/", "")].concat()).unwrap();
    }
}
