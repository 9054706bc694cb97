//! The one client of Alertmanager's API, and what its answers say beyond webhooks.

pub mod api;
pub mod client;
mod judge;
mod missing;
mod poll;
mod poller;
mod silences;
pub mod watch;

pub use poller::{PollContext, PollNow, poll};
