//! Permissions: the scope-token grammar, the scopes a token has, and what a guard demands.

use std::{borrow::Cow, fmt};

/// Which of Logto's three permission models an access token belongs to.
///
/// The same scope name means something else in each of them, so guards ask for a kind as well as
/// for scopes: see [`RequiredScopes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenKind {
    /// A global API resource: `aud` is the resource indicator, no `organization_id`.
    Global,
    /// An organization-level API resource: `aud` is the resource indicator, and the claim
    /// `organization_id` names the organization whose roles gave the scopes.
    OrganizationResource,
    /// Organization (non-API) permissions: `aud` is `urn:logto:organization:<id>`.
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

/// The scopes an access token has: its `scope` claim, split at single spaces (RFC 6749 §3.3).
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
    /// Reads a `scope` value. Nothing but a single space separates, and order has no meaning.
    #[must_use]
    pub const fn new(scope: &'a str) -> Self {
        Self(scope)
    }

    /// Whether this exact scope is there; no prefixes, no wildcards, case matters.
    #[must_use]
    pub fn contains(self, scope: &str) -> bool {
        self.iter().any(|have| have == scope)
    }

    /// The scopes, in the order of the claim.
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        self.0.split(' ').filter(|scope| !scope.is_empty())
    }

    /// Whether there is no scope at all.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// The claim as it was received.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

/// Whatever their order.
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

/// What a guard demands of a token: scopes, and the kinds of token that may bring them.
///
/// By default only a [`TokenKind::Global`] token satisfies it, or an
/// [`TokenKind::OrganizationResource`] token that
/// [`RequireOrganization`](crate::RequireOrganization) (or
/// [`AccessToken::in_organization`](crate::AccessToken::in_organization)) has tied to the
/// request's organization: a scope that an organization's role gave must not open a route for
/// everybody. An organization permission token is let in only where [`kind`](Self::kind) or
/// [`any_kind`](Self::any_kind) names it.
///
/// ```
/// use tower_logto::{RequiredScopes, ScopeSet, TokenKind};
///
/// let either = RequiredScopes::any(["read:products", "write:products"]);
/// assert!(either.met_by(ScopeSet::new("read:products")));
///
/// let both = RequiredScopes::all(["read:products", "write:products"]);
/// assert!(!both.met_by(ScopeSet::new("read:products")));
///
/// let invite = RequiredScopes::all(["invite:member"]).kind(TokenKind::OrganizationPermissions);
/// assert_eq!(invite.to_string(), "invite:member");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredScopes {
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
    /// Global, or organization-level API once tied to the request's organization.
    Default,
    Only(TokenKind),
    Any,
}

