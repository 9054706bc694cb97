//! Heartbeats as webhooks bring them and the operator sees them; `app` watches them.

pub(super) mod control;
mod forget;
pub mod heard;
mod list;

pub use self::{forget::forget, list::list};
