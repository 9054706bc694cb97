//! How the receiver is: the state that its parts write, and the one judgement of it that `/healthz` and the status page
//! print.

mod judge;
pub mod report;
mod state;

pub use judge::{in_words, judge};
pub use state::{
    Age, ArmedSwitch, Certificate, ClockSet, Delivery, Health, Heartbeat, Hold, Loaded, Peer, PeerFault, Replica,
    RoomHealth, State, Trust,
};
