//! Explains which checks a token passes and fails. Use the explanation for logs, tests and support.

mod checks;

use std::fmt;

use serde::Serialize;

use crate::{
    escape::escaped,
    scope::{ScopeSet, TokenKind},
};

/// The result of [`Validator::explain`](crate::Validator::explain): the verdict about a token, and
/// the outcome of each check.
///
/// [`Display`](fmt::Display) writes the verdict and one line per check. The output of serde has the
/// same content. Both outputs contain claims of the token, but neither the token nor its signature.
/// Each string from the token is escaped, and cut after 80 characters. Do not send an explanation
/// to a caller.
///
/// ```
/// # async fn example() -> Result<(), tower_logto::error::ConfigError> {
/// use tower_logto::{Issuer, Validator, explain::Verdict};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let validator = Validator::new(&issuer, "https://shopping.api")?;
/// let explanation = validator.explain("not-a-jwt").await.require_scopes(["read:products"]);
/// assert_eq!(explanation.verdict(), Verdict::Refused);
/// println!("{explanation}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[must_use]
pub struct Explanation {
    verdict: Verdict,
    checks: Vec<Check>,
    /// The facts that are needed to check the requirements of a route. `None` if the payload cannot
    /// be read.
    #[serde(skip)]
    facts: Option<Facts>,
}

/// The verdict about a token.
///
/// ```
/// use tower_logto::{Issuer, Validator, explain::Verdict};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let validator = Validator::new(&issuer, "https://shopping.api")?;
/// assert_eq!(validator.explain("opaque").await.verdict(), Verdict::Refused);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// Every check passed.
    Accepted,
    /// At least one check failed.
    Refused,
    /// No check failed, but the issuer's keys or the rules that revoke tokens are unavailable.
    Undecided,
}

/// One check of a token.
///
/// ```
/// use tower_logto::explain::{Explanation, Outcome};
///
/// fn advice(explanation: &Explanation) -> Vec<&str> {
///     let failed = explanation.checks().filter(|check| check.outcome == Outcome::Failed);
///     failed.filter_map(|check| check.advice.as_deref()).collect()
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// A stable name. It is the name of a claim or of a header member, or one of `format`, `size`,
    /// `header`, `payload`, `key`, `signature`, `revocation`, `organization` and `kind`.
    pub name: &'static str,
    /// The outcome.
    pub outcome: Outcome,
    /// The value in the token. Each string from the token is escaped, and cut after 80 characters.
    pub found: String,
    /// The value that the settings or the route require. Empty if they require no particular value,
    /// or if the check was skipped.
    pub expected: String,
    /// The problem and how to fix it, or the reason why the check was not made. `None` if there is
    /// nothing to do.
    pub advice: Option<String>,
}

/// The outcome of a [`Check`].
///
/// ```
/// use tower_logto::explain::Outcome;
///
/// assert_eq!(Outcome::Failed.label(), "FAILED");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The token fulfils the requirement.
    Passed,
    /// The token does not fulfil the requirement.
    Failed,
    /// The check was not made, because something that it needs is missing, for example the payload.
    Skipped,
    /// The check could not be made, because the issuer's keys or the rules that revoke tokens are
    /// unavailable.
    Unknown,
}

/// The facts about a token that are needed to check the requirements of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    kind: Option<TokenKind>,
    organization: Option<Box<str>>,
    organization_checked: bool,
    scope: Box<str>,
    is_machine: bool,
}

impl Explanation {
    /// Returns the verdict, which covers the checks of the validator and of the route.
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Returns the checks in the order in which the validator makes them.
    pub fn checks(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter()
    }

    /// Adds a check that the token belongs to this organization. The guard of a route that requires
    /// this organization makes the same check.
    pub fn require_organization(mut self, id: &str) -> Self {
        let Some(facts) = &mut self.facts else {
            return self.with(Check::skipped("organization", "the payload"));
        };
        let expected = format!("{id:?}");
        if !id.is_empty() && facts.organization.as_deref() == Some(id) {
            facts.organization_checked = true;
            return self.with(Check::passed("organization", quoted(id), expected));
        }
        let advice = match facts.organization {
            Some(_) => {
                "the token is for another organization: ask Logto for a token with the \
                 organization_id of the request"
            }
            None => "the token is for no organization: ask Logto for a token with organization_id",
        };
        let found = facts.organization.as_deref().map_or_else(none, quoted);
        self.with(Check::failed("organization", found, expected, advice.into()))
    }

