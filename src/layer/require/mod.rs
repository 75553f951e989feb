//! The guard of a route: the layer `Require` and its service.

mod alternative;
mod condition;
mod organization;

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderName, Request, Response, request::Parts};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    access_token::AccessToken,
    error::AuthError,
    issuer::Issuer,
    layer::{
        future::ResponseFuture,
        require::{
            alternative::{Alternative, PermissionModel},
            condition::{Condition, Function},
            organization::Organization,
        },
    },
    scope::{Scope, ScopePolicy, TokenKind},
};

/// Guards routes inside an [`AuthLayer`](crate::AuthLayer). If the token does not satisfy the
/// guard, the response is a 403.
///
/// The constructor names the permission model, because the same scope has a different meaning in
/// each model. [How to split scopes](crate#how-to-split-scopes) says which scopes a guard may
/// require.
///
/// | constructor | accepted tokens |
/// |---|---|
/// | [`global`](Self::global) | tokens for a global API resource |
/// | [`organization_in_path`], [`organization_in_header`], [`organization_by`] | tokens for an organization-level API resource, issued for the organization that the request names |
/// | [`organization_of_token`](Self::organization_of_token) | tokens for an organization-level API resource, issued for any organization |
/// | [`any_kind`](Self::any_kind) | tokens of every kind, without a check of the organization |
///
/// [`organization_in_path`]: Self::organization_in_path
/// [`organization_in_header`]: Self::organization_in_header
/// [`organization_by`]: Self::organization_by
///
/// If you call [`organization_permissions`](Self::organization_permissions) after an organization
/// constructor, the guard accepts organization permission tokens instead.
///
/// Most methods add a condition. You can add conditions in any order. A token must satisfy all
/// conditions. [`or`](Self::or) adds an alternative.
///
/// ```
/// use axum::{Router, routing::get};
/// use tower_logto::{AuthLayer, Issuer, Require, Validator};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let validator = Validator::new(&issuer, "https://shopping.api")?;
/// let members = Require::organization_in_path("org_id").scopes(["read:members"]);
/// let app: Router = Router::new()
///     .route("/orgs/{org_id}/members", get(|| async { "alice" }))
///     .route_layer(members.or(Require::global().scopes(["admin:members"])))
///     .route_layer(AuthLayer::new(validator)); // the last layer runs first
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
///
/// # Inside the guard
/// A guard with an organization constructor changes the token in the request's extensions. The
/// changed token records that its organization was checked. Inside the guard,
/// [`Scoped`](crate::Scoped) and [`AccessToken::require_scopes`] therefore accept the scopes of the
/// organization.
///
/// # Refusals
/// If [`AuthLayer::optional`](crate::AuthLayer::optional) accepted a request without credentials,
/// the guard responds with 401. If no `AuthLayer` wraps the guard, the guard responds to every
/// request with 500.
///
/// # Several issuers or audiences
/// A scope of one API has no meaning in another API, and two tenants can have organizations with
/// the same id. If the validator trusts several issuers, each guard must name the required issuer
/// with [`issuer`](Self::issuer). If the validator has several audiences, each guard must call
/// [`audience`](Self::audience), except after
/// [`organization_permissions`](Self::organization_permissions).
///
/// A guard without the required call responds with 500 to every request that has a token. The log
/// says which call is missing. If the required issuer or audience is not named, scope checks in
/// extractors and handlers also fail with 500. Put the handler inside a guard that names the issuer
/// or the audience, or call [`AccessToken::require_issuer`] and [`AccessToken::require_audience`].
/// If each audience has its own validator, guards need not name the audience. See
/// [`Validator::derive`](crate::Validator::derive).
///
/// # What a guard does not cover
/// - In `get(read).route_layer(guard).post(write)`, `write` has no guard. `route_layer` does not
///   guard methods that are added after it. Call `.route_layer(guard)` last.
/// - A guard outside `nest_service("/orgs/{org_id}", inner)` does not see the path parameters of
///   `inner`. If a route of `inner` has another parameter with the name `org_id`, the guard and the
///   handler can get different values. Put the guard inside `inner`, or use `nest`. With `nest`,
///   the guard sees both `org_id` parameters of the request. Both values must be the id of the
///   token's organization.
///
/// # Panics
/// A method panics if no token could satisfy the guard. Examples are an invalid scope, an empty
/// list, and [`machine`](Self::machine) together with [`user`](Self::user). The panic message
/// contains the file and the line of the call.
#[derive(Clone)]
#[must_use = "a guard does nothing until a route or a service is wrapped in it"]
pub struct Require(Arc<Alternatives>);

