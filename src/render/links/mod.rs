//! Links: where they come from, and what makes them valid and safe.

pub(crate) mod custom;
pub mod explore;
pub(crate) mod logs;
pub mod placeholders;
pub(crate) mod url;
