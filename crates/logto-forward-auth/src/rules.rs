//! The rules, and the choice of the rule that decides a request.

use crate::pattern::{Compare, Pattern};

/// The rules, in the order of the file.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<Rule>);

/// One `[[rule]]` table.
#[derive(Debug)]
pub(crate) struct Rule {
    /// The position of the rule in the file. The first rule has the number 1.
    pub(crate) number: usize,
    pub(crate) methods: Methods,
    pub(crate) pattern: Pattern,
    pub(crate) access: Access,
}

/// What a rule requires of a request: no token, or a token that meets certain requirements.
#[derive(Debug)]
pub(crate) enum Access {
    /// The request needs no token.
    Public,
    /// The request needs a valid token that satisfies these requirements.
    Token(Requirements),
}

#[derive(Debug)]
pub(crate) struct Requirements {
    /// The audience that the token must be for. `None` is possible only if a single audience is
    /// configured.
    pub(crate) audience: Option<String>,
    /// The scopes that the token must have. All of them are required.
    pub(crate) scopes: Vec<String>,
    /// Alternative scopes. If the list is not empty, the token must have at least one of them.
    pub(crate) any_scope: Vec<String>,
    pub(crate) organization: Organization,
}

/// The organization that the token must be for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Organization {
    /// The token must be for a global API resource, not for an organization.
    None,
    /// The token must be for an organization, no matter which. The service finds the id in
    /// `X-Auth-Organization-Id`.
    Any,
    /// The token must be for the organization whose id is the value of this path parameter.
    Parameter(String),
}

/// A set of methods. HEAD counts as GET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Methods(u8);

/// The result of the search for the rule that decides a request.
#[derive(Debug)]
pub(crate) enum Decision<'a> {
    Rule(&'a Rule),
    /// No rule matches.
    NoRule,
    /// `matched` is the first rule that matches exactly. The earlier rule `near` does not match
    /// exactly, but it would match in a service that ignores case or a trailing slash.
    Ambiguous {
        near: &'a Rule,
        matched: &'a Rule,
    },
}

/// A rule that can never decide a request with the method `method`. For this method, an earlier
/// rule matches every path that the unreachable rule matches.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreachable {
    /// The index of the unreachable rule in the list.
    pub(crate) index: usize,
    pub(crate) method: &'static str,
    /// The `Rule::number` of the earlier rule.
    pub(crate) earlier: usize,
}

impl Rules {
    pub(crate) fn new(rules: Vec<Rule>) -> Result<Self, Unreachable> {
        for (index, rule) in rules.iter().enumerate() {
            for (method, set) in METHODS {
                let hides = |earlier: &&Rule| {
                    earlier.methods.intersects(*set)
                        && earlier.pattern.covers(&rule.pattern, Compare::Exactly)
                };
                let mut earlier = rules.iter().take(index);
                if rule.methods.intersects(*set)
                    && let Some(earlier) = earlier.find(hides)
                {
                    return Err(Unreachable { index, method, earlier: earlier.number });
                }
            }
        }
        Ok(Self(rules))
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn decide(&self, method: Methods, segments: &[String]) -> Decision<'_> {
        let mut near_misses: Vec<&Rule> = Vec::new();
        for rule in self.0.iter().filter(|rule| rule.methods.intersects(method)) {
            if rule.pattern.matches(segments, Compare::Exactly) {
                // `near` matches the requested path loosely, but not exactly. If `near` loosely
                // matches every path that `rule` matches, `rule` was written explicitly for such
                // paths. The request is then not ambiguous. For example, `near` has the path
                // `/admin`, and `rule` has the path `/admin/`.
                let is_explicit =
                    |near: &&Rule| near.pattern.covers(&rule.pattern, Compare::Loosely);
                return match near_misses.into_iter().find(|near| !is_explicit(near)) {
                    Some(near) => Decision::Ambiguous { near, matched: rule },
                    None => Decision::Rule(rule),
                };
            }
            if rule.pattern.matches(segments, Compare::Loosely) {
                near_misses.push(rule);
            }
        }
        Decision::NoRule
    }
}

impl Methods {
    pub(crate) const EMPTY: Self = Self(0);

    /// Returns the set that contains only this request method. HEAD counts as GET. If the method is
    /// not in `METHODS`, returns `None`. Methods are case-sensitive (RFC 9110 §9.1).
    pub(crate) fn of_request(method: &[u8]) -> Option<Self> {
        let method = if method == b"HEAD" { b"GET" } else { method };
        METHODS.iter().find(|(name, _)| name.as_bytes() == method).map(|(_, set)| *set)
    }

