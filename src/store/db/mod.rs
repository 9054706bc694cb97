//! The database: opening it, its one writer, rows and errors.

pub(crate) mod bodies;
pub(crate) mod checkpoints;
pub(crate) mod clean_stop;
pub(crate) mod common;
pub(crate) mod database;
pub(crate) mod error;
pub(crate) mod json;
pub(crate) mod meta;
pub(crate) mod monitoring;
pub(crate) mod open;
pub(crate) mod openings;
pub(crate) mod readers;
pub(crate) mod repeats;
pub(crate) mod rows;
pub(crate) mod statement;
#[cfg(test)]
pub(crate) mod test_database;
pub(crate) mod timeline;
pub(crate) mod wakes;
pub(crate) mod writer;
