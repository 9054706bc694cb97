//! What several commands share.

pub(crate) mod http_client;
pub(crate) mod terminal;
pub(crate) mod tls;
pub(crate) mod yaml;
