//! The card of one incident.

pub(crate) mod group;
pub(crate) mod headline;
pub(crate) mod lines;
pub(crate) mod view;
