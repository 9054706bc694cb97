//! Requests to the homeserver, and what their answers mean.

pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod errors;
pub(crate) mod homeserver;
