//! The kit against the validator, over real sockets, and against the captures of a real Logto.

mod faults;
mod key_set;
mod token_endpoint;
mod tokens;

use std::{fs, path::Path, time::Duration};

use reqwest::{Client, RequestBuilder, Response, header};
use serde_json::{Value, json};

use super::{Fault, ManualClock, SigningKey, TestApp, TestIssuer, TokenBuilder};
use crate::{Algorithm, AuthErrorKind, InvalidToken, TokenKind, TrustedIssuer, Validator};

const SHOPPING: &str = "https://shopping.api";
const SCOPES: [&str; 2] = ["read:products", "write:products"];

async fn start() -> (TestIssuer, Validator, ManualClock) {
    let clock = ManualClock::default();
    let issuer = TestIssuer::builder().clock(clock.clone()).start().await.unwrap();
    let trusted = issuer.trusted(SHOPPING).organizations();
    let validator = Validator::builder().issuer(trusted).clock(clock.clone()).build().unwrap();
    (issuer, validator, clock)
}

async fn refusal(validator: &Validator, token: TokenBuilder) -> InvalidToken {
    let error = validator.validate(&token.build()).await.unwrap_err();
    match error.kind() {
        AuthErrorKind::InvalidToken(reason) => reason.clone(),
        other => panic!("{other:?}"),
    }
}

async fn is_unavailable(validator: &Validator, token: &str) -> bool {
    let verdict = validator.validate(token).await;
    verdict.is_err_and(|error| matches!(error.kind(), AuthErrorKind::KeysUnavailable(_)))
}