    /// Adds a check that the token has all of these scopes. The guard of a route that requires
    /// these scopes makes the same check. If the route also requires an organization, call
    /// [`require_organization`](Self::require_organization) first.
    pub fn require_scopes<'a>(self, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        let Some(facts) = &self.facts else {
            return self.with(Check::skipped("scope", "the payload"));
        };
        let kind = facts.kind_of_route();
        let required: Vec<&str> = scopes.into_iter().collect();
        let granted = ScopeSet::new(&facts.scope);
        let missing: Vec<&str> =
            required.iter().copied().filter(|scope| !granted.contains(scope)).collect();
        let found = if granted.is_empty() { none() } else { quoted(&facts.scope) };
        let expected = format!("{:?}", required.join(" "));
        let roles = match (facts.is_machine, &facts.organization) {
            (_, Some(_)) => "a role of the organization (Console → Organization template)",
            (true, None) => "a machine-to-machine role of the app (Console → Roles)",
            (false, None) => "a role of the user (Console → Roles)",
        };
        let advice = format!(
            "the token lacks {:?}: Logto leaves out scopes that the token request does not ask \
             for, and those that no role grants; ask for the scope, and check that {roles} has \
             this permission",
            missing.join(" ")
        );
        let scope = if missing.is_empty() && !required.is_empty() {
            Check::passed("scope", found, expected)
        } else {
            Check::failed("scope", found, expected, advice)
        };
        kind.into_iter().fold(self, Self::with).with(scope)
    }

    fn with(mut self, check: Check) -> Self {
        if check.outcome == Outcome::Failed {
            self.verdict = Verdict::Refused;
        }
        self.checks.push(check);
        self
    }

    fn new(checks: Vec<Check>, facts: Option<Facts>) -> Self {
        let any = |outcome| checks.iter().any(|check| check.outcome == outcome);
        let verdict = match (any(Outcome::Failed), any(Outcome::Unknown)) {
            (true, _) => Verdict::Refused,
            (false, true) => Verdict::Undecided,
            (false, false) => Verdict::Accepted,
        };
        Self { verdict, checks, facts }
    }
}

impl Facts {
    /// Returns a failed check if the token belongs to an organization and no earlier check requires
    /// that organization. Scopes from organization roles are valid only on routes that check the
    /// organization.
    fn kind_of_route(&self) -> Option<Check> {
        let kind = self.kind.filter(|kind| *kind != TokenKind::Global)?;
        let advice = "the scopes of an organization count only on routes that check the \
                      organization: guard the route with Require::organization_…, or ask Logto \
                      for a token without organization_id";
        let expected = TokenKind::Global.to_string();
        (!self.organization_checked)
            .then(|| Check::failed("kind", kind.to_string(), expected, advice.into()))
    }
}

impl Check {
    fn passed(name: &'static str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        let (found, expected) = (found.into(), expected.into());
        Self { name, outcome: Outcome::Passed, found, expected, advice: None }
    }

    fn failed(
        name: &'static str,
        found: impl Into<String>,
        expected: impl Into<String>,
        advice: String,
    ) -> Self {
        let passed = Self::passed(name, found, expected);
        Self { outcome: Outcome::Failed, advice: Some(advice), ..passed }
    }

    fn skipped(name: &'static str, needs: &str) -> Self {
        let advice = Some(format!("not checked, because this check needs {needs}"));
        Self { outcome: Outcome::Skipped, advice, ..Self::passed(name, "", "") }
    }
}

/// Writes the verdict and one line per check. If a check has advice, the next line contains the
/// advice.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verdict)?;
        for check in &self.checks {
            let Check { name, outcome, found, expected, advice } = check;
            let expected = match expected.as_str() {
                "" => String::new(),
                expected => format!(" (expected: {expected})"),
            };
            let line = format!("{:<8}{name:<14}{found}{expected}", outcome.label());
            writeln!(f, "{}", line.trim_end())?;
            if let Some(advice) = advice {
                writeln!(f, "{:<22}{advice}", "")?;
            }
        }
        let is_verified =
            |check: &Check| check.name == "signature" && check.outcome == Outcome::Passed;
        if self.facts.is_some() && !self.checks.iter().any(is_verified) {
            writeln!(f, "The signature is not verified. These values may be forged.")?;
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "The token is accepted.",
            Self::Refused => "The token is refused.",
            Self::Undecided => "Undecided: the issuer's keys or revocation rules are unavailable.",
        })
    }
}

impl Outcome {
    /// Returns the word for the outcome in the text output: `ok`, `FAILED`, `skipped` or `unknown`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
            Self::Unknown => "unknown",
        }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

fn none() -> String {
    "none".to_owned()
}