#[derive(Debug, Clone)]
struct Alternatives {
    first: Alternative,
    others: Vec<Alternative>,
}

impl Require {
    /// Accepts tokens for a global API resource.
    ///
    /// A user's token has the API scopes of all the user's roles: the global roles, and the roles
    /// in each organization. The guard must therefore not require a scope that an organization role
    /// grants: see [how to split scopes](crate#how-to-split-scopes).
    pub fn global() -> Self {
        Self::new(PermissionModel::Global)
    }

    /// Accepts tokens of the organization that this axum path parameter names.
    ///
    /// The guard compares the decoded value of the parameter with the organization of the token. If
    /// the route has several parameters of that name, every value must match. If the route has no
    /// parameter of that name, the guard responds with 500.
    #[cfg(feature = "axum")]
    #[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
    pub fn organization_in_path(parameter: &'static str) -> Self {
        Self::new(PermissionModel::Organization(Organization::InPath(parameter)))
    }

    /// Accepts tokens of the organization that this header names.
    ///
    /// If the request does not have exactly one such header, the guard responds with 400.
    pub fn organization_in_header(name: HeaderName) -> Self {
        Self::new(PermissionModel::Organization(Organization::InHeader(name)))
    }

    /// Accepts tokens of the organization whose id a function returns. For example, the function
    /// can read the id from the subdomain. If the function returns `None`, the guard refuses the
    /// request with 403.
    ///
    /// ```
    /// use std::borrow::Cow;
    /// use http::{header::HOST, request::Parts};
    /// use tower_logto::Require;
    ///
    /// fn subdomain(parts: &Parts) -> Option<Cow<'_, str>> {
    ///     let host = parts.headers.get(HOST)?.to_str().ok()?;
    ///     host.strip_suffix(".shop.example").map(Cow::Borrowed)
    /// }
    ///
    /// let guard = Require::organization_by(subdomain).scopes(["read:members"]);
    /// ```
    pub fn organization_by(
        find: impl Fn(&Parts) -> Option<Cow<'_, str>> + Send + Sync + 'static,
    ) -> Self {
        Self::new(PermissionModel::Organization(Organization::By(Function(Arc::new(find)))))
    }

    /// Accepts tokens of every organization. Use this constructor if the request does not name an
    /// organization.
    ///
    /// Use [`AccessToken::organization_id`] in the handler to select the organization's data.
    pub fn organization_of_token() -> Self {
        Self::new(PermissionModel::Organization(Organization::OfToken))
    }

    /// Accepts every kind of token, without a check of the organization.
    ///
    /// The guard accepts a user who has the required scopes in at least one organization. Use this
    /// constructor only where that is intended.
    ///
    /// If the validator has several audiences, the guard must name one of them. Such a guard
    /// refuses organization permission tokens, because their audience is an organization.
    pub fn any_kind() -> Self {
        Self::new(PermissionModel::Any)
    }

