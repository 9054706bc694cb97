//! Events: sending them, and reading a room back.

pub(crate) mod read_back;
pub(crate) mod send;
