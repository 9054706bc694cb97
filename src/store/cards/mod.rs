//! Cards: what a room shows, and what is said about it.

pub(crate) mod digests;
pub(crate) mod due;
pub(crate) mod root_events;
pub(crate) mod save;
pub(crate) mod severity;
pub(crate) mod superseded;
pub(crate) mod unrouted;
