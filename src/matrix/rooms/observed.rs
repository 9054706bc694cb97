//! What syncs report of the configured rooms, until the lanes take it: redactions, and gaps.

use std::{collections::HashMap, sync::Mutex};

use matrix_sdk::{
    ruma::{OwnedRoomId, RoomId},
    sync::{RoomUpdates, Timeline},
};
use serde_json::Value;

use crate::{delivery::RoomChanges, matrix::context::lock, model::RoomAddress};

/// How many redactions of one room are kept for its lane; more are a gap.
const MAX_REDACTED: usize = 1_000;

#[derive(Default)]
pub(super) struct ObservedRooms {
    rooms: Mutex<HashMap<RoomAddress, Observed>>,
}

struct Observed {
    /// The room behind the address when it was last entered.
    id: OwnedRoomId,
    changes: RoomChanges,
}

impl ObservedRooms {
    pub fn set_room(&self, address: &RoomAddress, id: &RoomId) {
        let mut rooms = lock(&self.rooms);
        let before = rooms.get(address);
        if before.is_some_and(|known| known.id == id) {
            return;
        }
        let changes = RoomChanges { gap: before.is_some(), ..RoomChanges::default() };
        rooms.insert(address.clone(), Observed { id: id.to_owned(), changes });
    }

    pub fn observe(&self, updates: &RoomUpdates) {
        for observed in lock(&self.rooms).values_mut() {
            if let Some(update) = updates.joined.get(&observed.id) {
                observe_timeline(&mut observed.changes, &update.timeline);
            }
        }
    }

    pub fn id_of(&self, address: &RoomAddress) -> Option<OwnedRoomId> {
        lock(&self.rooms).get(address).map(|observed| observed.id.clone())
    }

    pub fn has_changes(&self, address: &RoomAddress) -> bool {
        lock(&self.rooms).get(address).is_some_and(|observed| observed.changes != RoomChanges::default())
    }

    pub fn take(&self, address: &RoomAddress) -> RoomChanges {
        lock(&self.rooms).get_mut(address).map(|observed| std::mem::take(&mut observed.changes)).unwrap_or_default()
    }
}

fn observe_timeline(changes: &mut RoomChanges, timeline: &Timeline) {
    changes.gap |= timeline.limited;
    for event in &timeline.events {
        let redacts = event.raw().deserialize_as_unchecked::<Value>().ok().and_then(|json| redacted_by(&json));
        changes.redacted.extend(redacts);
    }
    if changes.redacted.len() > MAX_REDACTED {
        *changes = RoomChanges { gap: true, ..RoomChanges::default() };
    }
}

/// The event that this one redacts. Room versions before 11 have its id outside of the content.
pub(crate) fn redacted_by(json: &Value) -> Option<String> {
    if json["type"] != "m.room.redaction" {
        return None;
    }
    json["content"]["redacts"].as_str().or_else(|| json["redacts"].as_str()).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_redaction_takes_away() {
        let old = json!({ "type": "m.room.redaction", "redacts": "$1", "content": {} });
        let new = json!({ "type": "m.room.redaction", "content": { "redacts": "$2" } });
        let other = json!({ "type": "m.room.message", "content": { "redacts": "$3" } });
        assert_eq!([&old, &new, &other].map(redacted_by), [Some("$1".to_owned()), Some("$2".to_owned()), None]);
    }

    #[test]
    fn an_address_that_stands_for_another_room_is_a_gap() {
        let (address, observed) = (RoomAddress::parse("#ops:x").unwrap(), ObservedRooms::default());
        let (old, new) = (<&RoomId>::try_from("!old:x").unwrap(), <&RoomId>::try_from("!new:x").unwrap());
        observed.set_room(&address, old);
        observed.set_room(&address, old);
        assert!(!observed.take(&address).gap);
        observed.set_room(&address, new);
        assert!(observed.take(&address).gap);
        assert!(!observed.take(&address).gap, "reported once");
    }
}