impl RequiredScopes {
    /// Every one of these scopes.
    pub fn all<S: Into<Cow<'static, str>>>(scopes: impl IntoIterator<Item = S>) -> Self {
        Self::new(scopes, Rule::All)
    }

    /// At least one of these scopes.
    pub fn any<S: Into<Cow<'static, str>>>(scopes: impl IntoIterator<Item = S>) -> Self {
        Self::new(scopes, Rule::Any)
    }

    /// The same as [`all`](Self::all), for constants: what [`scopes!`](crate::scopes) writes.
    #[doc(hidden)]
    #[must_use]
    pub const fn constant_all(scopes: &'static [Cow<'static, str>]) -> Self {
        Self { scopes: Cow::Borrowed(scopes), rule: Rule::All, kinds: Kinds::Default }
    }

    /// The same as [`any`](Self::any), for constants: what [`scopes!`](crate::scopes) writes.
    #[doc(hidden)]
    #[must_use]
    pub const fn constant_any(scopes: &'static [Cow<'static, str>]) -> Self {
        Self { scopes: Cow::Borrowed(scopes), rule: Rule::Any, kinds: Kinds::Default }
    }

    /// Only from tokens of this kind. Organizations' tokens still have to be tied to the
    /// request's organization.
    #[must_use]
    pub const fn kind(mut self, kind: TokenKind) -> Self {
        self.kinds = Kinds::Only(kind);
        self
    }

    /// From a token of any kind, whether it was tied to the request's organization or not.
    ///
    /// Whoever has the scope in any one organization passes: only for routes where that is meant.
    #[must_use]
    pub const fn any_kind(mut self) -> Self {
        self.kinds = Kinds::Any;
        self
    }

    /// Whether these scopes are enough, whatever kind of token they came with.
    #[must_use]
    pub fn met_by(&self, granted: ScopeSet<'_>) -> bool {
        match self.rule {
            // No scope at all is a mistake, not a permission.
            Rule::All => !self.scopes.is_empty() && self.iter().all(|one| granted.contains(one)),
            Rule::Any => self.iter().any(|scope| granted.contains(scope)),
        }
    }

    /// Whether a token of this kind may satisfy it; `tied`: to the request's organization.
    pub(crate) fn accepts(&self, kind: TokenKind, tied: bool) -> bool {
        let belongs = tied || kind == TokenKind::Global;
        match self.kinds {
            Kinds::Any => true,
            Kinds::Only(only) => kind == only && belongs,
            Kinds::Default => kind != TokenKind::OrganizationPermissions && belongs,
        }
    }

    /// The scopes that are demanded, all of them or the alternatives.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(AsRef::as_ref)
    }

    /// The first scope no token can have, for a guard to name at start; `Some("")` for none at all.
    pub(crate) fn first_invalid(&self) -> Option<&str> {
        if self.scopes.is_empty() {
            return Some("");
        }
        self.iter().find(|scope| !is_scope_token(scope))
    }

    /// For the operator, in front of the scopes.
    pub(crate) const fn demand(&self) -> &'static str {
        match self.rule {
            Rule::All => "all of",
            Rule::Any => "one of",
        }
    }

    fn new<S: Into<Cow<'static, str>>>(scopes: impl IntoIterator<Item = S>, rule: Rule) -> Self {
        let scopes = scopes.into_iter().map(Into::into).collect();
        Self { scopes: Cow::Owned(scopes), rule, kinds: Kinds::Default }
    }
}

/// The scopes, separated by single spaces, as the `scope` of a challenge lists them.
impl fmt::Display for RequiredScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, scope) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { " " };
            write!(f, "{separator}{scope}")?;
        }
        Ok(())
    }
}

/// Scopes with a type, to stand in a handler's signature as [`Scoped<Self>`](crate::Scoped).
///
/// [`scopes!`](crate::scopes) implements it.
pub trait Requirement {
    /// What the token has to have.
    const REQUIRED: RequiredScopes;
}

