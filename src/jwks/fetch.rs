//! Fetches a JWKS over HTTP with one conditional request. The duration of the request and the
//! size of the response are limited.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::Client;
use url::Url;

use crate::{
    algorithm::Algorithm,
    error::KeysError,
    http_client::{self, BodyError, HttpClients},
    jwks::key_set::KeySet,
};

/// An issuer's JWKS endpoint. The first fetch builds the HTTP client.
#[derive(Debug)]
pub(super) struct JwksEndpoint {
    url: Url,
    clients: HttpClients,
    client: OnceLock<Client>,
}

/// A key set, its JSON, and the `ETag` of the response that contained it.
#[derive(Debug, Clone)]
pub(super) struct FetchedKeys {
    pub(super) keys: KeySet,
    pub(super) json: Arc<str>,
    etag: Option<HeaderValue>,
}

impl FetchedKeys {
    pub(super) fn from_json(json: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeysError> {
        let keys = KeySet::from_json(json, algorithms)?;
        // Valid JSON is UTF-8, so `from_utf8_lossy` replaces nothing.
        Ok(Self { keys, json: String::from_utf8_lossy(json).into(), etag: None })
    }
}

impl JwksEndpoint {
    pub(super) const fn new(url: Url, clients: HttpClients) -> Self {
        Self { url, clients, client: OnceLock::new() }
    }

    /// Fetches the key set. The result reuses the keys of `held` that have not changed.
    pub(super) async fn fetch(
        &self,
        held: Option<&FetchedKeys>,
        algorithms: &[Algorithm],
    ) -> Result<FetchedKeys, KeysError> {
        let held_etag = held.and_then(|held| held.etag.as_ref());
        let mut request = self.client()?.get(self.url.clone());
        request = request.header(header::ACCEPT, "application/jwk-set+json, application/json");
        if let Some(etag) = held_etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        match (response.status(), held) {
            (StatusCode::NOT_MODIFIED, Some(held)) if held_etag.is_some() => {
                return Ok(held.clone());
            }
            (StatusCode::OK, _) => {}
            (status, _) => return Err(self.wrong_status(status)),
        }
        let etag = etag(response.headers());
        let body =
            http_client::read_body(response, MAX_BODY).await.map_err(|error| match error {
                BodyError::TooLarge => {
                    KeysError::new(format!("{} answered with more than {MAX_BODY} bytes", self.url))
                }
                BodyError::Broken(error) => self.unreachable(&error),
            })?;
        let mut fetched = FetchedKeys::from_json(&body, algorithms)
            .map_err(|error| KeysError::new(format!("{}: {error}{}", self.url, self.advice())))?;
        fetched.etag = etag;
        if let Some(held) = held {
            fetched.keys = fetched.keys.reusing(&held.keys);
        }
        Ok(fetched)
    }

    fn client(&self) -> Result<&Client, KeysError> {
        let build = || self.clients.build(&self.url, FETCH_TIMEOUT);
        http_client::get_or_build(&self.client, build).map_err(|error| {
            let cause = http_client::describe_failure(&self.url, &error);
            KeysError::new(format!("{}: {cause}", http_client::NO_CLIENT))
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> KeysError {
        let url = &self.url;
        if error.is_timeout() {
            let seconds = FETCH_TIMEOUT.as_secs();
            return KeysError::timeout(format!("{url} did not answer within {seconds} s"));
        }
        let cause = http_client::describe_failure(url, error);
        KeysError::new(format!("{url} could not be reached: {cause}"))
    }

    fn wrong_status(&self, status: StatusCode) -> KeysError {
        let hint = match status.as_u16() {
            304 => ", but the request was not conditional: check for a caching proxy".into(),
            300..=399 => ": redirects are not followed; set jwks_uri to the final URL".into(),
            404 => self.advice(),
            _ => String::new(),
        };
        KeysError::new(format!("{} answered {status}{hint}", self.url))
    }

    /// Returns advice for the operator about a response that does not come from a JWKS endpoint.
    fn advice(&self) -> String {
        if self.url.path().ends_with(JWKS_PATH) {
            return "; check that the URL points to Logto, and not to its Console".into();
        }
        let origin = self.url.origin().ascii_serialization();
        format!(
            "; check the issuer's endpoint or jwks_uri: Logto serves its keys at {origin}{JWKS_PATH}"
        )
    }
}

fn etag(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(header::ETAG).filter(|etag| etag.len() <= MAX_ETAG).cloned()
}

const JWKS_PATH: &str = "/oidc/jwks";
/// The total timeout of a fetch.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest accepted response body. Logto publishes one to three keys, which together take about
/// 3 KB or less.
const MAX_BODY: usize = 256 * 1024;
/// The longest `ETag` that is stored, in bytes. Longer values are ignored.
const MAX_ETAG: usize = 256;
