//! One alternative of a guard: a permission model and the conditions on the token.

use http::request::Parts;

use crate::{
    access_token::AccessToken,
    bearer::challenge::GuardsName,
    error::{AuthError, AuthErrorKind},
    layer::require::{
        condition::{Condition, never_passes},
        organization::Organization,
    },
    scope::TokenKind,
};

#[derive(Debug, Clone)]
pub(super) struct Alternative {
    model: PermissionModel,
    /// The only kind of token that the conditions accept, or `None` if no condition requires a
    /// particular kind.
    only: Option<TokenKind>,
    /// The conditions, in the order of the checks.
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone)]
pub(super) enum PermissionModel {
    Global,
    Organization(Organization),
    Any,
}

impl Alternative {
    pub(super) const fn new(model: PermissionModel) -> Self {
        Self { model, only: None, conditions: Vec::new() }
    }

    /// Adds the condition that the token is of this kind.
    #[track_caller]
    pub(super) fn accept_only(&mut self, kind: TokenKind) {
        let excluded = match &self.model {
            PermissionModel::Global => kind != TokenKind::Global,
            PermissionModel::Organization(_) => kind == TokenKind::Global,
            PermissionModel::Any => false,
        };
        if excluded || self.only.is_some_and(|only| only != kind) {
            let accepted = self.kind().map_or(String::new(), |kind| kind.to_string());
            never_passes(&format!("it accepts {accepted} only, but this call requires {kind}"));
        }
        self.only = Some(kind);
    }

    /// Adds a condition. Conditions are sorted by rank, so the order of the calls has no effect.
    #[track_caller]
    pub(super) fn add(&mut self, condition: Condition) {
        condition.assert_can_hold_with(&self.conditions);
        let position = self.conditions.partition_point(|other| other.rank() <= condition.rank());
        self.conditions.insert(position, condition);
    }

    pub(super) fn accepts_kind(&self, kind: TokenKind) -> bool {
        self.kind().is_none_or(|accepted| accepted == kind)
    }

    /// Fails if the alternative must name the issuer, but names no issuer. Also fails if the
    /// alternative must name the audience, but names no audience. Such an alternative is a mistake
    /// in the program, and fails for every token.
    pub(super) fn check_named(&self, token: &AccessToken) -> Result<(), AuthError> {
        let (unnamed, named) = (token.unnamed(), self.named());
        if unnamed.issuer && !named.issuer {
            return Err(token.refuse(AuthErrorKind::UnnamedIssuer));
        }
        // If the alternative accepts only organization permission tokens, it need not name an
        // audience. The audience of such a token is an organization, not an API.
        let has_audience = self.kind() != Some(TokenKind::OrganizationPermissions);
        if unnamed.audience && !named.audience && has_audience {
            return Err(token.refuse(AuthErrorKind::UnnamedAudience));
        }
        Ok(())
    }

    /// Checks the token, and returns a copy of the token for the inner service. The copy records
    /// that the organization was checked, or that the guard names the issuer or the audience. If
    /// there is nothing to record, returns `None`.
    pub(super) fn admit(
        &self,
        token: &AccessToken,
        parts: &mut Parts,
    ) -> Result<Option<AccessToken>, AuthError> {
        let unnamed = token.unnamed();
        let named = (unnamed.issuer || unnamed.audience).then(|| token.with_named(self.named()));
        let token = named.as_ref().unwrap_or(token);
        let organization_checked = match &self.model {
            PermissionModel::Global | PermissionModel::Any => None,
            PermissionModel::Organization(organization) => Some(organization.check(token, parts)?),
        };
        let token = organization_checked.as_ref().unwrap_or(token);
        if !self.accepts_kind(token.kind()) {
            return Err(token.refuse(AuthErrorKind::WrongKind(token.kind())));
        }
        self.conditions.iter().try_for_each(|condition| condition.check(token))?;
        Ok(organization_checked.or(named))
    }

    /// Returns whether a condition names the issuer, and whether a condition names the audience.
    fn named(&self) -> GuardsName {
        let has = |wanted: fn(&Condition) -> bool| self.conditions.iter().any(wanted);
        GuardsName {
            issuer: has(|condition| matches!(condition, Condition::Issuer(_))),
            audience: has(|condition| matches!(condition, Condition::Audience(_))),
        }
    }

    /// Returns the accepted kind, or `None` if every kind is accepted.
    fn kind(&self) -> Option<TokenKind> {
        match &self.model {
            PermissionModel::Global => Some(TokenKind::Global),
            PermissionModel::Organization(_) => self.only.or(Some(TokenKind::OrganizationResource)),
            PermissionModel::Any => self.only,
        }
    }
}
