//! Delivery: a lane per room decides what goes out next, freezes it, sends it and records the answer.

mod transport;

pub use transport::{BoxFuture, Reason, Scope, SendError, Transport};
