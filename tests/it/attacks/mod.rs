//! Attacks over real HTTP. Each attack has a name, which the messages of failed tests contain. Each
//! attack must get the expected status, for the expected reason.

mod claims;
mod headers;
mod issuer_audience;
mod signatures;
mod transport;

use std::{
    fmt::Display,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::Request, middleware::map_response, response::Response, routing::any};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tower_logto::{
    AccessToken, AuthError, AuthLayer, Claims, Require, Validator, ValidatorBuilder,
    testing::{SigningKey, TokenBuilder},
};

use crate::support::{Harness, Outcome, Server, base64url, base64url_decode, header};

/// The name of an attack, its token, and the expected outcome.
type Attack<N> = (N, String, Outcome);

/// A protected service, which has already fetched the keys of its issuer.
struct Target {
    harness: Harness,
    validator: Validator,
    server: Server,
    refusals: Refusals,
}

impl Target {
    async fn start() -> Self {
        Self::with(|builder| builder).await
    }

    async fn with(settings: impl FnOnce(ValidatorBuilder) -> ValidatorBuilder) -> Self {
        let harness = Harness::start().await;
        let builder = harness
            .builder()
            .realm("shop")
            .resource_metadata("https://shop.example/.well-known/oauth-protected-resource");
        let validator = settings(builder).build().unwrap();
        validator.warm_up().await.unwrap();
        let refusals = Refusals::default();
        let router = refusals.record(routes(AuthLayer::new(validator.clone())));
        let server = Server::start(router).await;
        Self { harness, validator, server, refusals }
    }

    /// Returns the builder of a token that every route accepts. Most attack tests modify this token
    /// to build the token of an attack.
    fn token(&self) -> TokenBuilder {
        self.harness.token().scopes(["read:products", "write:products"])
    }

    fn key(&self) -> SigningKey {
        self.harness.logto.signing_key()
    }

    /// Returns the header of a valid token.
    fn header(&self) -> Value {
        header_of(&self.key())
    }

    /// Returns the payload of a valid token as text.
    fn payload(&self) -> String {
        let token = self.token().build();
        String::from_utf8(base64url_decode(token.split('.').nth(1).unwrap())).unwrap()
    }

    /// Returns the payload of a valid token, with this JSON text as the value of one claim.
    fn payload_with(&self, claim: &str, value: impl Display) -> String {
        let mut payload: serde_json::Map<_, _> = serde_json::from_str(&self.payload()).unwrap();
        payload.remove(claim);
        let rest = serde_json::to_string(&payload).unwrap();
        format!("{{\"{claim}\":{value},{}", &rest[1..])
    }

    /// Returns a token with this payload and a valid signature.
    fn sign(&self, payload: impl AsRef<[u8]>) -> String {
        signed(&self.key(), self.header().to_string(), payload)
    }

    /// Sends each attack to this route twice, and asserts that the outcome is as expected both
    /// times. Afterwards, the route must accept a valid token.
    async fn assert_outcomes_at<N: Display>(
        &self,
        path: &str,
        attacks: impl IntoIterator<Item = Attack<N>>,
    ) {
        for (name, token, expected) in attacks {
            println!("attack: {name}");
            for attempt in ["first time", "second time"] {
                let request = self.server.request("GET", path).bearer_auth(&token);
                let name = format!("{name}, {attempt}, at {path}");
                self.assert_outcome(request, &token, expected, &name).await;
            }
            if path == "/" {
                // A direct call of the validator must have the same outcome as the HTTP request.
                let outcome = self.validator.validate(&token).await;
                assert_eq!(Outcome::of(&outcome), expected, "{name}");
            }
        }
        let valid = self.server.get(path, &self.token().build()).await;
        assert_eq!(valid.status(), 200, "a valid token afterwards");
    }

    async fn assert_outcomes<N: Display>(&self, attacks: impl IntoIterator<Item = Attack<N>>) {
        self.assert_outcomes_at("/", attacks).await;
    }

