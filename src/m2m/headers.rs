//! Functions that read the status and the headers of responses.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};

/// Returns the delay that `Retry-After` asks for, but at most two minutes. The header may have
/// either form of RFC 9110 §10.2.3.
pub(crate) fn retry_after(headers: &HeaderMap, unix_time: Duration) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(SystemTime::UNIX_EPOCH).ok()?.saturating_sub(unix_time)
    };
    Some(delay.min(MAX_RETRY_AFTER))
}

/// Returns whether a service refused the token with this response. A `401` counts as a refusal if
/// it has a Bearer challenge, or no challenge at all. If a `401` has challenges, but no Bearer
/// challenge, it comes from a proxy, or is about credentials other than the token.
pub(crate) fn is_token_refusal(status: StatusCode, headers: &HeaderMap) -> bool {
    if status != StatusCode::UNAUTHORIZED {
        return false;
    }
    let mut challenges = headers.get_all(header::WWW_AUTHENTICATE).iter().peekable();
    let is_bearer = |challenge: &str| {
        challenge.split_ascii_whitespace().next().is_some_and(|s| s.eq_ignore_ascii_case("bearer"))
    };
    challenges.peek().is_none()
        || challenges.any(|value| value.to_str().is_ok_and(|text| text.split(',').any(is_bearer)))
}

/// Returns the media type of a response, for use in error messages. An unexpected media type often
/// shows that the response is a proxy's error page.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/+-.".contains(c);
    if media_type.is_empty() || media_type.len() > 64 || !media_type.chars().all(is_plain) {
        return "no content type".to_owned();
    }
    media_type.to_owned()
}

/// Returns whether this status means a temporary failure. After such a failure, a retry of the same
/// request may succeed.
pub(crate) fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// The longest delay that the client accepts from `Retry-After`. The client shortens longer delays
/// to this limit. During an outage, a server may send any delay. Because of this limit, the client
/// retries soon after the outage has ended.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(2 * 60);

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn rfc_9110_section_10_2_3_retry_after_is_read_in_both_forms() {
        let unix_time = Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        for (text, expected) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("121", Some(120)),
            ("3600", Some(120)),
            ("99999999999999999999", Some(120)),
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
