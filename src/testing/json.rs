//! A JSON object in the order of Logto's, and its base64url.

use axum::response::{IntoResponse, Response};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::header::CONTENT_TYPE;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// The members of a JSON object, in order: `serde_json`'s own map sorts them.
#[derive(Debug, Clone, Default)]
pub(super) struct Members(Vec<(String, Value)>);

impl Members {
    /// Replaces the value where the member stands, or adds the member at the end.
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// Replaces the value where the member stands, or adds the member in front.
    pub(super) fn set_or_prepend(&mut self, name: &str, value: Value) {
        if !self.0.iter().any(|(known, _)| known == name) {
            self.0.insert(0, (name.into(), Value::Null));
        }
        self.set(name, value);
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    pub(super) fn to_json(&self) -> String {
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

pub(super) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) const JSON: &str = "application/json; charset=utf-8";
