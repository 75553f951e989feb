//! What the headers and the JSON of Logto's answers say.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use serde::de::{self, DeserializeOwned};

use crate::{json, m2m::management::ManagementError};

/// An answer of the Management API that was read to its end.
pub(crate) struct Answer {
    /// Method and path, for errors.
    pub(crate) call: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The list's length on all pages.
    pub(crate) fn total(&self) -> Option<u64> {
        self.headers.get(TOTAL_NUMBER)?.to_str().ok()?.trim().parse().ok()
    }

    /// Some of Logto's answers are no JSON: `204` is empty, and `201` may say `Created`.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ManagementError> {
        let media_type = media_type(&self.headers);
        let json = match &*media_type {
            "application/json" => &*self.body,
            "text/plain" => b"null",
            _ if self.body.is_empty() => b"null",
            _ => {
                return Err(self.unexpected(&format!("{media_type}: is a proxy in between?")));
            }
        };
        serde_json::from_slice(json).map_err(|error| {
            let what = json::describe(&error);
            self.unexpected(&format!("{media_type} that your type does not fit: {what}"))
        })
    }

    fn unexpected(&self, what: &str) -> ManagementError {
        let met = format!("{}: {} with {what}", self.call, self.status);
        ManagementError::unexpected(self.status, met)
    }
}

/// The time of `Retry-After` from now, in either form of RFC 9110 §10.2.3; an hour at most.
pub(crate) fn retry_after(headers: &HeaderMap, unix_time: Duration) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(SystemTime::UNIX_EPOCH).ok()?.saturating_sub(unix_time)
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// The media type for an error's text: what a proxy's page has is the first trace to it.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/+-.".contains(c);
    if media_type.is_empty() || media_type.len() > 64 || !media_type.chars().all(is_plain) {
        return "no content type".to_owned();
    }
    media_type.to_owned()
}

/// Whether the same request may succeed later.
pub(crate) fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// Reads an object, for which serde's derive would also take an array of its values.
pub(crate) fn read_object<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    if json.trim_ascii_start().starts_with(b"[") {
        return Err(de::Error::custom("an array"));
    }
    serde_json::from_slice(json)
}

const TOTAL_NUMBER: &str = "total-number";
/// A typing error in a header should not silence a service for days.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn rfc_9110_section_10_2_3_retry_after() {
        let unix_time = Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        for (text, expected) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("3601", Some(3_600)),
            ("99999999999999999999", Some(3_600)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            let value = HeaderValue::from_static(text);
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, value)]);
            assert_eq!(retry_after(&headers, unix_time), expected.map(Duration::from_secs));
        }
        assert_eq!(retry_after(&HeaderMap::new(), unix_time), None);
    }
}
