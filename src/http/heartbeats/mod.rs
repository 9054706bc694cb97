//! Heartbeats as webhooks bring them and the operator sees them; `app` watches them.

mod forget;
pub mod heard;

pub use self::forget::forget;
