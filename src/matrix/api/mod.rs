//! Requests to the homeserver, and what their answers mean.

pub(crate) mod client;
pub(crate) mod errors;
pub(crate) mod homeserver;
pub(crate) mod http_client;
pub(crate) mod token_api;
