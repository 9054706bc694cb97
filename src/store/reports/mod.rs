//! What metrics, health and the status page read.

pub(crate) mod overview;
pub(crate) mod read_overview;
mod read_stats;
pub(crate) mod stats;