    /// Asserts that the status, the challenge and the body of the response match the expected
    /// outcome. `secret` is the token of the request. The response must contain no part of it.
    async fn assert_outcome(
        &self,
        request: RequestBuilder,
        secret: &str,
        expected: Outcome,
        name: &str,
    ) {
        self.refusals.clear();
        let response = request.send().await.unwrap();
        assert_eq!(self.refusals.outcome(), expected, "{name}");
        assert_eq!(response.status(), expected.status(), "{name}");
        let challenge = header(response.headers(), "www-authenticate").to_owned();
        let headers = format!("{:?}", response.headers());
        let body = response.text().await.unwrap();
        if expected == Outcome::Accepted {
            assert_eq!(body, "accepted", "{name}");
        } else {
            assert_eq!(body, "", "{name}");
            assert!(challenge.starts_with("Bearer realm=\"shop\""), "{name}");
        }
        // The challenge lists the scopes that the route requires. The token may contain the same
        // scopes. This code therefore removes the scopes from the headers before it searches for
        // parts of the token.
        let headers = headers.replace("read:products write:products", "");
        assert_no_part_of(secret, &headers);
        assert_no_part_of(secret, &body);
    }
}

/// Asserts that the text contains neither a part of the token nor a part of a decoded segment. A
/// part is 16 bytes long.
fn assert_no_part_of(secret: &str, text: &str) {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    let decoded = secret.split('.').filter_map(|segment| URL_SAFE_NO_PAD.decode(segment).ok());
    let decoded: Vec<_> =
        decoded.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect();
    let windows = text.as_bytes().windows(16).step_by(8);
    let leak = windows
        .filter_map(|part| str::from_utf8(part).ok())
        .find(|part| secret.contains(part) || decoded.iter().any(|text| text.contains(part)));
    assert_eq!(leak, None, "a part of the token is in the response: {text}");
}

/// Records the reason why the last request was refused. The reason is in a response extension.
/// The server does not send extensions to the client.
#[derive(Clone, Default)]
struct Refusals(Arc<Mutex<Option<Outcome>>>);

impl Refusals {
    fn record(&self, router: Router) -> Router {
        let last = Arc::clone(&self.0);
        router.layer(map_response(move |response: Response| {
            let error = response.extensions().get::<AuthError>();
            *last.lock().unwrap() = error.map(Outcome::of_error);
            std::future::ready(response)
        }))
    }

    fn clear(&self) {
        *self.0.lock().unwrap() = None;
    }

    fn outcome(&self) -> Outcome {
        self.0.lock().unwrap().unwrap_or(Outcome::Accepted)
    }
}

fn routes(layer: AuthLayer) -> Router {
    let open = || any(async || "accepted");
    let read = Router::new().route("/read", open());
    let both = Router::new().route("/both", open());
    Router::new()
        .route("/", open())
        .merge(read.route_layer(Require::global().scopes(["read:products"])))
        .merge(both.route_layer(Require::global().scopes(["read:products", "write:products"])))
        .route("/claims", any(async |_: Claims<Value>| "accepted"))
        .route("/extractor", any(async |_: AccessToken| "accepted"))
        .route("/echo", any(async |request: Request| format!("{:?}", request.headers())))
        .route_layer(layer)
}

fn header_of(key: &SigningKey) -> Value {
    json!({ "alg": key.algorithm().name(), "typ": "at+jwt", "kid": key.kid() })
}

/// Encodes the header and the payload of a token. The result is the text that the issuer signs.
fn unsigned(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    format!("{}.{}", base64url(header), base64url(payload))
}

fn with_signature(unsigned: &str, signature: impl AsRef<[u8]>) -> String {
    format!("{unsigned}.{}", base64url(signature))
}

/// Builds a token with any header and payload, and with a valid signature.
fn signed(key: &SigningKey, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    let unsigned = unsigned(header, payload);
    with_signature(&unsigned, key.sign(unsigned.as_bytes()))
}
