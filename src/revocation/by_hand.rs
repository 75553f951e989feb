//! Methods that create and store a rule, for example for an admin page. The time of the rule is the
//! current time.

use super::{revocations::Revocations, rule::Rule, store_error::StoreError};

impl Revocations {
    /// Refuses every token of a subject until the subject is reactivated, for example with
    /// [`reactivate_subject`](Self::reactivate_subject).
    ///
    /// # Errors
    /// Returns the errors of [`store`](Self::store).
    pub async fn block_subject(&self, subject: impl Into<String>) -> Result<(), StoreError> {
        self.store([Rule::block_subject(subject, self.now())]).await
    }

    /// Lifts the block of a subject. Tokens that were issued before the call are still refused.
    ///
    /// # Errors
    /// Returns the errors of [`store`](Self::store).
    pub async fn reactivate_subject(&self, subject: impl Into<String>) -> Result<(), StoreError> {
        self.store([Rule::reactivate_subject(subject, self.now())]).await
    }

    /// Refuses a subject's tokens, if they were issued before the call.
    ///
    /// # Errors
    /// Returns the errors of [`store`](Self::store).
    pub async fn revoke_subject(&self, subject: impl Into<String>) -> Result<(), StoreError> {
        self.store([Rule::revoke_subject(subject, self.now())]).await
    }

    /// Refuses the tokens that were issued to an application before the call. Call this method if
    /// an application or its secret was deleted, because Logto sends no webhook in this case.
    ///
    /// # Errors
    /// Returns the errors of [`store`](Self::store).
    pub async fn revoke_client(&self, client_id: impl Into<String>) -> Result<(), StoreError> {
        self.store([Rule::revoke_client(client_id, self.now())]).await
    }

    /// Refuses the tokens for an organization, if they were issued before the call.
    ///
    /// # Errors
    /// Returns the errors of [`store`](Self::store).
    pub async fn revoke_organization(&self, id: impl Into<String>) -> Result<(), StoreError> {
        self.store([Rule::revoke_organization(id, self.now())]).await
    }

    /// Refuses a subject's tokens for an organization, if they were issued before the call.
    ///
    /// # Errors
    /// Returns the errors of [`store`](Self::store).
    pub async fn revoke_member(
        &self,
        organization: impl Into<String>,
        subject: impl Into<String>,
    ) -> Result<(), StoreError> {
        self.store([Rule::revoke_member(organization, subject, self.now())]).await
    }

    /// Refuses the token with this `jti`, if the token was issued before the call.
    ///
    /// # Errors
    /// Returns the errors of [`store`](Self::store).
    pub async fn revoke_token(&self, jwt_id: impl Into<String>) -> Result<(), StoreError> {
        self.store([Rule::revoke_token(jwt_id, self.now())]).await
    }
}
