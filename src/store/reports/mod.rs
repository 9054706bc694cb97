//! What metrics, health and the status page read.

pub(crate) mod overview;
pub(crate) mod stats;
