//! Records the crate's metrics with the `metrics` facade. Without the feature `metrics`, nothing is
//! recorded.

#[cfg(not(feature = "metrics"))]
mod ignored;
#[cfg(feature = "metrics")]
mod recorded;

#[cfg(not(feature = "metrics"))]
pub(crate) use ignored::*;
#[cfg(feature = "metrics")]
pub(crate) use recorded::*;
