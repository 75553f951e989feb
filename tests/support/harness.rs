//! A test issuer, a manual clock, and validators that use both.

use tower_logto::{
    AccessToken, AuthError, Validator, ValidatorBuilder,
    testing::{ManualClock, TestIssuer, TokenBuilder},
};

use super::{SHOPPING_API, TIMEOUT};

/// A test issuer, and the manual clock that the issuer and the validators use.
pub(crate) struct Harness {
    pub(crate) logto: TestIssuer,
    pub(crate) clock: ManualClock,
}

impl Harness {
    pub(crate) async fn start() -> Self {
        let clock = ManualClock::default();
        let logto = TestIssuer::builder().clock(clock.clone()).start().await.unwrap();
        Self { logto, clock }
    }

    /// Returns the builder of a validator. The validator accepts the following tokens of the test
    /// issuer: tokens for the shopping API, and organization permission tokens.
    pub(crate) fn builder(&self) -> ValidatorBuilder {
        let trusted = self.logto.trusted(SHOPPING_API).organizations();
        Validator::builder().trust(trusted).clock(self.clock.clone())
    }

    pub(crate) fn validator(&self) -> Validator {
        self.builder().build().unwrap()
    }

    /// Returns the builder of a token for the shopping API. The token is valid unless the test
    /// changes it.
    pub(crate) fn token(&self) -> TokenBuilder {
        self.logto.token().audience(SHOPPING_API)
    }

    /// Returns the builder of a token with a key id that the issuer never published.
    pub(crate) fn unknown_key_token(&self) -> TokenBuilder {
        self.token().kid("unknown")
    }
}

/// Validates a token without waiting. Panics if the keys are not available yet.
pub(crate) fn validate_now(validator: &Validator, token: &str) -> Result<AccessToken, AuthError> {
    validator.try_validate(token).expect("the keys are available")
}

/// Validates a token in a new task.
pub(crate) fn spawn_validate(
    validator: &Validator,
    token: &str,
) -> tokio::task::JoinHandle<Result<AccessToken, AuthError>> {
    let (validator, token) = (validator.clone(), token.to_owned());
    tokio::spawn(async move { validator.validate(&token).await })
}

/// Validates all tokens at the same time, each in its own task.
pub(crate) async fn validate_all(
    validator: &Validator,
    tokens: impl IntoIterator<Item = String>,
) -> Vec<Result<AccessToken, AuthError>> {
    let tasks: Vec<_> = tokens.into_iter().map(|token| spawn_validate(validator, &token)).collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(tokio::time::timeout(TIMEOUT, task).await.unwrap().unwrap());
    }
    outcomes
}
