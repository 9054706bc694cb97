//! Which rooms are encrypted, as far as is known without a request: it decides which device of a replica sends.

use std::{collections::HashMap, sync::Mutex};

use matrix_sdk::ruma::{OwnedRoomId, RoomId};
use tokio::time::Instant;

use crate::{delivery::PLAIN_FOR, matrix::context::lock, model::RoomAddress};

/// What the last look at each room said. A send looks again: a room may have become encrypted, or its address may lead to
/// another room.
#[derive(Default)]
pub(crate) struct RoomKinds {
    encrypted: Mutex<HashMap<RoomAddress, bool>>,
    /// When the homeserver was last asked about the room behind an address and said that it is not encrypted.
    plain: Mutex<HashMap<RoomAddress, (OwnedRoomId, Instant)>>,
}

impl RoomKinds {
    pub fn note(&self, address: &RoomAddress, is_encrypted: bool) {
        lock(&self.encrypted).insert(address.clone(), is_encrypted);
    }

    /// The homeserver was asked `at`, and said that the room is not encrypted.
    pub fn note_plain(&self, address: &RoomAddress, id: &RoomId, at: Instant) {
        lock(&self.plain).insert(address.clone(), (id.to_owned(), at));
    }

    /// Whether the homeserver was asked since then, and within [`PLAIN_FOR`], and said that the room is not encrypted.
    pub fn is_plain(&self, address: &RoomAddress, id: &RoomId, since: Option<Instant>) -> bool {
        let plain = lock(&self.plain);
        plain
            .get(address)
            .zip(since)
            .is_some_and(|((known, at), since)| known == id && *at >= since && at.elapsed() < PLAIN_FOR)
    }

    /// `None`: nobody has looked yet.
    pub fn is_encrypted(&self, address: &RoomAddress) -> Option<bool> {
        lock(&self.encrypted).get(address).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_its_room_and_not_for_longer_than_was_asked() {
        let (kinds, address) = (RoomKinds::default(), RoomAddress::parse("#ops:x").unwrap());
        let (id, other) = (<&RoomId>::try_from("!a:x").unwrap(), <&RoomId>::try_from("!b:x").unwrap());
        let asked = Instant::now();
        let before = asked.checked_sub(PLAIN_FOR).unwrap();
        let later = asked + std::time::Duration::from_millis(1);
        assert!(!kinds.is_plain(&address, id, Some(asked)), "nobody has asked");
        kinds.note_plain(&address, id, asked);
        assert!(kinds.is_plain(&address, id, Some(asked)));
        assert!(!kinds.is_plain(&address, id, Some(later)) && !kinds.is_plain(&address, id, None));
        assert!(!kinds.is_plain(&address, other, Some(asked)), "the address leads to another room");
        kinds.note_plain(&address, id, before);
        assert!(!kinds.is_plain(&address, id, Some(before)), "a send that had to wait asks again");
    }
}
