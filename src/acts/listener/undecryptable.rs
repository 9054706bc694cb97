//! Encrypted events whose keys are not here yet. They wait for a while, in bounded memory.

use std::{collections::HashMap, time::Duration};

use crate::model::{RoomAddress, RoomEvent, Timestamp};

/// How long an event waits for its key.
const PATIENCE: Duration = Duration::from_mins(10);
const EVERY: Duration = Duration::from_secs(15);
/// How often a sender is answered in a room that an event could not be decrypted: mostly it is talk.
const SAY_EVERY: Duration = Duration::from_hours(1);
/// Events that wait; of more, the oldest are given up.
const MOST: usize = 500;
/// Events that are tried at once.
const AT_ONCE: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub room: RoomAddress,
    pub room_id: String,
    pub event_id: String,
    pub sender: String,
    until: Timestamp,
    try_at: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Undecryptable {
    waiting: Vec<Waiting>,
    said: HashMap<(RoomAddress, String), Timestamp>,
}

impl Undecryptable {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn add(&mut self, room: &RoomAddress, room_id: &str, event: &RoomEvent, now: Timestamp) {
        if self.waits_for(&event.event_id) {
            return;
        }
        if self.waiting.len() >= MOST {
            self.waiting.remove(0);
        }
        let age = event.age.unwrap_or_default().min(PATIENCE);
        self.waiting.push(Waiting {
            room: room.clone(),
            room_id: room_id.to_owned(),
            event_id: event.event_id.clone(),
            sender: event.sender.clone(),
            until: now.plus(PATIENCE.saturating_sub(age)),
            try_at: now.plus(EVERY.min(PATIENCE.saturating_sub(age))),
        });
    }

    /// Those that are to be tried now.
    pub fn due(&mut self, now: Timestamp) -> Vec<Waiting> {
        let due = self.waiting.iter_mut().filter(|waiting| waiting.try_at <= now).take(AT_ONCE);
        due.map(|waiting| {
            waiting.try_at = now.plus(EVERY);
            waiting.clone()
        })
        .collect()
    }

    #[expect(clippy::unused_self, reason = "reads as a question about the list")]
    pub fn is_over(&self, waiting: &Waiting, now: Timestamp) -> bool {
        waiting.until <= now
    }

    /// Whether its sender is to be answered, which then counts as done.
    pub fn may_say(&mut self, waiting: &Waiting, now: Timestamp) -> bool {
        self.said.retain(|_, at| now.since(*at) < SAY_EVERY);
        let key = (waiting.room.clone(), waiting.sender.clone());
        if self.said.len() >= MOST || self.said.contains_key(&key) {
            return false;
        }
        self.said.insert(key, now);
        true
    }

    pub fn remove(&mut self, event_id: &str) {
        self.waiting.retain(|waiting| waiting.event_id != event_id);
    }

    pub fn waits_for(&self, event_id: &str) -> bool {
        self.waiting.iter().any(|waiting| waiting.event_id == event_id)
    }

    pub fn waits_in(&self, room_id: &str) -> bool {
        self.waiting.iter().any(|waiting| waiting.room_id == room_id)
    }
}