    /// Accepts organization permission tokens (`aud` is `urn:logto:organization:<id>`) instead of
    /// tokens for an organization-level API resource.
    ///
    /// The validator needs [`TrustedIssuer::organizations`](crate::TrustedIssuer::organizations).
    /// After [`any_kind`](Self::any_kind), the guard accepts the organization permission tokens of
    /// every organization.
    ///
    /// # Panics
    /// Panics if the constructor was [`global`](Self::global), or if an earlier call of
    /// [`scope`](Self::scope) requires another kind of token.
    #[track_caller]
    pub fn organization_permissions(mut self) -> Self {
        for alternative in self.alternatives() {
            alternative.accept_only(TokenKind::OrganizationPermissions);
        }
        self
    }

    /// Requires all of these scopes.
    ///
    /// # Panics
    /// Panics if the list is empty, or if RFC 6749 §3.3 does not allow one of the scopes.
    #[track_caller]
    pub fn scopes(self, all: impl IntoIterator<Item = impl Into<Cow<'static, str>>>) -> Self {
        self.condition(&Condition::Scopes(ScopePolicy::all(all)))
    }

    /// Requires at least one of these scopes.
    ///
    /// # Panics
    /// Panics in the same cases as [`scopes`](Self::scopes).
    #[track_caller]
    pub fn any_scope(self, one_of: impl IntoIterator<Item = impl Into<Cow<'static, str>>>) -> Self {
        self.condition(&Condition::Scopes(ScopePolicy::any(one_of)))
    }

    /// Requires the scopes of a type that [`scopes!`](crate::scopes) declares.
    ///
    /// If the declaration has `for` and a kind, the token must also be of that kind. The kind
    /// `OrganizationPermissions` has the same effect as a call of
    /// [`organization_permissions`](Self::organization_permissions). `for any_kind` has no effect
    /// on a guard.
    ///
    /// # Panics
    /// Panics if the declaration requires a kind of token that the constructor or another condition
    /// of this guard excludes.
    #[track_caller]
    pub fn scope<S: Scope>(mut self) -> Self {
        if let Some(kind) = S::POLICY.declared_kind() {
            for alternative in self.alternatives() {
                alternative.accept_only(kind);
            }
        }
        self.condition(&Condition::Scopes(S::POLICY))
    }

    /// Requires a token of a machine-to-machine application. In such a token, `sub` equals
    /// `client_id`.
    ///
    /// # Panics
    /// Panics if the guard already has the condition [`user`](Self::user).
    #[track_caller]
    pub fn machine(self) -> Self {
        self.condition(&Condition::Machine)
    }

    /// Requires a token of a user. In such a token, `client_id` is present and differs from `sub`.
    ///
    /// # Panics
    /// Panics if the guard already has the condition [`machine`](Self::machine).
    #[track_caller]
    pub fn user(self) -> Self {
        self.condition(&Condition::User)
    }

    /// Requires a token whose `client_id` is the id of one of these applications.
    ///
    /// # Panics
    /// Panics if the list is empty.
    #[track_caller]
    pub fn client_ids(self, one_of: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let ids = one_of.into_iter().map(|id| id.into().into_boxed_str());
        self.condition(&Condition::ClientIds(ids.collect()))
    }

    /// Requires a token of this issuer. If the validator trusts several issuers, each guard must
    /// call this method.
    ///
    /// # Panics
    /// Panics if the guard already requires another issuer.
    #[track_caller]
    pub fn issuer(self, issuer: &Issuer) -> Self {
        self.condition(&Condition::Issuer(Arc::from([issuer.as_str().into()])))
    }

