//! Scopes: the grammar, the scopes of a token, and the scopes that a guard requires.

pub mod macros;

use std::{borrow::Cow, fmt};

/// The permission model in Logto that an access token belongs to.
///
/// The same scope name has a different meaning in each model. Every guard therefore begins
/// with a constructor that names the model. See [`Require`](crate::Require).
///
/// ```
/// use tower_logto::{AccessToken, TokenKind};
///
/// fn is_global(token: &AccessToken) -> bool {
///     token.kind() == TokenKind::Global
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenKind {
    /// A token for a global API resource: `aud` is the resource indicator, and there is no
    /// `organization_id`.
    ///
    /// A user's token contains the API scopes of the user's global roles. It also contains the API
    /// scopes of the user's roles in every organization.
    Global,
    /// A token for an organization-level API resource: `aud` is the resource indicator, and the
    /// claim `organization_id` contains the id of the organization.
    ///
    /// The scopes come from the roles in that organization. A user's token also contains the API
    /// scopes of the user's global roles.
    OrganizationResource,
    /// A token for an organization's own permissions, not for an API: `aud` is
    /// `urn:logto:organization:<id>`.
    OrganizationPermissions,
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "a token for a global API resource",
            Self::OrganizationResource => "a token for an organization-level API resource",
            Self::OrganizationPermissions => "an organization permission token",
        })
    }
}

/// The scopes of an access token: its `scope` claim, split at single spaces (RFC 6749 §3.3).
///
/// ```
/// use tower_logto::ScopeSet;
///
/// let scopes = ScopeSet::new("read:products write:products");
/// assert!(scopes.contains("read:products"));
/// assert!(!scopes.contains("read"));
/// assert_eq!(scopes.iter().count(), 2);
/// ```
#[derive(Clone, Copy, Default)]
pub struct ScopeSet<'a>(&'a str);

impl<'a> ScopeSet<'a> {
    /// Creates a set from a `scope` value. The only separator is a single space. The order of the
    /// scopes has no meaning.
    pub const fn new(scope: &'a str) -> Self {
        Self(scope)
    }

    /// Returns whether the set has exactly this scope. The comparison is case-sensitive, and does
    /// not support prefixes or wildcards.
    pub fn contains(self, scope: &str) -> bool {
        self.iter().any(|have| have == scope)
    }

    /// Returns the scopes, in the order of the claim.
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        self.0.split(' ').filter(|scope| !scope.is_empty())
    }

    /// Returns whether the set has no scope.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// Returns the `scope` value from which the set was created, unchanged.
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

/// Compares the scopes regardless of their order.
impl PartialEq for ScopeSet<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().all(|scope| other.contains(scope))
            && other.iter().all(|scope| self.contains(scope))
    }
}

impl Eq for ScopeSet<'_> {}

impl fmt::Debug for ScopeSet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The scopes that a guard requires, and the kinds of token that the guard accepts.
///
/// [`AuthErrorKind::InsufficientScope`](crate::error::AuthErrorKind::InsufficientScope) contains
/// the policy, so a custom response body can list the required scopes. [`Display`](fmt::Display)
/// writes the scopes separated by single spaces. The `scope` parameter of a challenge has the same
/// format (RFC 6750 §3).
///
/// ```
/// use tower_logto::{AuthError, error::AuthErrorKind};
///
/// /// Returns the scopes that the caller needs, for the body of a response.
/// fn required(error: &AuthError) -> Option<String> {
///     match error.kind() {
///         AuthErrorKind::InsufficientScope { required, .. } => Some(required.to_string()),
///         _ => None,
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopePolicy {
    scopes: Cow<'static, [Cow<'static, str>]>,
    rule: Rule,
    kinds: Kinds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    All,
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kinds {
    /// Accepts tokens for global API resources. If the organization of the token was checked, the
    /// policy also accepts tokens for organization-level API resources.
    Default,
    Only(TokenKind),
    Any,
}

