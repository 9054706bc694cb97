//! Which rooms are encrypted, as far as is known without a request: it decides which device of a replica sends.

use std::{collections::HashMap, sync::Mutex};

use crate::{matrix::context::lock, model::RoomAddress};

/// What the last look at each room said. A send looks again: a room may have become encrypted, or its address may lead to
/// another room.
#[derive(Default)]
pub(crate) struct RoomKinds {
    encrypted: Mutex<HashMap<RoomAddress, bool>>,
}

impl RoomKinds {
    pub fn note(&self, address: &RoomAddress, is_encrypted: bool) {
        lock(&self.encrypted).insert(address.clone(), is_encrypted);
    }

    /// `None`: nobody has looked yet.
    pub fn is_encrypted(&self, address: &RoomAddress) -> Option<bool> {
        lock(&self.encrypted).get(address).copied()
    }
}
