//! The headers of RFC 6750: credentials in requests, challenges in responses.

pub(crate) mod challenge;
pub(crate) mod credentials;
