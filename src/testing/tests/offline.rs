//! The offline issuer. It has no server, so it needs no socket and no runtime.

use std::time::Duration;

use crate::testing::{ManualClock, TestIssuer};

const API: &str = "https://shopping.api";

#[test]
fn tokens_are_validated_without_a_runtime() {
    let clock = ManualClock::default();
    let issuer = TestIssuer::offline().with_clock(clock.clone());
    let validator = issuer.validator(API).unwrap();
    let status = |token: &str| match validator.try_validate(token).expect("static keys") {
        Ok(_) => 200,
        Err(error) => error.status().as_u16(),
    };
    let good = issuer.token().build();
    assert_eq!(status(&good), 200);
    for bad in [
        issuer.token().expired().build(),
        issuer.token().bad_signature().build(),
        issuer.id_token().build(),
        issuer.opaque_token(),
        TestIssuer::offline().token().build(),
    ] {
        assert_eq!(status(&bad), 401, "{bad}");
    }
    clock.advance(Duration::from_secs(3_700));
    assert_eq!(status(&good), 401);
}
