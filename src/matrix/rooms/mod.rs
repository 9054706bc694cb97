//! From the addresses of the config to rooms that the account is in: resolving aliases, joining, staying joined.

mod changes;
pub(crate) mod entry;
mod join;
pub(crate) mod kinds;
mod list;
pub(crate) mod observed;
pub(crate) mod power;
mod report;
pub(crate) mod room_api;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use matrix_sdk::{
    Client,
    ruma::{OwnedRoomId, RoomId},
    sync::RoomUpdates,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use self::{
    changes::MembershipChanges,
    entry::{FIRST_PAUSE, FailedJoin, RoomEntry, Trigger},
    join::join_room,
    kinds::RoomKinds,
    list::{RoomList, RoomSlot},
    observed::ObservedRooms,
    room_api::RoomApi,
};
use super::{context::Context, encryption::room_keys::encrypted_rooms, session::mode::OpenSession};
use crate::{
    delivery::{BoxFuture, RoomChanges},
    model::{Reason, ResolvedRoom, RoomAddress, SendError},
};

/// How often to check whether a room is due for an attempt.
const ROUND: Duration = Duration::from_secs(5);
/// How long the first round waits for the first sync, which reports the rooms that are joined already.
const FIRST_SYNC_TIMEOUT: Duration = Duration::from_secs(10);
/// How often to ask the homeserver which rooms the account is in.
const MEMBERSHIP_CHECK: Duration = Duration::from_secs(15);

/// Stores where an address leads for the next start.
pub type SaveResolvedRoom =
    Arc<dyn Fn(RoomAddress, ResolvedRoom) -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

/// Gets the account into its rooms and keeps it there.
pub(crate) struct Rooms {
    context: Arc<Context>,
    list: RoomList,
    save: SaveResolvedRoom,
    /// Whether a sync has succeeded on the present connection.
    synced: watch::Receiver<bool>,
    changes: MembershipChanges,
    observed: ObservedRooms,
    pub kinds: RoomKinds,
    /// Starts the next round early.
    wake: Notify,
}

impl Rooms {
    pub fn new(
        context: &Arc<Context>,
        resolved: HashMap<RoomAddress, ResolvedRoom>,
        save: SaveResolvedRoom,
        synced: watch::Receiver<bool>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            list: RoomList::new(resolved),
            save,
            synced,
            changes: MembershipChanges::default(),
            observed: ObservedRooms::default(),
            kinds: RoomKinds::default(),
            wake: Notify::new(),
        }
    }

    /// Replaces the rooms of the config and what it says about aliases. The account enters new rooms at once, and does not
    /// leave those that are gone.
    pub fn serve(&self, rooms: &[RoomAddress], aliases: &BTreeMap<RoomAddress, RoomAddress>) {
        self.list.serve(rooms, aliases);
        for (address, resolved) in self.list.resolved() {
            report::resolved(&self.context, &address, &resolved);
        }
        self.wake.notify_one();
    }

    pub fn served(&self) -> Vec<RoomAddress> {
        self.list.served()
    }

    /// Keeps what a sync reports of the rooms.
    pub fn observe(&self, updates: &RoomUpdates) {
        self.observed.observe(updates);
        if self.changes.observe(updates) {
            self.wake.notify_one();
        }
    }

    /// What syncs have reported of the room since the last call.
    pub fn take_observed(&self, address: &RoomAddress) -> RoomChanges {
        self.observed.take(address)
    }

    /// Whether they have reported anything.
    pub fn has_observed(&self, address: &RoomAddress) -> bool {
        self.observed.has_changes(address)
    }

    /// The room behind an address, once it was entered.
    pub fn id_of(&self, address: &RoomAddress) -> Option<OwnedRoomId> {
        self.observed.id_of(address)
    }

    /// Whether a sync has succeeded on the present connection.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Returns when the account has entered the room after a failure.
    pub async fn entered(&self, address: &RoomAddress) {
        self.list.slot(address).entered.notified().await;
    }

    /// Enters every configured room, and enters those again that were lost. Never returns.
    pub async fn keep_entered(&self, open: &OpenSession, client: &Client) {
        let mut synced = self.synced.clone();
        let _ = timeout(FIRST_SYNC_TIMEOUT, synced.wait_for(|synced| *synced)).await;
        let mut checked = Instant::now();
        loop {
            self.changes.apply(&self.list.slots()).await;
            if let Ok(room_api) = RoomApi::new(&self.context, open) {
                if checked.elapsed() > MEMBERSHIP_CHECK && encrypted_rooms(client).next().is_none() {
                    self.find_lost(room_api).await;
                    checked = Instant::now();
                }
                for address in &self.list.served() {
                    // The entry keeps a failure for the lane's next send to report.
                    if let Ok(id) = self.enter(room_api, address, Trigger::Round).await
                        && let Some(room) = client.get_room(&id)
                        && !room.encryption_state().is_unknown()
                    {
                        self.kinds.note(address, room.encryption_state().is_encrypted());
                    }
                }
            }
            let _ = timeout(ROUND, self.wake.notified()).await;
        }
    }

