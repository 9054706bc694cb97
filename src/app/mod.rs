//! The one place where parts are built and tasks spawned.

mod acts;
mod clients;
mod clock_jumps;
mod escalation;
mod evidence;
mod heartbeats;
mod housekeeping;
mod lanes;
mod leadership;
mod listeners;
mod opening;
mod pings;
mod pollers;
mod receiver;
mod reload;
mod room_addresses;
mod source;
mod term;

pub use self::{receiver::Receiver, source::Source};
