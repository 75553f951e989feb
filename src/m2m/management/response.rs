//! A response of the Management API.

use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use crate::{
    json,
    m2m::{headers::media_type, management::error::ManagementError},
};

/// A response with its complete body.
pub(crate) struct ManagementResponse {
    /// The method and the path of the call, for error messages.
    pub(crate) call: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl ManagementResponse {
    /// Returns the number of items on all pages of a list, from the header `Total-Number`.
    pub(crate) fn total(&self) -> Option<u64> {
        self.headers.get(TOTAL_NUMBER)?.to_str().ok()?.trim().parse().ok()
    }

    /// Deserializes the body. Some bodies of Logto are not JSON: the body of a `204` is empty, and
    /// the body of a `201` may be the text `Created`. Such bodies are read as `null`.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ManagementError> {
        let media_type = media_type(&self.headers);
        let unexpected = |what: &str| {
            let Self { call, status, .. } = self;
            let message = format!("{call} responded with {status} ({media_type}): {what}");
            ManagementError::unexpected(*status, message)
        };
        let json = match &*media_type {
            "application/json" => &*self.body,
            "text/plain" => b"null",
            _ if self.body.is_empty() => b"null",
            _ => return Err(unexpected("the body is not JSON; is there a proxy in between?")),
        };
        serde_json::from_slice(json).map_err(|error| {
            unexpected(&format!(
                "the call took effect, but the body does not match your type: {}; to ignore the \
                 body, use serde::de::IgnoredAny as the type",
                json::describe(&error)
            ))
        })
    }
}

const TOTAL_NUMBER: &str = "total-number";
