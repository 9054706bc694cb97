//! Links: where they come from, and what makes them valid and safe.

pub(super) mod alert_links;
pub(super) mod custom;
pub mod explore;
pub(super) mod link;
pub(super) mod logs;
pub mod placeholders;
pub(super) mod url;

pub use self::logs::{LogsQuery, logs_query};
