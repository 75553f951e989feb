//! The macro `scopes!`, and the items that it expands to: the crate exports them as `__private`.

use std::borrow::Cow;

use crate::scope::{Kinds, Rule, ScopePolicy, TokenKind};

pub use crate::scope::is_scope_token;

/// The result of [`is_scope_token`] as a type.
#[derive(Debug)]
#[non_exhaustive]
pub struct IsScope<const IS_SCOPE: bool>;

/// A text that RFC 6749 §3.3 does not allow as one scope: printable ASCII without spaces, `"`
/// and `\`.
#[derive(Debug)]
#[non_exhaustive]
pub struct PrintableAsciiWithoutSpaces;

/// The type that the text of a scope must have.
pub trait CheckedScope {
    /// `&str` for a scope.
    type Text;
}

impl CheckedScope for IsScope<true> {
    type Text = &'static str;
}

impl CheckedScope for IsScope<false> {
    type Text = PrintableAsciiWithoutSpaces;
}

/// Requires all of these scopes.
pub const fn all_of(scopes: &'static [Cow<'static, str>]) -> ScopePolicy {
    ScopePolicy { scopes: Cow::Borrowed(scopes), rule: Rule::All, kinds: Kinds::Default }
}

/// Requires at least one of these scopes.
pub const fn any_of(scopes: &'static [Cow<'static, str>]) -> ScopePolicy {
    ScopePolicy { scopes: Cow::Borrowed(scopes), rule: Rule::Any, kinds: Kinds::Default }
}

/// Accepts only tokens of this kind.
pub const fn for_kind(mut policy: ScopePolicy, kind: TokenKind) -> ScopePolicy {
    policy.kinds = Kinds::Only(kind);
    policy
}

/// Accepts every kind of token, without a check of the organization.
pub const fn for_any_kind(mut policy: ScopePolicy) -> ScopePolicy {
    policy.kinds = Kinds::Any;
    policy
}

/// Declares types for scopes, which the signature of a handler can require.
///
/// A type stands for one scope, for `all[…]` of several, or for `any[…]` of several. By default, it
/// accepts these tokens:
/// - tokens for a global API resource;
/// - tokens for an organization-level API resource, after a
///   [`Require::organization_…`](crate::Require) guard or
///   [`AccessToken::require_organization`](crate::AccessToken::require_organization) has checked
///   the organization.
///
/// [How to split scopes](crate#how-to-split-scopes) between global and organization roles says why
/// a scope must not be granted by both.
///
/// With `for` and a variant of [`TokenKind`], the type accepts only that kind. The organization
/// must still be checked. With `for any_kind`, it accepts every token without a check of the
/// organization: a user may have the scope in any organization.
///
/// ```
/// use tower_logto::{AccessToken, AuthError, scopes};
///
/// scopes! {
///     /// Read the catalogue.
///     pub ReadProducts = "read:products";
///     /// Maintain the catalogue.
///     pub ManageProducts = all["read:products", "write:products"];
///     /// See orders, as support or as billing.
///     SeeOrders = any["read:orders", "read:invoices"] for any_kind;
///     /// Invite a member into the organization of the path.
///     InviteMember = "invite:member" for OrganizationPermissions;
/// }
///
/// fn manage(token: &AccessToken) -> Result<(), AuthError> {
///     token.require_scope::<ManageProducts>()
/// }
/// ```
///
/// A scope may also be a constant. A path to a constant is written inside of `all[…]`:
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
    // One token: a literal, or the name of a constant.
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

        // For a text that is not a scope, the expected type is `PrintableAsciiWithoutSpaces`, and the compiler points
        // at the text.
        $(const _: <$crate::__private::IsScope<{ $crate::__private::is_scope_token($scope) }>
            as $crate::__private::CheckedScope>::Text = $scope;)+
    };
    (@kind ($policy:expr)) => { $policy };
    (@kind ($policy:expr) any_kind) => { $crate::__private::for_any_kind($policy) };
    (@kind ($policy:expr) $kind:ident) => { $crate::__private::for_kind($policy, $crate::TokenKind::$kind) };
}
