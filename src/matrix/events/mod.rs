//! Events: sending them, and finding those that were sent.

pub(crate) mod presence;
pub(crate) mod read_back;
pub(crate) mod send;
