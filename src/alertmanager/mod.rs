//! The one client of Alertmanager's API, and what its answers say beyond webhooks.

pub mod api;
pub mod client;
pub mod watch;
