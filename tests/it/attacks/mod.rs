//! Attacks by name, over real HTTP: each gets the status it is owed, for the reason it is owed.

mod claims;
mod headers;
mod parties;
mod signatures;
mod transport;

use std::fmt::Display;

use axum::{Router, extract::Request, middleware::map_response, response::Response, routing::any};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tower_logto::{
    AccessToken, AuthError, AuthLayer, Claims, Require, Validator, ValidatorBuilder,
    testing::{SigningKey, TokenBuilder},
};

use crate::support::{SHOP, Server, Stage};

/// An attack: its name, its token, and the reason it is refused for; no reason if it is none.
type Attack<N> = (N, String, &'static str);

const LET_IN: &str = "";
const SIGNATURE: &str = "InvalidToken(BadSignature)";
const ALGORITHM: &str = "InvalidToken(AlgorithmNotAllowed(";
const MALFORMED: &str = "InvalidToken(Malformed(";
const MEMBERS: &str = "InvalidToken(DuplicateMember)";
const OVERSIZED: &str = "InvalidToken(Oversized)";

/// A protected service and its Logto, whose keys it knows.
struct Target {
    stage: Stage,
    validator: Validator,
    server: Server,
}

impl Target {
    async fn set() -> Self {
        Self::set_with(|builder| builder).await
    }

    async fn set_with(settings: impl FnOnce(ValidatorBuilder) -> ValidatorBuilder) -> Self {
        let stage = Stage::set().await;
        let builder = stage
            .builder()
            .realm("shop")
            .resource_metadata("https://shop.example/.well-known/oauth-protected-resource");
        let validator = settings(builder).build().unwrap();
        validator.warm_up().await.unwrap();
        let server = Server::start(routes(AuthLayer::new(validator.clone()))).await;
        Self { stage, validator, server }
    }

    /// A token that is good at every route, to make bad.
    fn token(&self) -> TokenBuilder {
        self.stage.logto.token().audience(SHOP).scopes(["read:products", "write:products"])
    }

    fn key(&self) -> SigningKey {
        self.stage.logto.signing_key()
    }

    /// The header of a good token.
    fn header(&self) -> Value {
        header_of(&self.key())
    }

    /// The payload of a good token, as text.
    fn payload(&self) -> String {
        let token = self.token().build();
        let payload = token.split('.').nth(1).unwrap();
        String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    }

    /// The payload of a good token with one claim replaced by this text.
    fn payload_with(&self, claim: &str, value: impl Display) -> String {
        let mut payload: serde_json::Map<_, _> = serde_json::from_str(&self.payload()).unwrap();
        payload.remove(claim);
        let rest = serde_json::to_string(&payload).unwrap();
        format!("{{\"{claim}\":{value},{}", &rest[1..])
    }

    /// A token of this payload, rightly signed.
    fn sign(&self, payload: impl AsRef<[u8]>) -> String {
        signed(&self.key(), self.header().to_string(), payload)
    }

    /// Each attack meets its end at this route, twice; a good token passes afterwards.
    async fn repel_at<N: Display>(&self, path: &str, attacks: impl IntoIterator<Item = Attack<N>>) {
        for (name, token, reason) in attacks {
            println!("attack: {name}");
            for attempt in ["the first time", "the second time"] {
                let request = self.server.request("GET", path).bearer_auth(&token);
                let answer = answer(request, &token).await;
                answer.is_owed(reason, &format!("{name}, {attempt}, at {path}"));
            }
            if path == "/" {
                // The same verdict without HTTP.
                let verdict = self.validator.validate(&token).await;
                let kind = verdict.as_ref().err().map(|error| format!("{:?}", error.kind()));
                let kind = kind.unwrap_or_default();
                assert!(kind.starts_with(reason) && kind.is_empty() == reason.is_empty(), "{name}");
            }
        }
        let good = self.server.get(path, &self.token().build()).await;
        assert_eq!(good.status(), 200, "a good token afterwards");
    }

    async fn repel<N: Display>(&self, attacks: impl IntoIterator<Item = Attack<N>>) {
        self.repel_at("/", attacks).await;
    }

    /// The answer to a request that carries its credentials in some way of its own.
    async fn answer_to(&self, request: reqwest::RequestBuilder, secret: &str) -> Answer {
        answer(request, secret).await
    }
}

/// What came back, with nothing of the token in it.
struct Answer {
    status: u16,
    reason: String,
    challenge: String,
    body: String,
}

impl Answer {
    fn is_owed(&self, reason: &str, name: &str) {
        assert_eq!(self.status, status_of(reason), "{name}: {}", self.reason);
        assert!(self.reason.starts_with(reason), "{name}: {} instead of {reason}", self.reason);
        if reason.is_empty() {
            assert_eq!((self.reason.as_str(), self.body.as_str()), ("", "in"), "{name}");
        } else {
            assert_eq!(self.body, "", "{name}");
            assert!(self.challenge.starts_with("Bearer realm=\"shop\""), "{name}");
        }
    }
}

/// The status that belongs to a reason (RFC 6750 §3.1).
fn status_of(reason: &str) -> u16 {
    match reason.split('(').next().unwrap() {
        "" => 200,
        "InvalidRequest" => 400,
        "MissingToken" | "InvalidToken" => 401,
        "InsufficientScope" | "WrongKind" | "WrongOrganization" => 403,
        other => panic!("{other}"),
    }
}

async fn answer(request: reqwest::RequestBuilder, secret: &str) -> Answer {
    let mut response = request.send().await.unwrap();
    let headers = response.headers_mut();
    let reason = headers.remove("x-reason").map(|value| value.to_str().unwrap().to_owned());
    let challenge = headers.get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    let shown = format!("{headers:?}");
    let status = response.status().as_u16();
    let body = response.text().await.unwrap();
    let said = secret.split('.').filter_map(|segment| URL_SAFE_NO_PAD.decode(segment).ok());
    let said = said.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect::<Vec<_>>();
    // What a guard demands is said, and a token may happen to say it too.
    let shown = shown.replace("read:products write:products", "");
    for text in [&shown, &body] {
        let mut parts =
            text.as_bytes().windows(16).step_by(8).filter_map(|part| str::from_utf8(part).ok());
        let leak =
            parts.find(|part| secret.contains(part) || said.iter().any(|s| s.contains(part)));
        assert_eq!(leak, None, "a part of the token is in the answer: {text}");
    }
    let (reason, challenge) = (reason.unwrap_or_default(), challenge.unwrap_or_default());
    Answer { status, reason, challenge, body }
}

fn routes(layer: AuthLayer) -> Router {
    let open = || any(async || "in");
    let guarded = |path: &str, guard: Require| Router::new().route(path, open()).route_layer(guard);
    Router::new()
        .route("/", open())
        .merge(guarded("/read", Require::global().scopes(["read:products"])))
        .merge(guarded("/both", Require::global().scopes(["read:products", "write:products"])))
        .route("/claims", any(async |_: Claims<Value>| "in"))
        .route("/extractor", any(async |_: AccessToken| "in"))
        .route("/echo", any(async |request: Request| format!("{:?}", request.headers())))
        .route_layer(layer)
        .layer(map_response(show_reason))
}

/// Shows the test what the caller is not told.
async fn show_reason(mut response: Response) -> Response {
    if let Some(error) = response.extensions().get::<AuthError>() {
        let reason =
            format!("{:?}", error.kind()).replace(|c: char| !(' '..='~').contains(&c), "?");
        response.headers_mut().insert("x-reason", reason.parse().unwrap());
    }
    response
}

fn header_of(key: &SigningKey) -> Value {
    json!({ "alg": key.algorithm().name(), "typ": "at+jwt", "kid": key.kid() })
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Header and payload of a token: what is signed.
fn unsigned(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    format!("{}.{}", base64url(header), base64url(payload))
}

fn with_signature(unsigned: &str, signature: impl AsRef<[u8]>) -> String {
    format!("{unsigned}.{}", base64url(signature))
}

/// A token of any bytes, rightly signed.
fn signed(key: &SigningKey, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    let unsigned = unsigned(header, payload);
    with_signature(&unsigned, key.sign(unsigned.as_bytes()))
}
