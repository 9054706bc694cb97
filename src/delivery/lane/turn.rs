//! What a turn of a lane, or a send in it, leaves to do.

use std::time::Duration;

use crate::model::Op;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Something was done; there may be more.
    Again,
    /// There is nothing to do until the store wakes the lane.
    Idle,
    /// There is nothing to do until then, or until the store wakes the lane.
    Wait(Duration),
    /// Nothing is tried before that, whatever the store says, unless the account joins the room.
    Held(Duration),
}

impl Turn {
    /// The same turn with a wait of at most `limit`.
    pub fn at_most(self, limit: Duration) -> Self {
        match self {
            Self::Again => Self::Again,
            Self::Idle => Self::Wait(limit),
            Self::Wait(wait) => Self::Wait(wait.min(limit)),
            Self::Held(wait) => Self::Held(wait.min(limit)),
        }
    }
}

/// What follows a failed send.
#[derive(Debug)]
pub(super) enum Next {
    /// A plainer form is sent in the same turn.
    Send(Op),
    End(Turn),
}

/// For a log field.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
