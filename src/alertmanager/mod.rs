//! The one client of Alertmanager's API, and what its answers say beyond webhooks.

pub mod api;
pub mod client;
mod context;
mod judge;
pub mod marker;
mod missing;
mod poll;
mod poller;
mod silences;
pub mod watch;

pub use context::{ListedSilences, PollContext, PollNow};
pub use poller::poll;
