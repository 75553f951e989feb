//! Code that the targets share: a validator with the captured keys of Logto, and captured tokens.

use std::sync::LazyLock;

use tower_logto::{Issuer, TrustedIssuer, Validator, ValidatorBuilder, testing::ManualClock};

macro_rules! fixture {
    ($path:literal) => {
        include_str!(concat!("../../tests/fixtures/logto-captures/", $path))
    };
}

/// The JWKS with the keys of all captured tokens.
pub const JWKS: &str = fixture!("jwks/all.json");

pub const ISSUER: &str = "http://localhost:3001/oidc";
pub const AUDIENCE: &str = "https://shopping.api";

/// A time, in Unix seconds, at which every token in [`GENUINE`] is valid.
pub const NOW: u64 = 1_795_343_080;

/// The captured tokens that are valid for [`AUDIENCE`] at [`NOW`].
pub const GENUINE: [&str; 16] = [
    fixture!("tokens/api-read-write.jwt"),
    fixture!("tokens/api-scopes-reversed.jwt"),
    fixture!("tokens/api-read.jwt"),
    fixture!("tokens/api-no-scope.jwt"),
    fixture!("tokens/org-api.jwt"),
    fixture!("tokens/org-api-no-scope.jwt"),
    fixture!("tokens/custom-claims.jwt"),
    fixture!("tokens/user-api.jwt"),
    fixture!("tokens/user-org-api.jwt"),
    fixture!("tokens/user-api-act.jwt"),
    fixture!("tokens/rs256-api-read-write.jwt"),
    fixture!("tokens/rs256-api-read.jwt"),
    fixture!("tokens/rs256-org-api.jwt"),
    fixture!("tokens/rotation-0-ec.jwt"),
    fixture!("tokens/rotation-1-rsa.jwt"),
    fixture!("tokens/rotation-2-ec.jwt"),
];

/// Builds a validator for the captured tokens.
pub fn validator(builder: ValidatorBuilder) -> Validator {
    let issuer = Issuer::new(ISSUER).unwrap();
    let trusted = TrustedIssuer::new(&issuer).audience(AUDIENCE).static_jwks(JWKS);
    builder.trust(trusted).clock(ManualClock::at(NOW)).build().unwrap()
}

/// Returns whether the header and the payload are those of a captured token, which Logto signed.
/// The signatures are not compared, because an ECDSA signature has a second valid form.
pub fn is_genuine(token: &str) -> bool {
    static SIGNED: LazyLock<Vec<&str>> =
        LazyLock::new(|| GENUINE.iter().map(|token| signed(token.trim())).collect());
    SIGNED.contains(&signed(token))
}

fn signed(token: &str) -> &str {
    token.rsplit_once('.').map_or("", |(signed, _)| signed)
}
