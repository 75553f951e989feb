//! JSON objects whose members are in Logto's order, and the base64url encoding.

use axum::response::{IntoResponse, Response};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::header::CONTENT_TYPE;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// A JSON object that keeps the order of its members. `serde_json`'s own map sorts them.
#[derive(Default)]
pub(crate) struct OrderedObject(Vec<(String, Value)>);

impl OrderedObject {
    /// Adds a member at the end.
    pub(crate) fn push(&mut self, name: &str, value: impl Into<Value>) {
        self.0.push((name.into(), value.into()));
    }

    /// Replaces the value of a member, or adds a new member at the front. Removes the member if
    /// `value` is `None`.
    pub(crate) fn edit(&mut self, name: &str, value: Option<Value>) {
        let at = self.0.iter().position(|(known, _)| known == name);
        match (at, value) {
            (Some(at), Some(value)) => self.0[at].1 = value,
            (Some(at), None) => drop(self.0.remove(at)),
            (None, Some(value)) => self.0.insert(0, (name.into(), value)),
            (None, None) => {}
        }
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("JSON values with string keys are serializable")
    }
}

impl<N: Into<String>, V: Into<Value>> FromIterator<(N, V)> for OrderedObject {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(members: I) -> Self {
        Self(members.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl Serialize for OrderedObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl IntoResponse for OrderedObject {
    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, JSON)], self.to_json()).into_response()
    }
}

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) const JSON: &str = "application/json; charset=utf-8";