/// Declares types for scopes, so that a handler's signature can demand them.
///
/// A name stands for one scope, for `all[…]` of several, or for `any[…]` of them; `for any_kind`
/// or `for` a [`TokenKind`] says which tokens may bring them (see [`RequiredScopes`]).
///
/// ```
/// use tower_logto::{scopes, Requirement};
///
/// scopes! {
///     /// Read the catalogue.
///     pub ReadProducts = "read:products";
///     /// Keep the catalogue.
///     pub ManageProducts = all["read:products", "write:products"];
///     /// See orders, as support or as billing.
///     SeeOrders = any["read:orders", "read:invoices"] for any_kind;
///     /// Invite a member into the organization of the path.
///     InviteMember = "invite:member" for OrganizationPermissions;
/// }
/// assert_eq!(ManageProducts::REQUIRED.to_string(), "read:products write:products");
/// ```
///
/// A scope that RFC 6749 §3.3 does not allow does not compile:
///
/// ```compile_fail
/// tower_logto::scopes! {
///     /// Two scopes in one string.
///     pub Both = "read:products write:products";
/// }
/// ```
#[macro_export]
macro_rules! scopes {
    () => {};
    ($(#[$meta:meta])* $vis:vis $name:ident = $scope:literal $(for $kind:ident)?; $($rest:tt)*) => {
        $crate::scopes! { $(#[$meta])* $vis $name = all[$scope] $(for $kind)?; $($rest)* }
    };
    ($(#[$meta:meta])* $vis:vis $name:ident = all[$($scope:literal),+ $(,)?] $(for $kind:ident)?; $($rest:tt)*) => {
        $crate::scopes! { @define [$(#[$meta])* $vis $name] constant_all [$($scope),+] [$($kind)?] }
        $crate::scopes! { $($rest)* }
    };
    ($(#[$meta:meta])* $vis:vis $name:ident = any[$($scope:literal),+ $(,)?] $(for $kind:ident)?; $($rest:tt)*) => {
        $crate::scopes! { @define [$(#[$meta])* $vis $name] constant_any [$($scope),+] [$($kind)?] }
        $crate::scopes! { $($rest)* }
    };
    (@define [$(#[$meta:meta])* $vis:vis $name:ident] $rule:ident [$($scope:literal),+] [$($kind:ident)?]) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis struct $name;

        impl $crate::Requirement for $name {
            const REQUIRED: $crate::RequiredScopes = $crate::scopes!(
                @kind ($crate::RequiredScopes::$rule(&[$(::std::borrow::Cow::Borrowed($scope)),+])) $($kind)?
            );
        }

        const _: () = { $(assert!($crate::is_scope_token($scope), "not a scope-token of RFC 6749 §3.3");)+ };
    };
    (@kind ($required:expr)) => { $required };
    (@kind ($required:expr) any_kind) => { $required.any_kind() };
    (@kind ($required:expr) $kind:ident) => { $required.kind($crate::TokenKind::$kind) };
}

/// Whether this is one scope-token: printable ASCII without space, `"` and `\` (RFC 6749 §3.3).
///
/// ```
/// use tower_logto::testing::is_scope_token;
///
/// assert!(is_scope_token("read:products"));
/// assert!(!is_scope_token("read products"));
/// ```
#[must_use]
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
    fn only_a_single_space_separates() {
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
    fn the_order_of_scopes_has_no_meaning() {
        assert_eq!(ScopeSet::new("a b"), ScopeSet::new("b a"));
        assert_ne!(ScopeSet::new("a b"), ScopeSet::new("a"));
        assert_ne!(ScopeSet::new(""), ScopeSet::new("a"));
    }

    #[test]
    fn a_scope_is_met_by_itself_only() {
        let granted = ScopeSet::new("read:products admin");
        for (scope, met) in [
            ("read:products", true),
            ("read:product", false),
            ("read", false),
            ("READ:PRODUCTS", false),
            ("products", false),
            ("read:products admin", false),
            ("", false),
        ] {
            assert_eq!(RequiredScopes::all([scope]).met_by(granted), met, "{scope:?}");
            assert_eq!(RequiredScopes::any([scope]).met_by(granted), met, "{scope:?}");
        }
        assert!(!RequiredScopes::all::<&str>([]).met_by(granted));
        assert!(!RequiredScopes::any::<&str>([]).met_by(granted));
    }

    #[test]
    fn kinds_fail_closed() {
        use TokenKind::{Global, OrganizationPermissions, OrganizationResource};
        let default = RequiredScopes::all(["a"]);
        let permissions = RequiredScopes::all(["a"]).kind(OrganizationPermissions);
        let global = RequiredScopes::all(["a"]).kind(Global);
        let any = RequiredScopes::all(["a"]).any_kind();
        for (kind, tied, expected) in [
            (Global, false, [true, false, true, true]),
            (OrganizationResource, false, [false, false, false, true]),
            (OrganizationResource, true, [true, false, false, true]),
            (OrganizationPermissions, false, [false, false, false, true]),
            (OrganizationPermissions, true, [false, true, false, true]),
        ] {
            let accepted = [&default, &permissions, &global, &any].map(|r| r.accepts(kind, tied));
            assert_eq!(accepted, expected, "{kind:?}, tied: {tied}");
        }
    }

    #[test]
    fn the_grammar_is_rfc_6749s() {
        for byte in 0u8..=0x7f {
            let expected = (0x21..=0x7e).contains(&byte) && byte != b'"' && byte != b'\\';
            assert_eq!(is_scope_token(&char::from(byte).to_string()), expected, "{byte:#x}");
        }
        assert!(!is_scope_token(""));
        assert!(!is_scope_token("é"));
        assert_eq!(RequiredScopes::all(["ok", "a\"b"]).first_invalid(), Some("a\"b"));
        assert_eq!(RequiredScopes::all::<&str>([]).first_invalid(), Some(""));
        assert_eq!(RequiredScopes::any(["ok"]).first_invalid(), None);
    }
}
