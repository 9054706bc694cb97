//! Several receivers on one database: who leads, and how they wake each other.

pub(crate) mod lease;
pub(crate) mod session;
pub(crate) mod watch;
