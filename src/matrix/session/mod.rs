//! The session: logging in, keeping it on disk, and whether it can encrypt.

pub(crate) mod connect;
pub(crate) mod login;
pub(crate) mod mode;
pub(crate) mod storage;
pub(crate) mod without_keys;
