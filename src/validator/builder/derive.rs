//! Creates builders of validators: with the default settings, or with those of another validator.

use std::sync::Arc;

use super::ValidatorBuilder;
use crate::{
    bearer::challenge::ChallengeSettings,
    error::ConfigError,
    issuer::{Issuer, TrustedIssuer},
    validator::Validator,
};

impl Validator {
    /// Builds a validator that trusts one issuer for one audience. `audience` is the API's resource
    /// indicator. All settings have the defaults of [`TrustedIssuer`] and [`ValidatorBuilder`].
    ///
    /// # Errors
    /// Returns an error if a setting is invalid, for example the audience. The error names the
    /// setting and the reason.
    pub fn new(issuer: &Issuer, audience: impl Into<String>) -> Result<Self, ConfigError> {
        Self::builder().trust(TrustedIssuer::new(issuer).audience(audience)).build()
    }

    /// Returns a builder with the default settings and no issuers. Use the builder for a validator
    /// with several issuers, or with settings that differ from the defaults.
    pub fn builder() -> ValidatorBuilder {
        ValidatorBuilder::default()
    }

    /// Returns a builder with the settings of this validator, but without its issuers. Use the
    /// builder for another audience, or to add or remove issuers.
    ///
    /// If an issuer has the same key settings in this validator and in the derived validator, the
    /// two validators share the issuer's keys and fetch these keys once. The two validators also
    /// share the cache of validated tokens and the queue of signature checks. Each validator checks
    /// the claims of a cached token against its own settings.
    ///
    /// If you change any setting of the keys, the cache, the queue, the HTTP client or the clock,
    /// the two validators share neither keys nor the cache nor the queue.
    ///
    /// The builder does not keep [`trust_all_alike`](ValidatorBuilder::trust_all_alike). The
    /// builder keeps the realm and the metadata URL of this validator. For another audience,
    /// replace the realm and the metadata URL.
    ///
    /// # One validator per audience
    /// A scope of one API means nothing in another API. With one validator per API, no guard can
    /// confuse the scopes of two APIs:
    ///
    /// ```
    /// use tower_logto::{Issuer, TrustedIssuer, Validator};
    ///
    /// let issuer = Issuer::logto("https://tenant.logto.app")?;
    /// let shop = Validator::new(&issuer, "https://shopping.api")?;
    /// let reports = TrustedIssuer::new(&issuer).audience("https://reports.api");
    /// let reports = shop.derive().trust(reports).build()?;
    /// # Ok::<(), tower_logto::error::ConfigError>(())
    /// ```
    ///
    /// # Adding and removing issuers
    /// Store the current validator in an `ArcSwap<Validator>` (crate `arc-swap`). A middleware
    /// loads the current validator for each request. The keys of the remaining issuers are not
    /// fetched again:
    ///
    /// ```ignore
    /// // After a tenant was added or removed:
    /// let all = tenants.iter().map(|issuer| TrustedIssuer::new(issuer).audience(API));
    /// let builder = all.fold(current.load().derive(), ValidatorBuilder::trust);
    /// current.store(Arc::new(builder.build()?));
    ///
    /// // Instead of an AuthLayer: axum::middleware::from_fn_with_state(current, authenticate).
    /// async fn authenticate(
    ///     State(current): State<Arc<ArcSwap<Validator>>>,
    ///     request: Request,
    ///     next: Next,
    /// ) -> Result<Response, Infallible> {
    ///     let validator = Validator::clone(&current.load());
    ///     AuthLayer::new(validator).layer(next).oneshot(request).await
    /// }
    /// ```
    pub fn derive(&self) -> ValidatorBuilder {
        let inner = &self.0;
        let mut challenge = ChallengeSettings::default();
        challenge.realm.clone_from(&inner.challenge.realm);
        challenge.resource_metadata.clone_from(&inner.challenge.resource_metadata);
        challenge.log_level = inner.challenge.log_level;
        ValidatorBuilder {
            issuers: Vec::new(),
            all_alike: false,
            challenge,
            refresh: inner.refresh,
            clients: inner.clients.clone(),
            clock: Arc::clone(&inner.clock),
            max_token_size: inner.max_token_size,
            token_cache_capacity: inner.token_cache_capacity,
            queue: inner.queue,
            origin: Some(self.clone()),
            shares: true,
            initial_keys: None,
            revocations: inner.revocations.clone(),
        }
    }
}