    /// Parses a method from the file.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        if name == "HEAD" {
            return Err("HEAD is the same as GET; write GET instead of HEAD".into());
        }
        Self::of_request(name.as_bytes()).ok_or_else(|| {
            let names: Vec<_> = METHODS.iter().map(|(name, _)| *name).collect();
            format!("{name:?} is not a known method; use {}", names.join(", "))
        })
    }

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

const METHODS: &[(&str, Methods)] = &[
    ("GET", Methods(1)),
    ("POST", Methods(2)),
    ("PUT", Methods(4)),
    ("PATCH", Methods(8)),
    ("DELETE", Methods(16)),
    ("OPTIONS", Methods(32)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target;

    fn rules(list: &[(&[&str], &str)]) -> Result<Rules, Unreachable> {
        let rules = list.iter().enumerate().map(|(index, (methods, path))| {
            let methods = methods.iter().map(|name| Methods::parse(name).unwrap());
            Rule {
                number: index + 1,
                methods: methods.fold(Methods::EMPTY, Methods::union),
                pattern: Pattern::parse(path).unwrap(),
                access: Access::Public,
            }
        });
        Rules::new(rules.collect())
    }

    /// Returns the number of the rule that decides the request, or 0 if no rule matches. If the
    /// decision is `Ambiguous { near, .. }`, returns `-near.number`.
    fn decide(rules: &Rules, method: &str, path: &str) -> isize {
        let segments = target::segments(path.as_bytes()).unwrap();
        let Some(method) = Methods::of_request(method.as_bytes()) else { return 0 };
        match rules.decide(method, &segments) {
            Decision::Rule(rule) => rule.number.try_into().unwrap(),
            Decision::NoRule => 0,
            Decision::Ambiguous { near, .. } => -isize::try_from(near.number).unwrap(),
        }
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let rules = rules(&[
            (&["GET"], "/products"),
            (&["GET", "DELETE"], "/products/{id}"),
            (&["POST"], "/{*rest}"),
        ]);
        let rules = rules.unwrap();
        for (method, path, expected) in [
            ("GET", "/products", 1),
            ("HEAD", "/products", 1),
            ("GET", "/products/1", 2),
            ("DELETE", "/products/1", 2),
            ("DELETE", "/products", 0),
            ("POST", "/products/1", 3),
            ("OPTIONS", "/products", 0),
            ("get", "/products", 0),
            ("TRACE", "/products", 0),
            ("PROPFIND", "/products", 0),
            ("GET", "/", 0),
        ] {
            assert_eq!(decide(&rules, method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn a_variant_of_an_earlier_path_is_ambiguous_unless_the_variant_has_its_own_rule() {
        let all = rules(&[(&["GET"], "/admin"), (&["GET"], "/{*rest}")]).unwrap();
        assert_eq!(decide(&all, "GET", "/admin"), 1);
        assert_eq!(decide(&all, "GET", "/admin/"), -1);
        assert_eq!(decide(&all, "GET", "/Admin"), -1);
        assert_eq!(decide(&all, "GET", "/admins"), 2);
        assert_eq!(decide(&all, "GET", "/admin/x"), 2);
        let explicit =
            rules(&[(&["GET"], "/admin"), (&["GET"], "/admin/"), (&["GET"], "/{*rest}")]).unwrap();
        assert_eq!(decide(&explicit, "GET", "/admin/"), 2);
        let parameter = rules(&[(&["GET"], "/users/me"), (&["GET"], "/users/{id}")]).unwrap();
        assert_eq!(decide(&parameter, "GET", "/users/ME"), -1);
        let rest = rules(&[(&["GET"], "/s/{*rest}"), (&["GET"], "/s"), (&["GET"], "/{x}")]);
        assert_eq!(decide(&rest.unwrap(), "GET", "/s"), 2);
        let other_method = rules(&[(&["POST"], "/admin"), (&["GET"], "/{*rest}")]).unwrap();
        assert_eq!(decide(&other_method, "GET", "/Admin"), 2);
    }

    #[test]
    fn unreachable_rules_are_found() {
        let unreachable = |index, method, earlier| Unreachable { index, method, earlier };
        for (list, expected) in [
            (&[(&["GET"][..], "/a"), (&["GET"], "/a")][..], unreachable(1, "GET", 1)),
            (&[(&["GET"], "/{x}"), (&["GET"], "/a")], unreachable(1, "GET", 1)),
            (
                &[(&["POST"], "/b"), (&["GET"], "/{*r}"), (&["POST", "GET"], "/a")],
                unreachable(2, "GET", 2),
            ),
        ] {
            assert_eq!(rules(list).unwrap_err(), expected);
        }
        assert!(rules(&[(&["GET"], "/a"), (&["GET"], "/{x}"), (&["POST"], "/a")]).is_ok());
    }
}
