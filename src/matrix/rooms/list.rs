//! The addresses, and what is known of each.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use tokio::sync::Notify;

use super::entry::RoomEntry;
use crate::{
    matrix::context::lock,
    model::{ResolvedRoom, RoomAddress},
};

pub(super) struct RoomList {
    /// The rooms of the current config, in its order.
    served: Mutex<Vec<RoomAddress>>,
    slots: Mutex<HashMap<RoomAddress, Arc<RoomSlot>>>,
    /// Where addresses lead, also those that the config no longer names.
    resolved: Mutex<HashMap<RoomAddress, ResolvedRoom>>,
}

/// One address, locked while its room is entered.
pub(super) struct RoomSlot {
    pub entry: tokio::sync::Mutex<RoomEntry>,
    /// Notified when a room is entered after a failure.
    pub entered: Notify,
}

impl RoomList {
    /// `resolved` is what earlier runs have stored.
    pub fn new(resolved: HashMap<RoomAddress, ResolvedRoom>) -> Self {
        Self { served: Mutex::default(), slots: Mutex::default(), resolved: Mutex::new(resolved) }
    }

    /// Replaces the rooms of the config. A new one is resolved again. `aliases` is what the operator says about aliases,
    /// which counts for more than what was stored.
    pub fn serve(&self, rooms: &[RoomAddress], aliases: &BTreeMap<RoomAddress, RoomAddress>) {
        let before = std::mem::replace(&mut *lock(&self.served), rooms.to_vec());
        for room in rooms.iter().filter(|room| !before.contains(room)) {
            let slot = self.new_slot(room, aliases.get(room));
            lock(&self.slots).insert(room.clone(), slot);
        }
    }

    fn new_slot(&self, room: &RoomAddress, confirmed: Option<&RoomAddress>) -> Arc<RoomSlot> {
        let stored = lock(&self.resolved).get(room).cloned();
        let known = match confirmed {
            Some(confirmed) => stored
                .clone()
                .filter(|resolved| [resolved.first.as_str(), resolved.current()].contains(&confirmed.as_str()))
                .or_else(|| Some(ResolvedRoom::new(confirmed.as_str()))),
            None => stored.clone(),
        };
        let entry = tokio::sync::Mutex::new(RoomEntry::new(room, known, stored));
        Arc::new(RoomSlot { entry, entered: Notify::new() })
    }

    pub fn served(&self) -> Vec<RoomAddress> {
        lock(&self.served).clone()
    }

    pub fn slots(&self) -> Vec<Arc<RoomSlot>> {
        lock(&self.slots).values().cloned().collect()
    }

    /// Also for a room that the config no longer names: a last edit may be due there.
    pub fn slot(&self, room: &RoomAddress) -> Arc<RoomSlot> {
        if let Some(slot) = lock(&self.slots).get(room) {
            return Arc::clone(slot);
        }
        let slot = self.new_slot(room, None);
        Arc::clone(lock(&self.slots).entry(room.clone()).or_insert(slot))
    }

    pub fn resolved(&self) -> HashMap<RoomAddress, ResolvedRoom> {
        lock(&self.resolved).clone()
    }

    pub fn set_resolved(&self, room: &RoomAddress, resolved: &ResolvedRoom) {
        lock(&self.resolved).insert(room.clone(), resolved.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_confirmed_alias_counts_for_more_than_the_stored_room() {
        let [alias, other, old] = ["#ops:x", "#db:x", "!old:x"].map(|text| RoomAddress::parse(text).unwrap());
        let stored = [(alias.clone(), ResolvedRoom::new("!old:x")), (other.clone(), ResolvedRoom::new("!old:x"))];
        let list = RoomList::new(HashMap::from(stored));
        let confirmed = BTreeMap::from([(alias.clone(), RoomAddress::parse("!new:x").unwrap())]);
        list.serve(&[alias.clone(), other.clone()], &confirmed);
        for (room, leads_to) in [(&alias, "!new:x"), (&other, "!old:x"), (&old, "!old:x")] {
            let slot = list.slot(room);
            let entry = slot.entry.lock().await;
            assert_eq!(entry.resolved.as_ref().map(ResolvedRoom::current), Some(leads_to), "{room}");
        }
        assert_eq!(list.served(), [alias, other]);
    }
}
