//! Any bytes from a stranger: 400 or 401, and never a panic.

use std::convert::Infallible;

use http::{HeaderValue, Request, Response};
use proptest::prelude::*;
use tower::{Layer as _, Service as _, service_fn};
use tower_logto::{AuthLayer, Issuer, TrustedIssuer, Validator, testing::ManualClock};

use crate::support::{SHOP, fixture};

fn validator() -> Validator {
    let issuer = Issuer::new("http://localhost:3001/oidc").unwrap();
    let trusted = TrustedIssuer::new(&issuer)
        .audience(SHOP)
        .static_jwks(fixture("logto-captures/jwks/all.json"));
    Validator::builder().trust(trusted).clock(ManualClock::default()).build().unwrap()
}

fn status(authorization: &[u8]) -> u16 {
    let Ok(value) = HeaderValue::from_bytes(authorization) else { return 0 };
    let open = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let mut service = AuthLayer::new(validator()).layer(open);
    let request = Request::builder().header("authorization", value).body(()).unwrap();
    let answer = service.call(request);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(answer).unwrap().status().as_u16()
}

fn good_token() -> String {
    fixture("logto-captures/tokens/api-read-write.jwt").trim().to_owned()
}

#[test]
fn the_good_token_is_good() {
    assert_eq!(status(format!("Bearer {}", good_token()).as_bytes()), 200);
}

proptest! {
    #[test]
    fn any_authorization_header(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(matches!(status(&bytes), 0 | 400 | 401));
    }

    #[test]
    fn any_bytes_behind_the_scheme(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(matches!(status(&[b"Bearer ", &bytes[..]].concat()), 0 | 400 | 401));
    }

    #[test]
    fn any_token(token in "[A-Za-z0-9_=.-]{0,80}(\\.[A-Za-z0-9_-]{0,80}){0,4}") {
        let status = status(format!("Bearer {token}").as_bytes());
        prop_assert!(matches!(status, 400 | 401));
    }

    #[test]
    fn any_header_and_payload(header in "\\PC{0,60}", payload in "\\PC{0,120}") {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let (header, payload) = (URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let status = status(format!("Bearer {header}.{payload}.AAAA").as_bytes());
        prop_assert_eq!(status, 401);
    }

    #[test]
    fn any_change_of_one_byte(position in 0usize..552, byte in any::<u8>()) {
        let mut token = good_token().into_bytes();
        prop_assume!(token[position] != byte);
        token[position] = byte;
        prop_assert!(matches!(status(&[b"Bearer ", &token[..]].concat()), 0 | 400 | 401));
    }

    #[test]
    fn any_cut(length in 0usize..552) {
        let token = good_token();
        let status = status(format!("Bearer {}", &token[..length]).as_bytes());
        prop_assert!(matches!(status, 400 | 401));
    }
}
