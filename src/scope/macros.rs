//! The macro `scopes!`, and the items that its expansion uses. The crate exports these items as
//! `__private`.

use std::borrow::Cow;

use crate::scope::{Kinds, Rule, ScopePolicy, TokenKind};

pub use crate::scope::is_scope_token;

/// A type that represents the result of [`is_scope_token`].
#[derive(Debug)]
#[non_exhaustive]
pub struct IsScope<const IS_SCOPE: bool>;

/// The type that the macro requires for a string that is not a valid scope. The string has the type
/// `&'static str`, not this type, so the program does not compile. The compiler's error shows the
/// name of this type, which summarizes the rule of RFC 6749 §3.3: a scope is printable ASCII except
/// space, `"` and `\`.
#[derive(Debug)]
#[non_exhaustive]
pub struct PrintableAsciiWithoutSpaces;

/// Selects the type that the text of a scope must have.
pub trait CheckedScope {
    /// `&'static str` if the text is a scope. If the text is not a scope, the type is
    /// `PrintableAsciiWithoutSpaces`, so the program does not compile.
    type Text;
}

impl CheckedScope for IsScope<true> {
    type Text = &'static str;
}

impl CheckedScope for IsScope<false> {
    type Text = PrintableAsciiWithoutSpaces;
}

/// Returns a policy that requires all of these scopes.
pub const fn all_of(scopes: &'static [Cow<'static, str>]) -> ScopePolicy {
    ScopePolicy { scopes: Cow::Borrowed(scopes), rule: Rule::All, kinds: Kinds::Default }
}

/// Returns a policy that requires at least one of these scopes.
pub const fn any_of(scopes: &'static [Cow<'static, str>]) -> ScopePolicy {
    ScopePolicy { scopes: Cow::Borrowed(scopes), rule: Rule::Any, kinds: Kinds::Default }
}

/// Returns the policy, changed to accept only tokens of this kind.
pub const fn for_kind(mut policy: ScopePolicy, kind: TokenKind) -> ScopePolicy {
    policy.kinds = Kinds::Only(kind);
    policy
}

/// Returns the policy, changed to accept every kind of token without a check of the organization.
pub const fn for_any_kind(mut policy: ScopePolicy) -> ScopePolicy {
    policy.kinds = Kinds::Any;
    policy
}

/// Declares types that stand for scopes. A handler can require such a type in its signature.
///
/// A type stands for one scope, for `all[…]` of several scopes, or for `any[…]` of several scopes.
/// By default, the type accepts these tokens:
/// - tokens for a global API resource;
/// - tokens for an organization-level API resource, after a
///   [`Require::organization_…`](crate::Require) guard or
///   [`AccessToken::require_organization`](crate::AccessToken::require_organization) has checked
///   the organization.
///
/// [How to split scopes](crate#how-to-split-scopes) explains why global roles and organization
/// roles must not grant the same scope.
///
/// If the declaration ends with `for` and a variant of [`TokenKind`], the type accepts only tokens
/// of that kind. If such a token belongs to an organization, the type accepts the token only after
/// a check of the organization. If the declaration ends with `for any_kind`, the type accepts every
/// kind of token without a check of the organization. The scope may then come from a role in any
/// organization.
///
/// ```
/// use tower_logto::{AccessToken, AuthError, scopes};
///
/// scopes! {
///     /// Read the catalogue.
///     pub ReadProducts = "read:products";
///     /// Maintain the catalogue.
///     pub ManageProducts = all["read:products", "write:products"];
///     /// Read orders, for support or billing staff.
///     SeeOrders = any["read:orders", "read:invoices"] for any_kind;
///     /// Invite a member to the organization whose id is in the path.
///     InviteMember = "invite:member" for OrganizationPermissions;
/// }
///
/// fn manage(token: &AccessToken) -> Result<(), AuthError> {
///     token.require_scope::<ManageProducts>()
/// }
/// ```
///
/// A scope may also be a constant. If the constant is given by a path, write the path inside
/// `all[…]`:
///
/// ```
/// mod names {
///     pub const READ: &str = "read:products";
/// }
/// const WRITE: &str = "write:products";
///
/// tower_logto::scopes! {
///     pub WriteProducts = WRITE;
///     pub ReadProducts = all[names::READ];
/// }
/// ```
///
/// If RFC 6749 §3.3 does not allow a scope, the declaration does not compile:
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
    ($(#[$meta:meta])* $vis:vis $name:ident = all[$($scope:expr),+ $(,)?] $(for $kind:ident)?; $($rest:tt)*) => {
        $crate::scopes! { @define [$(#[$meta])* $vis $name] all_of [$($scope),+] [$($kind)?] }
        $crate::scopes! { $($rest)* }
    };
    ($(#[$meta:meta])* $vis:vis $name:ident = any[$($scope:expr),+ $(,)?] $(for $kind:ident)?; $($rest:tt)*) => {
        $crate::scopes! { @define [$(#[$meta])* $vis $name] any_of [$($scope),+] [$($kind)?] }
        $crate::scopes! { $($rest)* }
    };
    // `$scope` is a single Rust token: a literal or the name of a constant.
    ($(#[$meta:meta])* $vis:vis $name:ident = $scope:tt $(for $kind:ident)?; $($rest:tt)*) => {
        $crate::scopes! { $(#[$meta])* $vis $name = all[$scope] $(for $kind)?; $($rest)* }
    };
    (@define [$(#[$meta:meta])* $vis:vis $name:ident] $rule:ident [$($scope:expr),+] [$($kind:ident)?]) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis struct $name;

        impl $crate::Scope for $name {
            const SCOPES: &'static [&'static str] = &[$($scope),+];
            const POLICY: $crate::error::ScopePolicy = $crate::scopes!(
                @kind ($crate::__private::$rule(&[$(::std::borrow::Cow::Borrowed($scope)),+])) $($kind)?
            );
        }

        // If the text is not a scope, the declared type of this constant is
        // `PrintableAsciiWithoutSpaces`. This type does not match the text, which is a `&str`. The
        // compiler therefore reports an error that points at the text.
        $(const _: <$crate::__private::IsScope<{ $crate::__private::is_scope_token($scope) }>
            as $crate::__private::CheckedScope>::Text = $scope;)+
    };
    (@kind ($policy:expr)) => { $policy };
    (@kind ($policy:expr) any_kind) => { $crate::__private::for_any_kind($policy) };
    (@kind ($policy:expr) $kind:ident) => { $crate::__private::for_kind($policy, $crate::TokenKind::$kind) };
}
