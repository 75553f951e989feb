//! The input contains the `Authorization` headers of a request to the layer. The status of the
//! response is 200, 400 or 401, and the layer never panics.

#![no_main]

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};

use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use libfuzzer_sys::fuzz_target;
use tower_layer::Layer;
use tower_logto::{AccessToken, AuthLayer, Validator};
use tower_logto_fuzz::{is_genuine, validator};
use tower_service::Service;

static LAYER: LazyLock<AuthLayer> =
    LazyLock::new(|| AuthLayer::new(validator(Validator::builder().realm("shopping"))));

#[derive(Clone)]
struct Handler;

impl Service<Request<()>> for Handler {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let token = request.extensions().get::<AccessToken>().expect("a validated token");
        let secret = request.headers().get_all(AUTHORIZATION);
        assert!(secret.iter().all(HeaderValue::is_sensitive));
        ready(Ok(Response::new(token.subject().to_owned())))
    }
}

fuzz_target!(|bytes: &[u8]| {
    // In the input, a line feed separates two headers. A header value cannot contain a line feed.
    let values: Option<Vec<_>> = bytes
        .split(|byte| *byte == b'\n')
        .map(|value| HeaderValue::from_bytes(value).ok())
        .collect();
    let Some(values) = values else { return };
    let mut request = Request::new(());
    for value in &values {
        request.headers_mut().append(AUTHORIZATION, value.clone());
    }
    let mut service = LAYER.layer(Handler);
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready());
    let Poll::Ready(Ok(response)) = pin!(service.call(request)).poll(&mut context) else {
        panic!("the keys are static");
    };
    match response.status() {
        StatusCode::OK => {
            let [value] = &values[..] else { panic!("two headers were accepted") };
            let token = value.to_str().unwrap().split_at("bearer".len()).1.trim_start();
            assert!(is_genuine(token));
        }
        status @ (StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED) => {
            let challenge = response.headers()[WWW_AUTHENTICATE].to_str().unwrap();
            assert!(challenge.starts_with("Bearer realm=\"shopping\""), "{challenge}");
            assert_eq!(challenge.contains("invalid_request"), status == StatusCode::BAD_REQUEST);
            assert!(response.body().is_empty());
        }
        status => panic!("{status}"),
    }
});
