//! Delivery: a lane per room decides what goes out next, freezes it, sends it and records the answer.

mod blame;
mod compose;
mod doubt;
mod fallbacks;
mod farewell;
mod gate;
mod in_force;
mod lane;
mod plan;
mod retry;
mod roots;
mod setback;
mod transport;
mod waiting;

pub use compose::mentions_for;
pub use gate::Gate;
pub use in_force::InForce;
pub use lane::{Lane, Parts};
pub use transport::{BoxFuture, OwnEvent, ReadBack, Reason, RoomNews, Scope, Search, SendError, Sight, Transport};

/// By it own events are found again.
pub use crate::render::CONTENT_KEY;
