//! An issuer, a clock, and validators that use both.

use tower_logto::{
    AccessToken, AuthError, Validator, ValidatorBuilder,
    testing::{ManualClock, TestIssuer, TokenBuilder},
};

use super::{SHOPPING_API, TIMEOUT};

/// A test issuer and the manual clock that its tokens and the validators use.
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

    /// Trusts the issuer for the shopping API and for organizations.
    pub(crate) fn builder(&self) -> ValidatorBuilder {
        let trusted = self.logto.trusted(SHOPPING_API).organizations();
        Validator::builder().trust(trusted).clock(self.clock.clone())
    }

    pub(crate) fn validator(&self) -> Validator {
        self.builder().build().unwrap()
    }

    /// A valid token for the shopping API, to be changed by the test.
    pub(crate) fn token(&self) -> TokenBuilder {
        self.logto.token().audience(SHOPPING_API)
    }

    /// A token with a key id that the issuer never published.
    pub(crate) fn unknown_key_token(&self) -> TokenBuilder {
        self.token().kid("unknown")
    }
}

/// Validates with keys that are available: the call must not wait.
pub(crate) fn validate_now(validator: &Validator, token: &str) -> Result<AccessToken, AuthError> {
    validator.try_validate(token).expect("the keys are available")
}

/// Validates in a new task.
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