    /// Requires a token for this API. If the validator has several audiences, each guard must call
    /// this method. If you call this method for two APIs, the token must be for both.
    ///
    /// # Panics
    /// Panics if the audience is empty.
    #[track_caller]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.condition(&Condition::Audience(Arc::from([audience.into().into_boxed_str()])))
    }

    /// Requires that a function returns `Ok`. The guard calls the function after it has checked all
    /// other conditions. The function must not block.
    ///
    /// The guard adds the realm and the metadata URL of the validator to errors from
    /// [`AuthError::forbidden`] and [`AuthError::missing_token`].
    ///
    /// ```
    /// use serde::Deserialize;
    /// use tower_logto::{AuthError, Require};
    ///
    /// #[derive(Deserialize)]
    /// struct Plan {
    ///     paid: bool,
    /// }
    ///
    /// let guard = Require::any_kind().check(|token| {
    ///     if token.claims::<Plan>()?.paid {
    ///         Ok(())
    ///     } else {
    ///         Err(AuthError::forbidden("this plan has no exports"))
    ///     }
    /// });
    /// ```
    pub fn check(
        self,
        check: impl Fn(&AccessToken) -> Result<(), AuthError> + Send + Sync + 'static,
    ) -> Self {
        self.condition(&Condition::Check(Function(Arc::new(check))))
    }

    /// Accepts tokens that satisfy this guard or the other guard.
    ///
    /// Conditions that are added after this call apply to every alternative.
    ///
    /// If the token satisfies no alternative, the error comes from the first alternative that
    /// accepts the token's kind. If no alternative accepts this kind, the error comes from the
    /// first alternative.
    pub fn or(mut self, other: Self) -> Self {
        let Alternatives { first, others } = Arc::unwrap_or_clone(other.0);
        let mine = Arc::make_mut(&mut self.0);
        mine.others.push(first);
        mine.others.extend(others);
        self
    }

    fn new(model: PermissionModel) -> Self {
        let first = Alternative::new(model);
        Self(Arc::new(Alternatives { first, others: Vec::new() }))
    }

    #[track_caller]
    fn condition(mut self, condition: &Condition) -> Self {
        for alternative in self.alternatives() {
            alternative.add(condition.clone());
        }
        self
    }

    fn alternatives(&mut self) -> impl Iterator<Item = &mut Alternative> {
        let Alternatives { first, others } = Arc::make_mut(&mut self.0);
        std::iter::once(first).chain(others)
    }

    /// Checks the token of a request. If the check returns a changed token, this method stores the
    /// changed token in the request's extensions.
    fn admit(&self, parts: &mut Parts) -> Result<(), AuthError> {
        let token = AccessToken::from_extensions(&parts.extensions)?.clone();
        if let Some(checked) = self.0.admit(&token, parts)? {
            parts.extensions.insert(checked);
        }
        Ok(())
    }
}

impl Alternatives {
    fn admit(
        &self,
        token: &AccessToken,
        parts: &mut Parts,
    ) -> Result<Option<AccessToken>, AuthError> {
        let mut refusal = None;
        let all = std::iter::once(&self.first).chain(&self.others);
        all.clone().try_for_each(|alternative| alternative.check_named(token))?;
        for alternative in all.filter(|alternative| alternative.accepts_kind(token.kind())) {
            match alternative.admit(token, parts) {
                Ok(admitted) => return Ok(admitted),
                Err(error) => drop(refusal.get_or_insert(error)),
            }
        }
        // If no alternative accepts tokens of this kind, the error comes from the first
        // alternative.
        refusal.map_or_else(|| self.first.admit(token, parts), Err)
    }
}

impl fmt::Debug for Require {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = std::iter::once(&self.0.first).chain(&self.0.others);
        f.write_str("Require")?;
        f.debug_list().entries(all).finish()
    }
}

impl<S> Layer<S> for Require {
    type Service = RequireService<S>;

    fn layer(&self, inner: S) -> RequireService<S> {
        RequireService { inner, require: self.clone() }
    }
}

/// The service of [`Require`].
#[derive(Debug, Clone)]
pub struct RequireService<S> {
    inner: S,
    require: Require,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RequireService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let admitted = self.require.admit(&mut parts);
        let request = Request::from_parts(parts, body);
        match admitted {
            Ok(()) => ResponseFuture::inner(self.inner.call(request)),
            Err(error) => ResponseFuture::refused(error, &request),
        }
    }
}
