//! The harness for tests with a malicious JWKS endpoint. Whatever the endpoint sends, a validator
//! with keys keeps its keys, and a validator without keys responds with 503. Both validators
//! recover when the endpoint sends the real keys.

use axum::{Router, routing::get};
use serde_json::{Value, json};
use tower_logto::{
    AuthLayer, Validator, ValidatorBuilder,
    testing::{ManualClock, TestIssuer, TokenBuilder},
};

use crate::support::{
    HOUR, MINUTE, RawServer, SECOND, SHOPPING_API, Server, base64url, header, jwks_response, status,
};

/// Says whether the fetch of a malicious response times out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    BeforeTimeout,
    AtTimeout,
}

/// An issuer that signs tokens, and a second server, which is the JWKS endpoint of this issuer.
pub(super) struct MaliciousEndpoint {
    pub(super) logto: TestIssuer,
    pub(super) server: RawServer,
    pub(super) clock: ManualClock,
}

impl MaliciousEndpoint {
    pub(super) async fn start() -> Self {
        let clock = ManualClock::default();
        let logto = TestIssuer::builder().clock(clock.clone()).start().await.unwrap();
        Self { logto, server: RawServer::start(), clock }
    }

    pub(super) fn builder(&self) -> ValidatorBuilder {
        self.builder_for(&self.server)
    }

    fn builder_for(&self, server: &RawServer) -> ValidatorBuilder {
        let trusted = self.logto.trusted(SHOPPING_API).jwks_uri(server.jwks_uri());
        // Without this setting, each of the roughly 400 HTTP clients would read the root
        // certificates of the system.
        let client = || reqwest::Client::builder().tls_certs_only([]);
        Validator::builder().trust(trusted).clock(self.clock.clone()).http_client_builder(client)
    }

    pub(super) fn token(&self) -> TokenBuilder {
        self.logto.token().lifetime(24 * HOUR)
    }

    /// Makes the JWKS endpoint send the real keys of the issuer.
    pub(super) fn serve_real_keys(&self) {
        self.server.respond(jwks_response(self.logto.jwks()));
    }

    pub(super) async fn status(&self, validator: &Validator, token: &str) -> u16 {
        status(&validator.validate(token).await)
    }

    /// Asserts that a validator with keys keeps its keys during the attack, and recovers
    /// afterwards.
    async fn assert_known_keys_survive(&self, name: &str, ends: Ends, attack: impl Fn(&RawServer)) {
        self.serve_real_keys();
        let validator = self.builder().build().unwrap();
        let known = self.token().build();
        validator.validate(&known).await.unwrap();
        attack(&self.server);
        self.clock.advance(11 * MINUTE);
        let accepts = |token: &str| validator.try_validate(token).is_some_and(|v| v.is_ok());
        let stalls = (ends == Ends::AtTimeout).then(|| self.server.stalls());
        assert!(accepts(&known), "{name}: while the refresh starts");
        // A request with an unknown key waits for the refresh in flight, and then for one more
        // fetch.
        let unknown = self.token().kid("unknown").build();
        let unknown = self.status(&validator, &unknown);
        let (unknown, ()) = tokio::join!(unknown, skip_time_when_stalled(&self.server, stalls));
        if ends == Ends::AtTimeout {
            tokio::time::resume();
        }
        assert_eq!(unknown, 503, "{name}: an unknown key");
        assert!(accepts(&known), "{name}: a cached token");
        assert!(accepts(&self.token().build()), "{name}: a new token");

        self.serve_real_keys();
        self.logto.rotate();
        self.serve_real_keys();
        self.clock.advance(2 * MINUTE);
        assert!(accepts(&known), "{name}: while the refresh recovers");
        let rotated = self.token().build();
        assert_eq!(self.status(&validator, &rotated).await, 200, "{name}: recovered");
        assert!(accepts(&known), "{name}: after the rotation");
    }

