//! What others do in a room, as far as it can ask for something.

use std::time::Duration;

use super::{act::Trust, ids::RoomAddress};

/// One event of somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomEvent {
    pub event_id: String,
    pub sender: String,
    /// By the homeserver's word (`unsigned.age`), or else since the time that it is dated with.
    pub age: Option<Duration>,
    pub trust: Trust,
    /// Session and index of the encrypted event, if it was one.
    pub megolm: Option<String>,
    pub content: RoomEventContent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomEventContent {
    /// An `m.text` that is neither an edit nor redacted.
    Text {
        body: String,
        /// The root of the thread that it is in.
        thread: Option<String>,
        /// The event that it replies to (not the fallback within a thread).
        reply_to: Option<String>,
    },
    Reaction {
        target: String,
        key: String,
    },
    /// An event was redacted.
    Redaction {
        target: String,
    },
    /// Encrypted, and its key is not here (yet).
    Undecryptable,
    /// Anything else; it only moves the position.
    Other,
}

/// What a sync or a read-back brought of one room, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomEvents {
    pub room: RoomAddress,
    pub room_id: String,
    pub is_encrypted: bool,
    pub events: Vec<RoomEvent>,
    /// Events between these and the ones before were left out.
    pub gap: bool,
}

/// What a user is in a room at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub is_joined: bool,
    /// `i64::MAX` for the creators of a room of version 12.
    pub power: i64,
    /// The display name; empty if there is none. Untrusted.
    pub name: String,
    pub room_is_encrypted: bool,
}
