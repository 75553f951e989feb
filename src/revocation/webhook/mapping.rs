//! The mapping from Logto's events to rules.

use super::event::Webhook;
use crate::revocation::rule::Rule;

/// A mapping from Logto's events to rules. The table shows the default.
///
/// | event | rules |
/// |---|---|
/// | `User.SuspensionStatus.Updated` | blocks or reactivates the user. If several changes arrive, the one with the latest `data.updatedAt` applies |
/// | `User.Deleted` | blocks the user permanently |
/// | `Organization.Membership.Updated` with `removedUserIds` | two cut-offs for each removed user: one for the user's tokens for the organization, and one for all tokens of the user |
/// | `Organization.Membership.Updated` with `removedApplicationIds` | a cut-off for each removed application's tokens for the organization |
/// | `Organization.Deleted` | a cut-off for all tokens for the organization. The members' other tokens stay valid until they expire |
///
/// Logto truncates lists of members after 5,000 ids. If a list contains 5,000 ids, the rules
/// therefore also include a cut-off for all tokens for the organization.
///
/// By default, other events result in no rules. The methods below enable rules for some of these
/// events. Do not map the events `Identifier.Lockout` and `Message.RateLimited` to rules, because
/// any caller can cause these events for another user.
///
/// # Changes without an event
/// Logto sends no event for these changes:
/// - An application or its secret is deleted.
/// - A role is assigned to, or removed from, a user, an application or an organization member.
/// - A session or a grant is revoked.
/// - A personal access token is deleted.
///
/// In these cases, store a rule with [`Revocations::revoke_client`] or a similar method.
///
/// [`Revocations::revoke_client`]: crate::revocation::Revocations::revoke_client
///
/// ```
/// use tower_logto::revocation::EventMapping;
///
/// let mapping = EventMapping::default().keep_global_tokens_of_removed_members();
/// assert_ne!(mapping, EventMapping::default());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct EventMapping {
    removed_members: RemovedMembers,
    roles: bool,
    password_resets: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RemovedMembers {
    LoseAllTokens,
    LoseOrganizationTokens,
}

impl Default for EventMapping {
    fn default() -> Self {
        let removed_members = RemovedMembers::LoseAllTokens;
        Self { removed_members, roles: false, password_resets: false }
    }
}

impl EventMapping {
    /// If a user is removed from an organization, refuses only the user's tokens for that
    /// organization. The user's other tokens are still accepted.
    ///
    /// By default, all tokens that were issued to the user before the removal are refused. The
    /// reason is that a token without `organization_id` combines the API scopes from the user's
    /// roles in all organizations. Until the token expires, it still contains the scopes from the
    /// organization that the user left.
    pub const fn keep_global_tokens_of_removed_members(mut self) -> Self {
        self.removed_members = RemovedMembers::LoseOrganizationTokens;
        self
    }

    /// Enables a rule for the events that report that a role, an organization role or a scope was
    /// deleted, or that the scopes of a role changed. The rule refuses every token that was issued
    /// before the event. The rule applies to everyone, because these events do not name the
    /// affected users.
    pub const fn role_changes_revoke_everyone(mut self) -> Self {
        self.roles = true;
        self
    }

    /// If a user resets their password (`PostResetPassword`), refuses the tokens that were issued
    /// to the user before the reset.
    pub const fn password_resets_revoke_the_user(mut self) -> Self {
        self.password_resets = true;
        self
    }

    /// Returns the rules that result from a webhook. If the webhook lacks a value that a rule
    /// needs, the rule is left out.
    pub fn rules(&self, webhook: &Webhook) -> Vec<Rule> {
        let at = webhook.created_at();
        match webhook.event() {
            "User.SuspensionStatus.Updated" => suspension(webhook).into_iter().collect(),
            "User.Deleted" => {
                let user = webhook.text("/params/userId");
                user.map(|user| Rule::delete_subject(user, at)).into_iter().collect()
            }
            "Organization.Membership.Updated" => self.membership(webhook),
            "Organization.Deleted" => {
                let organization = webhook.text("/params/id");
                organization.map(|id| Rule::revoke_organization(id, at)).into_iter().collect()
            }
            "PostResetPassword" if self.password_resets => {
                let user = webhook.text("/userId");
                user.map(|user| Rule::revoke_subject(user, at)).into_iter().collect()
            }
            "Role.Deleted"
            | "Role.Scopes.Updated"
            | "OrganizationRole.Deleted"
            | "OrganizationRole.Scopes.Updated"
            | "OrganizationScope.Deleted"
            | "Scope.Deleted"
                if self.roles =>
            {
                vec![Rule::revoke_everyone(at)]
            }
            _ => Vec::new(),
        }
    }

    fn membership(self, webhook: &Webhook) -> Vec<Rule> {
        let at = webhook.created_at();
        let Some(organization) = webhook.text("/organizationId") else { return Vec::new() };
        let users = webhook.texts("/removedUserIds");
        let applications = webhook.texts("/removedApplicationIds");
        let is_cut = [&users, &applications].iter().any(|list| list.len() >= LONGEST_LIST);
        let whole = is_cut.then(|| Rule::revoke_organization(organization, at));
        let all_tokens: &[&str] = match self.removed_members {
            RemovedMembers::LoseAllTokens => &users,
            RemovedMembers::LoseOrganizationTokens => &[],
        };
        let members = users.iter().chain(&applications);
        let members = members.map(|subject| Rule::revoke_member(organization, *subject, at));
        let subjects = all_tokens.iter().map(|subject| Rule::revoke_subject(*subject, at));
        members.chain(subjects).chain(whole).collect()
    }
}

/// Returns a rule that blocks or reactivates the user. The time of the rule is `data.updatedAt`.
/// This time decides which change applies, because the webhook that arrives last does not always
/// report the latest change. Returns `None` for Logto's signed test payload, which names no user.
fn suspension(webhook: &Webhook) -> Option<Rule> {
    let user = webhook.text("/params/userId")?;
    // `data` must be the user object. In some other events, such as `User.Data.Updated`, `data` can
    // be custom data that the user chose.
    if webhook.text("/data/id") != Some(user) {
        return None;
    }
    let is_suspended = webhook.flag("/data/isSuspended")?;
    let at = webhook.time("/data/updatedAt")?;
    Some(if is_suspended {
        Rule::block_subject(user, at)
    } else {
        Rule::reactivate_subject(user, at)
    })
}

/// The maximum length of a list in a webhook. Logto truncates a longer list, and does not mark the
/// list as truncated.
const LONGEST_LIST: usize = 5_000;
