//! RFC 6750 on the wire: credentials in requests, challenges in responses.

pub(crate) mod challenge;
pub(crate) mod credentials;
