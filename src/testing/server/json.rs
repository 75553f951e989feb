//! A JSON object in the order of Logto's, and its base64url.

use axum::response::{IntoResponse, Response};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::header::CONTENT_TYPE;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// The members of a JSON object, in order: `serde_json`'s own map sorts them.
#[derive(Default)]
pub(in crate::testing) struct Members(Vec<(String, Value)>);

impl Members {
    /// Adds a member at the end.
    pub(in crate::testing) fn push(&mut self, name: &str, value: impl Into<Value>) {
        self.0.push((name.into(), value.into()));
    }

    /// Sets a member where it stands, or in front; removes it when there is no value.
    pub(in crate::testing) fn edit(&mut self, name: &str, value: Option<Value>) {
        let at = self.0.iter().position(|(known, _)| known == name);
        match (at, value) {
            (Some(at), Some(value)) => self.0[at].1 = value,
            (Some(at), None) => drop(self.0.remove(at)),
            (None, Some(value)) => self.0.insert(0, (name.into(), value)),
            (None, None) => {}
        }
    }

    pub(in crate::testing) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and values are JSON")
    }
}

impl<N: Into<String>, V: Into<Value>> FromIterator<(N, V)> for Members {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(members: I) -> Self {
        Self(members.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl IntoResponse for Members {
    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, JSON)], self.to_json()).into_response()
    }
}

pub(in crate::testing) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(in crate::testing) const JSON: &str = "application/json; charset=utf-8";
