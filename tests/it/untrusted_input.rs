//! Property tests with random bytes in the `Authorization` header. The layer must respond with 400
//! or 401, and must never panic.

use std::convert::Infallible;

use http::{HeaderValue, Request, Response};
use proptest::prelude::*;
use tower::{Layer as _, Service as _, service_fn};
use tower_logto::AuthLayer;

use crate::support::{NOW, base64url, offline, poll_once};

/// Returns the status of the response to a request with this `Authorization` header. Returns 0 if
/// HTTP does not allow the header value.
fn status(authorization: &[u8]) -> u16 {
    let Ok(value) = HeaderValue::from_bytes(authorization) else { return 0 };
    let open = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let validator = offline::validator(offline::jwks(), NOW, 10_000);
    let mut service = AuthLayer::new(validator).layer(open);
    let request = Request::builder().header("authorization", value).body(()).unwrap();
    let response = poll_once(service.call(request)).expect("the keys are static");
    response.unwrap().status().as_u16()
}

#[test]
fn valid_token_is_accepted() {
    assert_eq!(status(format!("Bearer {}", offline::es384_token()).as_bytes()), 200);
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..200)
}

proptest! {
    #[test]
    fn random_authorization_header_is_refused(bytes in any_bytes()) {
        prop_assert!(matches!(status(&bytes), 0 | 400 | 401));
    }

    #[test]
    fn random_bytes_after_the_scheme_are_refused(bytes in any_bytes()) {
        prop_assert!(matches!(status(&[b"Bearer ", &bytes[..]].concat()), 0 | 400 | 401));
    }

    #[test]
    fn random_token_is_refused(token in "[A-Za-z0-9_=.-]{0,80}(\\.[A-Za-z0-9_-]{0,80}){0,4}") {
        let status = status(format!("Bearer {token}").as_bytes());
        prop_assert!(matches!(status, 400 | 401));
    }

    #[test]
    fn token_with_random_content_is_refused(header in "\\PC{0,60}", payload in "\\PC{0,120}") {
        let (header, payload) = (base64url(header), base64url(payload));
        let status = status(format!("Bearer {header}.{payload}.AAAA").as_bytes());
        prop_assert_eq!(status, 401);
    }

    #[test]
    fn token_with_one_changed_byte_is_refused(position in 0usize..552, byte in any::<u8>()) {
        let mut token = offline::es384_token().into_bytes();
        prop_assume!(token[position] != byte);
        token[position] = byte;
        prop_assert!(matches!(status(&[b"Bearer ", &token[..]].concat()), 0 | 400 | 401));
    }

    #[test]
    fn truncated_token_is_refused(length in 0usize..552) {
        let token = offline::es384_token();
        let status = status(format!("Bearer {}", &token[..length]).as_bytes());
        prop_assert!(matches!(status, 400 | 401));
    }
}
