//! Invitations and removals that the last sync reported, until the next round looks at them.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use matrix_sdk::{ruma::OwnedRoomId, sync::RoomUpdates};

use super::list::RoomSlot;
use crate::matrix::context::lock;

/// How many invitations to rooms outside of the config are logged.
const MAX_IGNORED: usize = 50;

#[derive(Default)]
pub(super) struct MembershipChanges {
    pending: Mutex<Pending>,
    /// Invitations that were logged as not ours.
    ignored: Mutex<BTreeSet<OwnedRoomId>>,
}

#[derive(Default)]
struct Pending {
    invited: Vec<OwnedRoomId>,
    left: Vec<OwnedRoomId>,
}

impl MembershipChanges {
    /// Keeps what makes another attempt to join worthwhile at once. Returns whether there is anything.
    pub fn observe(&self, updates: &RoomUpdates) -> bool {
        if updates.invited.is_empty() && updates.left.is_empty() {
            return false;
        }
        // Of the last sync only, so that invitations cannot fill the memory.
        let (invited, left) = (updates.invited.keys().cloned().collect(), updates.left.keys().cloned().collect());
        *lock(&self.pending) = Pending { invited, left };
        true
    }

    /// Lets failed joins that a change concerns be tried again at once, and logs other invitations.
    pub async fn apply(&self, slots: &[Arc<RoomSlot>]) {
        let Pending { invited, left } = std::mem::take(&mut *lock(&self.pending));
        if invited.is_empty() && left.is_empty() {
            return;
        }
        let mut ignored: BTreeSet<_> = invited.iter().cloned().collect();
        for slot in slots {
            let mut entry = slot.entry.lock().await;
            let may_be_invited = entry.is_unresolved() && !invited.is_empty();
            if may_be_invited {
                ignored.clear();
            }
            ignored.retain(|id| !entry.concerns(id));
            if (may_be_invited || invited.iter().chain(&left).any(|id| entry.concerns(id)))
                && let Some(failed) = &mut entry.failed
            {
                failed.retry_now = true;
            }
        }
        let mut known = lock(&self.ignored);
        for id in ignored {
            if known.len() < MAX_IGNORED && known.insert(id.clone()) {
                tracing::info!(room_id = %id, "ignored an invitation to an unconfigured room");
            }
        }
    }
}