impl ScopePolicy {
    pub(crate) fn all<S: Into<Cow<'static, str>>>(scopes: impl IntoIterator<Item = S>) -> Self {
        Self::new(scopes, Rule::All)
    }

    pub(crate) fn any<S: Into<Cow<'static, str>>>(scopes: impl IntoIterator<Item = S>) -> Self {
        Self::new(scopes, Rule::Any)
    }

    fn new<S: Into<Cow<'static, str>>>(scopes: impl IntoIterator<Item = S>, rule: Rule) -> Self {
        let scopes = scopes.into_iter().map(Into::into).collect();
        Self { scopes: Cow::Owned(scopes), rule, kinds: Kinds::Default }
    }

    /// Returns the scopes. [`is_any`](Self::is_any) tells whether the policy requires all of them
    /// or at least one of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(AsRef::as_ref)
    }

    /// Returns whether the policy requires at least one of the scopes, instead of all of them.
    pub fn is_any(&self) -> bool {
        self.rule == Rule::Any
    }

    /// Returns whether the granted scopes satisfy the policy. Does not check the kind of token.
    pub(crate) fn is_satisfied_by(&self, granted: ScopeSet<'_>) -> bool {
        match self.rule {
            // An empty list is a mistake in the program, so the check fails closed.
            Rule::All => !self.scopes.is_empty() && self.iter().all(|one| granted.contains(one)),
            Rule::Any => self.iter().any(|scope| granted.contains(scope)),
        }
    }

    /// Returns whether the policy accepts tokens of this kind. `organization_checked` says whether
    /// the token's organization was compared with the organization of the request.
    pub(crate) fn accepts(&self, kind: TokenKind, organization_checked: bool) -> bool {
        let belongs = organization_checked || kind == TokenKind::Global;
        match self.kinds {
            Kinds::Any => true,
            Kinds::Only(only) => kind == only && belongs,
            Kinds::Default => kind != TokenKind::OrganizationPermissions && belongs,
        }
    }

    /// Returns the kind of token that the [`scopes!`](crate::scopes) declaration sets with
    /// `for KIND`. Returns `None` if the declaration has `for any_kind`, or if it has no `for`.
    pub(crate) const fn declared_kind(&self) -> Option<TokenKind> {
        match self.kinds {
            Kinds::Only(kind) => Some(kind),
            Kinds::Default | Kinds::Any => None,
        }
    }

    /// Returns the first scope that is not a valid scope-token. Considers only scopes that are
    /// literals in the program (`&'static str`).
    pub(crate) fn first_invalid_literal(&self) -> Option<&'static str> {
        self.scopes.iter().find_map(|scope| match scope {
            Cow::Borrowed(literal) if !is_scope_token(literal) => Some(*literal),
            _ => None,
        })
    }

    /// Returns the first scope that is not a valid scope-token, or `Some("")` if the list is empty.
    pub(crate) fn first_invalid(&self) -> Option<&str> {
        if self.scopes.is_empty() {
            return Some("");
        }
        self.iter().find(|scope| !is_scope_token(scope))
    }
}

impl fmt::Display for ScopePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, scope) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { " " };
            write!(f, "{separator}{scope}")?;
        }
        Ok(())
    }
}

/// A type that stands for scopes. Declare such a type with [`scopes!`](crate::scopes).
///
/// Use the type in one of these places:
/// - the signature of a handler, as [`Scoped<S>`](crate::Scoped);
/// - the guard of a route, in [`Require::scope`](crate::Require::scope);
/// - the body of a handler, in [`AccessToken::require_scope`](crate::AccessToken::require_scope).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name a scope",
    label = "not declared with `tower_logto::scopes!`",
    note = "declare it: `tower_logto::scopes! {{ pub {Self} = \"read:products\"; }}`"
)]
pub trait Scope {
    /// The scopes in the order of the declaration, for documents that list scopes.
    ///
    /// ```
    /// use tower_logto::{Scope, scopes};
    ///
    /// scopes! { ManageProducts = all["read:products", "write:products"]; }
    /// assert_eq!(ManageProducts::SCOPES, ["read:products", "write:products"]);
    /// ```
    const SCOPES: &'static [&'static str];

    /// The required scopes, and the accepted kinds of token.
    #[doc(hidden)]
    const POLICY: ScopePolicy;
}

