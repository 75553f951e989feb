//! Reads and validates the TOML file.

use std::{fmt, fs, net::SocketAddr, ops::Range, path::Path};

use serde::Deserialize;
use toml::Spanned;
use tower_logto::settings::Settings;

use crate::{
    pattern::Pattern,
    rules::{Access, Methods, Organization, Requirements, Rule, Rules},
};

/// The contents of a valid configuration file.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) max_connections: usize,
    pub(crate) proxy: Proxy,
    pub(crate) logto: Settings,
    pub(crate) rules: Rules,
}

/// The kind of proxy that uses this server. Each kind describes the client's request in different
/// headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Proxy {
    Nginx,
    Caddy,
}

/// A mistake in the file. `Display` gives the file, the line if known, and the fix.
#[derive(Debug)]
pub(crate) struct FileError {
    file: String,
    line: Option<usize>,
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(default = "default_listen")]
    listen: Spanned<String>,
    #[serde(default = "default_max_connections")]
    max_connections: Spanned<usize>,
    // There is no default. If the default were the wrong proxy, the server would read headers that
    // the real proxy does not set. A client could then forge these headers.
    proxy: Option<Proxy>,
    logto: Option<Spanned<Settings>>,
    #[serde(default)]
    rule: Vec<Spanned<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    methods: Option<Spanned<Vec<Spanned<String>>>>,
    path: Option<Spanned<String>>,
    scopes: Option<Spanned<Vec<Spanned<String>>>>,
    any_scope: Option<Spanned<Vec<Spanned<String>>>>,
    organization: Option<Spanned<String>>,
    audience: Option<Spanned<String>>,
    public: Option<Spanned<bool>>,
}

/// A mistake in the text of the file, and the position of the mistake if known.
struct Problem {
    span: Option<Range<usize>>,
    message: String,
}

impl Config {
    /// Reads and checks the file.
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| FileError {
            file: file.clone(),
            line: None,
            message: format!(
                "the file cannot be read: {error}; give the path of the file with --config"
            ),
        })?;
        Self::parse(&text).map_err(|problem| FileError {
            file,
            line: problem.span.map(|span| line_of(&text, span.start)),
            message: problem.message,
        })
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| Problem {
            span: error.span(),
            message: format!(
                "{}; see the README for the settings that the file may contain",
                error.message()
            ),
        })?;
        let listen = raw.listen.get_ref().parse().map_err(|_| {
            let found = raw.listen.get_ref();
            at(
                &raw.listen,
                format!("listen is {found:?}; write an address such as \"127.0.0.1:9180\""),
            )
        })?;
        let max_connections = *raw.max_connections.get_ref();
        if !(1..=MAX_CONNECTIONS).contains(&max_connections) {
            let message = format!("max_connections must be from 1 to {MAX_CONNECTIONS}");
            return Err(at(&raw.max_connections, message));
        }
        let Some(proxy) = raw.proxy else {
            return Err(Problem::from(
                "proxy is missing; add proxy = \"nginx\" or proxy = \"caddy\" above the first \
                 table",
            ));
        };
        let Some(logto) = raw.logto else {
            return Err(Problem::from(
                "the table [logto] is missing; add it, and set endpoint and resource in it",
            ));
        };
        let settings = logto.get_ref();
        settings.validator().map_err(|error| at(&logto, format!("[logto]: {error}")))?;
        if settings.organizations {
            let message = "[logto]: organizations: rules do not support organization \
                           permission tokens; remove the key";
            return Err(at(&logto, message));
        }
        let resources = settings.resource.as_slice();
        let rules = raw.rule.iter().enumerate().map(|(index, rule)| {
            rule.get_ref().check(index + 1, resources).map_err(|mut problem| {
                problem.span.get_or_insert(rule.span());
                problem.message = format!("rule {}: {}", index + 1, problem.message);
                problem
            })
        });
        let rules = Rules::new(rules.collect::<Result<_, _>>()?).map_err(|error| Problem {
            span: raw.rule.get(error.index).map(Spanned::span),
            message: format!(
                "rule {}: rule {} already decides every {} request for this path; remove one of \
                 the two rules, or put the narrower rule before the wider one",
                error.index + 1,
                error.earlier,
                error.method
            ),
        })?;
        if rules.len() == 0 {
            return Err(Problem::from(
                "there is no rule, so every request would be refused; add a [[rule]] table",
            ));
        }
        Ok(Self { listen, max_connections, proxy, logto: logto.into_inner(), rules })
    }
}

