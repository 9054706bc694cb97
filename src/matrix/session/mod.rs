//! The session: logging in, keeping it on disk, and whether it can encrypt.

mod auth;
mod confirm;
pub(crate) mod connection;
pub(crate) mod device;
pub(crate) mod link;
pub(crate) mod mode;
pub(crate) mod sdk_store;
mod secret_file;
pub(crate) mod session_file;
pub(crate) mod shared;
mod status;
