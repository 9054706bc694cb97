//! The one place where parts are built and tasks spawned.

pub mod acts;
mod clock_jumps;
mod housekeeping;
mod lanes;
mod receiver;
mod reload;
mod room_addresses;
mod source;

pub use self::{receiver::Receiver, source::Source};
