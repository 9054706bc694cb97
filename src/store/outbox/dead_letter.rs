//! What is known of a dead letter.

use crate::model::{Op, Timestamp};

/// An op that was refused in every form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub op: Op,
    /// Why its last form was refused.
    pub error: String,
    /// When it was set aside.
    pub at: Timestamp,
}

/// What a room gets in place of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// The card's first event.
    Card,
    /// The card as it is now.
    Edit,
    /// Nothing is left to show.
    Nothing,
}