impl RawRule {
    fn check(&self, number: usize, resources: &[String]) -> Result<Rule, Problem> {
        let Some(path) = &self.path else {
            return Err("path is missing; add path = \"/products/{id}\"".into());
        };
        let pattern = Pattern::parse(path.get_ref())
            .map_err(|message| at(path, format!("path {message}")))?;
        let Some(methods) = self.methods.as_ref().filter(|list| !list.get_ref().is_empty()) else {
            return Err("methods is missing or empty; add methods = [\"GET\"]".into());
        };
        let mut set = Methods::EMPTY;
        for method in methods.get_ref() {
            let one = Methods::parse(method.get_ref())
                .map_err(|message| at(method, format!("methods: {message}")))?;
            if set.intersects(one) {
                return Err(at(method, format!("methods has {:?} twice", method.get_ref())));
            }
            set = set.union(one);
        }
        let access = self.access(&pattern, resources)?;
        Ok(Rule { number, methods: set, pattern, access })
    }

    fn access(&self, pattern: &Pattern, resources: &[String]) -> Result<Access, Problem> {
        if self.public.as_ref().is_some_and(|public| *public.get_ref()) {
            let for_tokens = [
                self.scopes.as_ref().map(|value| ("scopes", value.span())),
                self.any_scope.as_ref().map(|value| ("any_scope", value.span())),
                self.organization.as_ref().map(|value| ("organization", value.span())),
                self.audience.as_ref().map(|value| ("audience", value.span())),
            ];
            return match for_tokens.into_iter().flatten().next() {
                None => Ok(Access::Public),
                Some((key, span)) => Err(Problem {
                    span: Some(span),
                    message: format!("{key} contradicts public = true; remove one of them"),
                }),
            };
        }
        if self.scopes.is_none() && self.any_scope.is_none() {
            return Err(
                "scopes is missing; add scopes = [\"read:products\"] for a required scope, \
                 scopes = [] for any valid token, or public = true if no token is required"
                    .into(),
            );
        }
        if let Some(any) = &self.any_scope
            && any.get_ref().is_empty()
        {
            return Err(at(any, "any_scope is empty; add a scope, or remove any_scope"));
        }
        Ok(Access::Token(Requirements {
            audience: self.required_audience(resources)?,
            scopes: scopes("scopes", self.scopes.as_ref())?,
            any_scope: scopes("any_scope", self.any_scope.as_ref())?,
            organization: self.required_organization(pattern)?,
        }))
    }

    fn required_audience(&self, resources: &[String]) -> Result<Option<String>, Problem> {
        match &self.audience {
            Some(audience) if resources.contains(audience.get_ref()) => {
                Ok(Some(audience.get_ref().clone()))
            }
            Some(audience) => Err(at(
                audience,
                format!("audience {:?} is not a resource of [logto]", audience.get_ref()),
            )),
            // The rule must have an audience, because a scope of one API has no meaning for
            // another API.
            None if resources.len() > 1 => {
                Err("audience is missing: [logto] has several resources; name one of them".into())
            }
            None => Ok(None),
        }
    }

    fn required_organization(&self, pattern: &Pattern) -> Result<Organization, Problem> {
        let Some(value) = &self.organization else { return Ok(Organization::None) };
        let text = value.get_ref();
        if text == "any" {
            return Ok(Organization::Any);
        }
        let name = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
        if !pattern.has_parameter(name) {
            return Err(at(
                value,
                format!(
                    "organization is {text:?}, but the path has no parameter {{{name}}}; write a \
                     parameter that the path has, or \"any\""
                ),
            ));
        }
        Ok(Organization::Parameter(name.into()))
    }
}

fn scopes(key: &str, list: Option<&Spanned<Vec<Spanned<String>>>>) -> Result<Vec<String>, Problem> {
    // RFC 6749 §3.3.
    let is_scope_character = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    let list = list.map(Spanned::get_ref).into_iter().flatten();
    list.map(|scope| {
        let text = scope.get_ref();
        if text.is_empty() || !text.bytes().all(is_scope_character) {
            let message =
                format!("{key}: {text:?} is not a scope; write each scope as its own string");
            return Err(at(scope, message));
        }
        Ok(text.clone())
    })
    .collect()
}

fn at<T>(value: &Spanned<T>, message: impl Into<String>) -> Problem {
    Problem { span: Some(value.span()), message: message.into() }
}

/// Returns the number of the line that contains the offset. The first line has the number 1.
fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn default_listen() -> Spanned<String> {
    Spanned::new(0..0, "127.0.0.1:9180".into())
}

fn default_max_connections() -> Spanned<usize> {
    Spanned::new(0..0, 1024)
}

