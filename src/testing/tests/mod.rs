//! Tests of the test kit. Some tests run a validator against the test kit over real sockets. Others
//! compare the test kit's responses with captured responses of a real Logto server.

mod faults;
mod key_set;
mod management;
mod offline;
mod token_endpoint;
mod tokens;

use std::{fs, path::Path, time::Duration};

use reqwest::{
    Client, RequestBuilder, Response,
    header::{self, HeaderName},
};
use serde_json::{Value, json};

use crate::{
    Algorithm, TokenKind, TrustedIssuer, Validator,
    error::{AuthErrorKind, InvalidToken},
    testing::{Fault, ManualClock, SigningKey, TestApp, TestIssuer, TokenBuilder},
};

async fn start() -> (TestIssuer, Validator, ManualClock) {
    let clock = ManualClock::default();
    let issuer = TestIssuer::builder().clock(clock.clone()).start().await.unwrap();
    let trusted = issuer.trusted(SHOPPING).organizations();
    let validator = Validator::builder().trust(trusted).clock(clock.clone()).build().unwrap();
    (issuer, validator, clock)
}

/// Returns the reason why the validator refuses the token.
async fn refusal(validator: &Validator, token: TokenBuilder) -> InvalidToken {
    let error = validator.validate(&token.build()).await.unwrap_err();
    match error.kind() {
        AuthErrorKind::InvalidToken(reason) => reason.clone(),
        other => panic!("{other:?}"),
    }
}

async fn keys_are_unavailable(validator: &Validator, token: &str) -> bool {
    let outcome = validator.validate(token).await;
    outcome.is_err_and(|error| matches!(error.kind(), AuthErrorKind::KeysUnavailable(_)))
}

/// Returns the head (status line and headers) and the body of a captured response.
fn captured(name: &str) -> (String, String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/logto-captures");
    let path = folder.join(name).with_extension("http");
    let text = fs::read_to_string(path).unwrap().replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap();
    (head.into(), body.trim().into())
}

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

fn text<'a>(response: &'a Response, name: &HeaderName) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

const SHOPPING: &str = "https://shopping.api";
const SCOPES: [&str; 2] = ["read:products", "write:products"];