/// Returns whether the text is one scope-token, which is printable ASCII except space, `"` and `\`
/// (RFC 6749 §3.3).
pub const fn is_scope_token(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        if !matches!(first, 0x21 | 0x23..=0x5b | 0x5d..=0x7e) {
            return false;
        }
        rest = tail;
    }
    !bytes.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_split_at_single_spaces_only() {
        for (claim, scopes) in [
            ("", &[][..]),
            ("a", &["a"]),
            ("a b", &["a", "b"]),
            (" a  b ", &["a", "b"]),
            ("a,b", &["a,b"]),
            ("a\tb", &["a\tb"]),
            ("a\nb", &["a\nb"]),
            ("a\u{a0}b", &["a\u{a0}b"]),
        ] {
            assert_eq!(ScopeSet::new(claim).iter().collect::<Vec<_>>(), scopes, "{claim:?}");
        }
    }

    #[test]
    fn scope_sets_are_equal_in_any_order() {
        assert_eq!(ScopeSet::new("a b"), ScopeSet::new("b a"));
        assert_ne!(ScopeSet::new("a b"), ScopeSet::new("a"));
        assert_ne!(ScopeSet::new(""), ScopeSet::new("a"));
    }

    #[test]
    fn a_scope_satisfies_only_itself() {
        let granted = ScopeSet::new("read:products admin");
        for (scope, satisfied) in [
            ("read:products", true),
            ("read:product", false),
            ("read", false),
            ("READ:PRODUCTS", false),
            ("products", false),
            ("read:products admin", false),
            ("", false),
        ] {
            assert_eq!(ScopePolicy::all([scope]).is_satisfied_by(granted), satisfied, "{scope:?}");
            assert_eq!(ScopePolicy::any([scope]).is_satisfied_by(granted), satisfied, "{scope:?}");
        }
        assert!(!ScopePolicy::all::<&str>([]).is_satisfied_by(granted));
        assert!(!ScopePolicy::any::<&str>([]).is_satisfied_by(granted));
    }

    #[test]
    fn policy_accepts_only_its_kinds_and_checked_organizations() {
        use super::macros::{for_any_kind, for_kind};
        use TokenKind::{Global, OrganizationPermissions, OrganizationResource};

        let default = ScopePolicy::all(["a"]);
        let permissions = for_kind(default.clone(), OrganizationPermissions);
        let global = for_kind(default.clone(), Global);
        let any = for_any_kind(default.clone());
        for (kind, checked, expected) in [
            (Global, false, [true, false, true, true]),
            (OrganizationResource, false, [false, false, false, true]),
            (OrganizationResource, true, [true, false, false, true]),
            (OrganizationPermissions, false, [false, false, false, true]),
            (OrganizationPermissions, true, [false, true, false, true]),
        ] {
            let accepted =
                [&default, &permissions, &global, &any].map(|r| r.accepts(kind, checked));
            assert_eq!(accepted, expected, "{kind:?}, organization checked: {checked}");
        }
    }

    #[test]
    fn scope_tokens_follow_the_grammar_of_rfc_6749() {
        for byte in 0u8..=0x7f {
            let expected = (0x21..=0x7e).contains(&byte) && byte != b'"' && byte != b'\\';
            assert_eq!(is_scope_token(&char::from(byte).to_string()), expected, "{byte:#x}");
        }
        assert!(!is_scope_token(""));
        assert!(!is_scope_token("é"));
        assert_eq!(ScopePolicy::all(["ok", "a\"b"]).first_invalid(), Some("a\"b"));
        assert_eq!(ScopePolicy::all::<&str>([]).first_invalid(), Some(""));
        assert_eq!(ScopePolicy::any(["ok"]).first_invalid(), None);
    }
}
