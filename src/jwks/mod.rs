//! An issuer's signing keys (RFC 7517): the key set, and the refresh of the key set over time.

mod fetch;
#[cfg_attr(not(feature = "testing"), allow(unreachable_pub, reason = "exported by `testing`"))]
pub(crate) mod key_set;
pub(crate) mod key_store;
mod missing_keys;
pub(crate) mod refresh;
pub(crate) mod snapshot;
pub(crate) mod status;