    /// Asks which rooms the account is in: syncs without members do not report that it was removed from one. If the
    /// homeserver does not answer, the next send finds out.
    async fn find_lost(&self, room_api: RoomApi<'_>) {
        let Ok(joined) = room_api.token_api.joined_rooms().await else { return };
        for address in &self.list.served() {
            let slot = self.list.slot(address);
            let mut entry = slot.entry.lock().await;
            let current = entry.resolved.as_ref().and_then(|resolved| RoomId::parse(resolved.current()).ok());
            // A room that was joined after the answer is checked once more, and found to be joined.
            if current.is_some_and(|id| room_api.is_joined(&id) && !joined.contains(&id)) {
                entry.lost = true;
            }
        }
    }

    /// Records that the homeserver refused a send to a room that the account seemed to be in.
    pub async fn mark_refused(&self, address: &RoomAddress) {
        self.list.slot(address).entry.lock().await.mark_refused(address);
    }

    /// Returns the room behind an address, and enters it if the account is not there.
    pub async fn enter(
        &self,
        room_api: RoomApi<'_>,
        address: &RoomAddress,
        trigger: Trigger,
    ) -> Result<OwnedRoomId, SendError> {
        let slot = self.list.slot(address);
        let mut entry = slot.entry.lock().await;
        if let Some(id) = already_in(room_api, &entry, trigger).await {
            self.note_entered(address, &slot, &mut entry, &id);
            return Ok(id);
        }
        if let Some(failed) = &entry.failed
            && failed.holds(trigger, Instant::now())
        {
            report::not_joined(&self.context, address, failed);
            return Err(failed.error.clone());
        }
        // Before the first sync the account may well be in the room already.
        let may_join = room_api.client.is_none() || trigger == Trigger::Round || *self.synced.borrow();
        let entered = join_room(room_api, address, &mut entry, may_join).await;
        match &entered {
            Err(error) if !may_join && error.reason == Reason::NotReady => {}
            Ok(id) => {
                if entry.logged.as_ref() != Some(id) {
                    tracing::info!(room = %address, room_id = %id, "entered the room");
                    entry.logged = Some(id.clone());
                }
                self.store_resolved(address, &mut entry).await;
                self.note_entered(address, &slot, &mut entry, id);
            }
            Err(error) => {
                let failed = FailedJoin::after(entry.failed.take(), error, address);
                report::not_joined(&self.context, address, &failed);
                entry.failed = Some(failed);
                entry.logged = None;
            }
        }
        entered
    }

    fn note_entered(&self, address: &RoomAddress, slot: &RoomSlot, entry: &mut RoomEntry, id: &RoomId) {
        report::entered(&self.context, address, entry);
        self.observed.set_room(address, id);
        if entry.failed.take().is_some() {
            slot.entered.notify_one();
        }
    }

    /// Stores where an address leads, and reports an upgrade.
    async fn store_resolved(&self, address: &RoomAddress, entry: &mut RoomEntry) {
        let Some(resolved) = entry.resolved.clone().filter(|resolved| entry.stored.as_ref() != Some(resolved)) else {
            return;
        };
        report::resolved(&self.context, address, &resolved);
        self.list.set_resolved(address, &resolved);
        match (self.save)(address.clone(), resolved.clone()).await {
            Ok(()) => entry.stored = Some(resolved),
            Err(error) => {
                tracing::warn!(room = %address, error = format!("{error:#}"), "cannot store the room's id");
            }
        }
    }
}

/// The room, if there is nothing to resolve or to join.
async fn already_in(room_api: RoomApi<'_>, entry: &RoomEntry, trigger: Trigger) -> Option<OwnedRoomId> {
    let id = RoomId::parse(entry.resolved.as_ref()?.current()).ok()?;
    // A directory that does not answer need not block a room that the account is in: it is asked again later.
    let tried_recently = entry.alias_tried.is_some_and(|at| at.elapsed() < FIRST_PAUSE);
    let known = !entry.lost && (entry.alias_resolved || (tried_recently && entry.failed.is_none()));
    if !known || !(room_api.is_joined(&id) || (room_api.client.is_none() && entry.joined)) {
        return None;
    }
    // Without syncs this is a request, which only the rounds make.
    let look = room_api.client.is_some() || trigger == Trigger::Round;
    let next = if look { room_api.successor(&id).await.ok().flatten() } else { None };
    (next.is_none() || next == entry.rejected_successor).then_some(id)
}
