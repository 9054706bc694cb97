//! What several commands share. A command never borrows from another command.

pub(crate) mod control;
pub(crate) mod http_client;
pub(crate) mod input;
pub(crate) mod output;
pub(crate) mod output_file;
pub(crate) mod terminal;
pub(crate) mod tls;
pub(crate) mod yaml;
