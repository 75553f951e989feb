//! Fetches a JWKS over HTTP with one conditional request, which is bounded in time and size.

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
    escape::Escaped,
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

/// A key set, and the `ETag` of its response.
#[derive(Debug, Clone)]
pub(super) struct FetchedKeys {
    pub(super) keys: KeySet,
    etag: Option<HeaderValue>,
}

impl JwksEndpoint {
    pub(super) const fn new(url: Url, clients: HttpClients) -> Self {
        Self { url, clients, client: OnceLock::new() }
    }

    /// Fetches the key set. The result reuses the current keys that have not changed.
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
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
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
                BodyError::Broken(error) => self.unreachable(error),
            })?;
        let keys = KeySet::from_json(&body, algorithms)?;
        let keys = match held {
            Some(held) => keys.reusing(&held.keys),
            None => keys,
        };
        Ok(FetchedKeys { keys, etag })
    }

    fn client(&self) -> Result<&Client, KeysError> {
        let build = || self.clients.build(&self.url, FETCH_TIMEOUT);
        http_client::get_or_build(&self.client, build).map_err(|error| {
            let message = format!("{}: {}", http_client::NO_CLIENT, Escaped::root_cause(&error));
            KeysError::caused_by(message, Arc::new(error))
        })
    }

    fn unreachable(&self, error: reqwest::Error) -> KeysError {
        let url = &self.url;
        if error.is_timeout() {
            let seconds = FETCH_TIMEOUT.as_secs();
            return KeysError::timeout(format!("{url} did not answer within {seconds} s"));
        }
        let cause = Escaped::root_cause(&error);
        KeysError::caused_by(format!("{url} could not be reached: {cause}"), Arc::new(error))
    }

    fn wrong_status(&self, status: StatusCode) -> KeysError {
        let hint = match status.as_u16() {
            304 => ", but the request was not conditional: check for a cache in between",
            300..=399 => ": redirects are not followed; set jwks_uri to the final URL",
            404 => {
                ": check the issuer's endpoint or jwks_uri; Logto serves its keys at <endpoint>/oidc/jwks"
            }
            _ => "",
        };
        KeysError::new(format!("{} answered {status}{hint}", self.url))
    }
}

fn etag(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(header::ETAG).filter(|etag| etag.len() <= MAX_ETAG).cloned()
}

/// The total timeout of a fetch.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Logto publishes one to three keys in about 3 KB.
const MAX_BODY: usize = 256 * 1024;
const MAX_ETAG: usize = 256;
