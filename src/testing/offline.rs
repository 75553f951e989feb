//! An issuer without a server, for unit tests.

use std::{sync::Arc, time::Duration};

use crate::{
    Algorithm, Clock, Issuer, TrustedIssuer, Validator,
    clock::SystemClock,
    error::ConfigError,
    testing::{
        issuer::{SharedClock, TestIssuer},
        key::SigningKey,
        server::key_ring::KeyRing,
        token::{TokenBuilder, random_id},
    },
};

/// Signs tokens for unit tests. Needs no server, no socket and no async runtime.
///
/// [`TestIssuer::offline`] creates an `OfflineIssuer`. Its validators have a static key set, so
/// [`Validator::try_validate`] always returns `Some`. For rotations, outages and token requests,
/// use a [`TestIssuer`].
///
/// ```
/// use tower_logto::testing::TestIssuer;
///
/// let issuer = TestIssuer::offline();
/// let validator = issuer.validator("https://shopping.api")?;
/// let token = issuer.token().scopes(["read:products"]).build();
/// let token = validator.try_validate(&token).expect("static keys")?;
/// token.require_scopes(["read:products"])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct OfflineIssuer {
    issuer: Issuer,
    key: SigningKey,
    clock: Arc<dyn Clock>,
}

impl TestIssuer {
    /// Creates an issuer without a server, with an ES384 key and the system clock.
    pub fn offline() -> OfflineIssuer {
        OfflineIssuer {
            issuer: Issuer::logto("https://logto.test").expect("the endpoint is a valid URL"),
            key: SigningKey::generate(Algorithm::ES384),
            clock: Arc::new(SystemClock),
        }
    }
}

impl OfflineIssuer {
    /// Sets the clock for `iat` and `exp`, and for the validators of this issuer.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Returns the `iss` of the tokens.
    pub fn issuer(&self) -> Issuer {
        self.issuer.clone()
    }

    /// Returns the key set.
    pub fn jwks(&self) -> String {
        KeyRing::new(self.key.clone()).to_json()
    }

    /// Returns a [`TrustedIssuer`] with the static key set and one audience. You can add further
    /// settings to the returned value.
    pub fn trusted(&self, audience: impl Into<String>) -> TrustedIssuer {
        TrustedIssuer::new(&self.issuer).audience(audience).static_jwks(self.jwks())
    }

    /// Returns a validator for one audience, with the default settings and this issuer's clock.
    ///
    /// # Errors
    /// If the audience is invalid, returns the error of
    /// [`ValidatorBuilder::build`](crate::ValidatorBuilder::build).
    pub fn validator(&self, audience: impl Into<String>) -> Result<Validator, ConfigError> {
        let clock = SharedClock(Arc::clone(&self.clock));
        Validator::builder().trust(self.trusted(audience)).clock(clock).build()
    }

    /// Returns a builder for an access token, with the defaults of [`TestIssuer::token`].
    pub fn token(&self) -> TokenBuilder {
        let hour = Duration::from_secs(3600);
        TokenBuilder::new(&self.issuer, self.key.clone(), &self.clock, hour)
    }

    /// Returns a builder for an ID token of a user. A service must not accept an ID token as an
    /// access token.
    pub fn id_token(&self) -> TokenBuilder {
        self.token().into_id_token()
    }

    /// Returns an opaque token of 43 characters. See [`TestIssuer::opaque_token`].
    pub fn opaque_token(&self) -> String {
        random_id(43)
    }
}