impl From<&str> for Problem {
    fn from(message: &str) -> Self {
        Self { span: None, message: message.into() }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// The largest value that the setting `max_connections` may have.
const MAX_CONNECTIONS: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "proxy = \"nginx\"\n[logto]\nendpoint = \"https://t.logto.app\"\n\
                        resource = [\"https://shopping.api\"]\n";

    fn error(text: &str) -> (Option<usize>, String) {
        let problem = Config::parse(text).map(|_| ()).err().unwrap();
        (problem.span.map(|span| line_of(text, span.start)), problem.message)
    }

    #[test]
    fn error_for_a_wrong_rule_gives_the_line_and_the_fix() {
        for (rule, line, expected) in [
            ("path = \"/a\"\nscopes = []", 5, "add methods = [\"GET\"]"),
            ("methods = [\"GET\"]\nscopes = []", 5, "add path"),
            ("methods = [\"GET\"]\npath = \"/a\"", 5, "scopes = [] for any valid token"),
            ("methods = [\"GET\"]\npath = \"a\"", 7, "start with a slash"),
            ("methods = [\"get\"]\npath = \"/a\"", 6, "use GET, POST"),
            ("methods = [\"HEAD\"]\npath = \"/a\"", 6, "HEAD is the same as GET"),
            ("methods = [\"GET\", \"GET\"]\npath = \"/a\"", 6, "twice"),
            ("methods = [\"GET\"]\npath = \"/a\"\nscope = [\"x\"]", 8, "unknown field `scope`"),
            ("methods = [\"GET\"]\npath = \"/a\"\nscopes = [\"a b\"]", 8, "not a scope"),
            ("methods = [\"GET\"]\npath = \"/a\"\nany_scope = []", 8, "any_scope is empty"),
            (
                "methods = [\"GET\"]\npath = \"/a\"\npublic = true\nscopes = [\"a\"]",
                9,
                "contradicts public",
            ),
            (
                "methods = [\"GET\"]\npath = \"/{id}\"\nscopes = []\norganization = \"{org}\"",
                9,
                "no parameter {org}",
            ),
            (
                "methods = [\"GET\"]\npath = \"/a\"\nscopes = []\naudience = \"https://other.api\"",
                9,
                "is not a resource",
            ),
            (
                "methods = [\"GET\"]\npath = \"/a\"\nscopes = []\n[[rule]]\nmethods = [\"GET\"]\n\
                 path = \"/a\"\npublic = true",
                9,
                "rule 1 already decides every GET request",
            ),
        ] {
            let (found, message) = error(&format!("{HEAD}[[rule]]\n{rule}\n"));
            assert!(message.contains(expected), "{rule}\n{message}");
            assert_eq!(found, Some(line), "{rule}\n{message}");
        }
    }

    #[test]
    fn error_for_a_wrong_setting_gives_its_name_and_the_fix() {
        let rule = "[[rule]]\nmethods = [\"GET\"]\npath = \"/a\"\nscopes = []\n";
        let with = |old: &str, new: &str| format!("{HEAD}{rule}").replace(old, new);
        assert!(Config::parse(&with("", "")).is_ok());
        for (text, expected) in [
            (with("proxy = \"nginx\"", ""), "add proxy = \"nginx\" or"),
            (with("nginx", "traefik"), "unknown variant `traefik`"),
            (with("proxy", "listen = \"9180\"\nproxy"), "write an address"),
            (with("proxy", "max_connections = 0\nproxy"), "from 1 to"),
            (with("proxy", "port = 1\nproxy"), "unknown field `port`"),
            (with("https://t.logto.app", "t.logto.app"), "[logto]: endpoint"),
            (
                with("https://t.logto.app", "https://t.logto.app/oidc"),
                "use \"https://t.logto.app\"",
            ),
            (with("endpoint =", "end_point ="), "unknown field `end_point`"),
            (with("endpoint = \"https://t.logto.app\"", ""), "endpoint: not set"),
            (with("endpoint =", "issuer = \"https://x\"\nendpoint ="), "remove one of them"),
            (with("[\"https://shopping.api\"]", "[]"), "resource: not set"),
            (with("resource =", "organizations = true\nresource ="), "remove the key"),
            (
                with("[\"https://shopping.api\"]", "[\"https://shopping.api\", \"https://b.api\"]"),
                "name one of them",
            ),
            (HEAD.to_owned(), "there is no rule"),
            ("proxy = \"caddy\"".to_owned(), "[logto] is missing"),
            ("proxy =".to_owned(), "see the README"),
        ] {
            let (_, message) = error(&text);
            assert!(message.contains(expected), "{text}\n{message}");
        }
    }
}
