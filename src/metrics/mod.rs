//! Counts what the crate does, with the `metrics` facade. Without the feature, nothing is counted.

#[cfg(not(feature = "metrics"))]
mod ignored;
#[cfg(feature = "metrics")]
mod recorded;

#[cfg(not(feature = "metrics"))]
pub(crate) use ignored::*;
#[cfg(feature = "metrics")]
pub(crate) use recorded::*;
