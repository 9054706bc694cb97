//! Delivery: a lane per room decides what goes out next, freezes it, sends it and records the answer.

mod budget;
mod compose;
mod gate;
mod lane;
mod plan;
mod poison;
mod queue;
mod retry;
mod settings;
mod storm;
mod transport;

pub use compose::mentions_for;
pub use gate::Gate;
pub use lane::{Lane, LaneContext, OnShown};
pub use settings::Settings;
pub use transport::{
    BoxFuture, EventPresence, FrozenEvent, MESSAGE, OwnEvent, PLAIN_FOR, ReadBack, RoomChanges, Search, Transport,
};

/// The content key by which the receiver finds its own events again.
pub use crate::render::CONTENT_KEY;
