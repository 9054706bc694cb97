//! Several receivers on one database: who leads, how they wake each other, and how a store gets there.

#[cfg(test)]
mod additive;
pub(crate) mod advice;
pub(crate) mod copy;
pub(crate) mod lease;
pub(crate) mod look;
pub(crate) mod session;
pub(crate) mod tables;
pub(crate) mod watch;