    /// Asserts that a validator without keys responds with 503 during the attack, and recovers
    /// afterwards. This method counts JWKS requests. The JWKS endpoint is therefore a new server,
    /// which receives no late requests from earlier validators.
    async fn assert_cold_start_recovers(
        &self,
        name: &str,
        ends: Ends,
        attack: impl Fn(&RawServer),
    ) {
        let endpoint = RawServer::start();
        attack(&endpoint);
        let layer = AuthLayer::new(self.builder_for(&endpoint).build().unwrap());
        let router = Router::new().route("/", get(async || "accepted")).route_layer(layer);
        let server = Server::start(router).await;
        let token = self.token().build();
        let stalls = (ends == Ends::AtTimeout).then_some(0);
        let response = server.get("/", &token);
        let (response, ()) = tokio::join!(response, skip_time_when_stalled(&endpoint, stalls));
        if ends == Ends::AtTimeout {
            tokio::time::resume();
        }
        assert_eq!(response.status(), 503, "{name}: a cold start");
        assert_eq!(header(response.headers(), "retry-after"), "1", "{name}");
        assert_eq!(response.text().await.unwrap(), "", "{name}");
        assert_eq!(endpoint.requests().len(), 1, "{name}: one fetch");
        endpoint.respond(jwks_response(self.logto.jwks()));
        // After a failed fetch, the validator waits for up to a second before it fetches again. The
        // request above can time out before the fetch times out. In this case, the fetch can fail
        // after the first call of `advance` below. The first request of the loop then gets 503,
        // because the validator still waits before its next fetch.
        let mut attempts = Vec::new();
        while attempts.last() != Some(&200) && attempts.len() < 2 {
            self.clock.advance(SECOND);
            attempts.push(server.get("/", &token).await.status().as_u16());
        }
        let expected: &[&[u16]] = match ends {
            Ends::BeforeTimeout => &[&[200]],
            Ends::AtTimeout => &[&[200], &[503, 200]],
        };
        assert!(expected.contains(&&attempts[..]), "{name}: recovered, after {attempts:?}");
    }

    pub(super) async fn assert_harmless(
        &self,
        name: &str,
        ends: Ends,
        attack: impl Fn(&RawServer),
    ) {
        println!("malicious JWKS: {name}");
        self.assert_known_keys_survive(name, ends, &attack).await;
        self.assert_cold_start_recovers(name, ends, &attack).await;
    }

    /// Asserts that none of these responses changes the keys.
    pub(super) async fn assert_responses_harmless<N: AsRef<str>>(
        &self,
        responses: impl IntoIterator<Item = (N, Vec<u8>)>,
    ) {
        for (name, response) in responses {
            let attack = |server: &RawServer| server.respond(response.clone());
            self.assert_harmless(name.as_ref(), Ends::BeforeTimeout, attack).await;
        }
    }
}

/// Waits until the server's number of stalled responses exceeds `stalls`, and then pauses tokio's
/// clock. A paused clock jumps to the next timer, so the fetch reaches its timeout immediately. If
/// `stalls` is `None`, this function does nothing.
async fn skip_time_when_stalled(server: &RawServer, stalls: Option<u64>) {
    if let Some(before) = stalls {
        server.stalled(before + 1).await;
        tokio::time::pause();
    }
}

pub(super) fn jwks_of(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// Returns a copy of the key with this value for the member `name`.
pub(super) fn with(key: &Value, name: &str, value: impl Into<Value>) -> Value {
    let mut key = key.clone();
    key[name] = value.into();
    key
}

/// Returns a public RSA key of this size, for which no private key exists.
pub(super) fn rsa(bits: usize, exponent: &str) -> Value {
    let mut n = vec![0xa5; bits / 8];
    n[0] = 0xff;
    json!({ "kty": "RSA", "use": "sig", "kid": "rsa", "n": base64url(n), "e": exponent })
}
