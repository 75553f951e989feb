//! A key set over HTTP: one conditional request, bounded in time and size.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{HeaderValue, StatusCode, header};
use reqwest::{Client, Url};

use crate::{
    algorithm::Algorithm,
    error::KeysError,
    escape::Excerpt,
    http_client::{self, BodyError, HttpClients},
    jwks::key_set::KeySet,
};

/// Where keys are fetched; the client is built at the first fetch.
#[derive(Debug)]
pub(super) struct Remote {
    url: Url,
    clients: HttpClients,
    client: OnceLock<Client>,
}

/// What a fetch brought.
pub(super) enum Fetched {
    Keys(KeySet, Option<HeaderValue>),
    NotModified,
}

impl Remote {
    pub(super) const fn new(url: Url, clients: HttpClients) -> Self {
        Self { url, clients, client: OnceLock::new() }
    }

    /// Fetches the key set, unless it is still the one of this `ETag`.
    pub(super) async fn fetch(
        &self,
        etag: Option<&HeaderValue>,
        algorithms: &[Algorithm],
    ) -> Result<Fetched, KeysError> {
        let mut request = self.client()?.get(self.url.clone());
        request = request.header(header::ACCEPT, "application/jwk-set+json, application/json");
        if let Some(etag) = etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        match response.status() {
            StatusCode::NOT_MODIFIED if etag.is_some() => return Ok(Fetched::NotModified),
            StatusCode::OK => {}
            status => return Err(self.wrong_status(status)),
        }
        let etag = response.headers().get(header::ETAG).filter(|etag| etag.len() <= MAX_ETAG);
        let etag = etag.cloned();
        let body =
            http_client::read_body(response, MAX_BODY).await.map_err(|error| match error {
                BodyError::TooLarge => {
                    KeysError::new(format!("{} answered with more than {MAX_BODY} bytes", self.url))
                }
                BodyError::Broken(error) => self.unreachable(error),
            })?;
        Ok(Fetched::Keys(KeySet::from_json(&body, algorithms)?, etag))
    }

    fn client(&self) -> Result<&Client, KeysError> {
        http_client::get_or_build(&self.client, || self.clients.build(&self.url, FETCH_TIMEOUT))
            .map_err(|error| {
                let met = format!("{}: {}", http_client::NO_CLIENT, Excerpt::of_cause(&error));
                KeysError::caused_by(met, Arc::new(error))
            })
    }

    fn unreachable(&self, error: reqwest::Error) -> KeysError {
        if error.is_timeout() {
            return KeysError::timeout(format!(
                "{} did not answer within {} s",
                self.url,
                FETCH_TIMEOUT.as_secs()
            ));
        }
        let cause = Excerpt::of_cause(&error);
        KeysError::caused_by(format!("{} could not be reached: {cause}", self.url), Arc::new(error))
    }

    fn wrong_status(&self, status: StatusCode) -> KeysError {
        let advice = match status.as_u16() {
            304 => ": the request was not conditional, is there a cache in between?",
            300..=399 => ": redirects are not followed, set jwks_uri to the final address",
            404 => ": is this Logto's endpoint? keys are at {endpoint}/oidc/jwks",
            _ => "",
        };
        KeysError::new(format!("{} answered {status}{advice}", self.url))
    }
}

/// Logto's answer has one to three keys, some 3 KB.
const MAX_BODY: usize = 256 * 1024;
const MAX_ETAG: usize = 256;
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
