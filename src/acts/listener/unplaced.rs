//! Reactions and commands on an event that may be ours. As long as the homeserver has not answered a send, its event can be in
//! the room already, and nobody here knows its id.

use std::time::Duration;

use crate::model::{RoomAddress, RoomEvent, Timestamp};

/// How long one waits; what is said then is too late to act on.
const PATIENCE: Duration = Duration::from_mins(10);
/// Events that wait, of one sender in one room and of all; of more, the oldest are given up.
const MOST_OF_ONE: usize = 10;
const MOST: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub room: RoomAddress,
    pub room_id: String,
    pub is_encrypted: bool,
    pub event: RoomEvent,
    since: Timestamp,
}

impl Waiting {
    /// The event as it would be read at this time.
    pub fn aged(&self, now: Timestamp) -> RoomEvent {
        let waited = now.since(self.since);
        RoomEvent { age: self.event.age.map(|age| age.saturating_add(waited)), ..self.event.clone() }
    }

    pub fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.since) >= PATIENCE
    }
}

#[derive(Debug, Default)]
pub(super) struct Unplaced {
    waiting: Vec<Waiting>,
}

impl Unplaced {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn add(&mut self, room: &RoomAddress, room_id: &str, is_encrypted: bool, event: &RoomEvent, now: Timestamp) {
        if self.waits_for(&event.event_id) {
            return;
        }
        let is_of_one = |waiting: &&Waiting| waiting.room_id == room_id && waiting.event.sender == event.sender;
        let given_up = if self.waiting.iter().filter(is_of_one).count() >= MOST_OF_ONE {
            self.waiting.iter().position(|waiting| is_of_one(&waiting))
        } else {
            (self.waiting.len() >= MOST).then_some(0)
        };
        if let Some(at) = given_up {
            let one = self.waiting.remove(at);
            tracing::debug!(room = %one.room, event = %one.event.event_id, "too many wait for sends; given up");
        }
        tracing::debug!(%room, event = %event.event_id, "about an event whose send is not answered yet; waits");
        self.waiting.push(Waiting {
            room: room.clone(),
            room_id: room_id.to_owned(),
            is_encrypted,
            event: event.clone(),
            since: now,
        });
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> Vec<Waiting> {
        self.waiting.clone()
    }

    pub fn remove(&mut self, event_id: &str) {
        self.waiting.retain(|waiting| waiting.event.event_id != event_id);
    }

    pub fn waits_for(&self, event_id: &str) -> bool {
        self.waiting.iter().any(|waiting| waiting.event.event_id == event_id)
    }

    pub fn waits_in(&self, room_id: &str) -> bool {
        self.waiting.iter().any(|waiting| waiting.room_id == room_id)
    }
}
