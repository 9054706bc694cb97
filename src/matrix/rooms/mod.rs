//! From the addresses of the config to rooms that the account is in: resolving aliases, joining, staying joined.

pub(crate) mod membership;
pub(crate) mod observed;
pub(crate) mod requests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use matrix_sdk::{
    Client, Room,
    ruma::{OwnedRoomId, RoomId},
    sync::RoomUpdates,
};
use tokio::{
    sync::{Mutex, Notify},
    time::{Instant, sleep, timeout},
};

use self::{
    membership::{FIRST_PAUSE, FailedJoin, RoomEntry, Visit, enter_now},
    observed::ObservedRooms,
    requests::RoomApi,
};
use super::{Account, api::errors, lock, session::without_keys::TokenApi, sync::encrypted_rooms};
use crate::{
    health::Hold,
    model::{Reason, ResolvedRoom, RoomAddress, SendError},
};

/// How often is looked whether a room is due for a try.
const ROUND: Duration = Duration::from_secs(5);
/// The first sync tells which rooms are joined already; the wait for it is not endless.
const FIRST_SYNC: Duration = Duration::from_secs(10);

/// How often to ask whether the account is still in its rooms.
const MEMBERSHIP_CHECK: Duration = Duration::from_secs(15);

/// Invitations to rooms that are not configured: as many are told of.
const MAX_FOREIGN: usize = 50;

pub(super) struct Rooms {
    /// Those of the config in force, in its order; the account gets into them by itself.
    served: std::sync::Mutex<Vec<RoomAddress>>,
    slots: std::sync::Mutex<HashMap<RoomAddress, Arc<RoomSlot>>>,
    /// What is known of addresses, also of those that the config does not name.
    resolved: std::sync::Mutex<HashMap<RoomAddress, ResolvedRoom>>,
    /// Rooms that the last sync told something about: an invitation, or that we are out.
    news: std::sync::Mutex<PendingChanges>,
    wake: Notify,
    pub(super) observed: ObservedRooms,
}

/// One address's place among the rooms.
pub(super) struct RoomSlot {
    pub entry: Mutex<RoomEntry>,
    /// Told when a room is entered that could not be.
    entered: Notify,
}

#[derive(Default)]
struct PendingChanges {
    invited: Vec<OwnedRoomId>,
    left: Vec<OwnedRoomId>,
    /// Invitations that were told of as not ours.
    foreign: BTreeSet<OwnedRoomId>,
}

impl Rooms {
    /// `resolved`: what earlier runs found out. `pins`: what the operator says about aliases, which counts for more.
    pub fn new(
        rooms: &[RoomAddress],
        resolved: HashMap<RoomAddress, ResolvedRoom>,
        pins: &BTreeMap<RoomAddress, RoomAddress>,
    ) -> Self {
        let new = Self {
            served: std::sync::Mutex::default(),
            slots: std::sync::Mutex::default(),
            resolved: std::sync::Mutex::new(resolved),
            news: std::sync::Mutex::default(),
            wake: Notify::new(),
            observed: ObservedRooms::default(),
        };
        new.serve(rooms, pins);
        new
    }

    /// These are the rooms of the config from now on. One that was not among them is looked up anew.
    pub fn serve(&self, rooms: &[RoomAddress], pins: &BTreeMap<RoomAddress, RoomAddress>) {
        let before = std::mem::replace(&mut *lock(&self.served), rooms.to_vec());
        for room in rooms.iter().filter(|room| !before.contains(room)) {
            let slot = self.new_slot(room, pins.get(room));
            lock(&self.slots).insert(room.clone(), slot);
        }
        self.wake.notify_one();
    }

    fn new_slot(&self, room: &RoomAddress, pin: Option<&RoomAddress>) -> Arc<RoomSlot> {
        let kept = lock(&self.resolved).get(room).cloned();
        let known = match pin {
            Some(pin) => kept
                .clone()
                .filter(|resolved| resolved.first == pin.as_str() || resolved.current() == pin.as_str())
                .or_else(|| Some(ResolvedRoom::new(pin.as_str()))),
            None => kept.clone(),
        };
        Arc::new(RoomSlot { entry: Mutex::new(RoomEntry::new(room, known, kept)), entered: Notify::new() })
    }

    pub fn served(&self) -> Vec<RoomAddress> {
        lock(&self.served).clone()
    }

    /// Also of a room that the config does not name any more: a last edit may be due there.
    pub fn slot(&self, room: &RoomAddress) -> Arc<RoomSlot> {
        if let Some(slot) = lock(&self.slots).get(room) {
            return Arc::clone(slot);
        }
        let slot = self.new_slot(room, None);
        Arc::clone(lock(&self.slots).entry(room.clone()).or_insert(slot))
    }

    pub fn resolved(&self) -> Vec<(RoomAddress, ResolvedRoom)> {
        lock(&self.resolved).iter().map(|(room, resolved)| (room.clone(), resolved.clone())).collect()
    }

    pub async fn entered(&self, room: &RoomAddress) {
        self.slot(room).entered.notified().await;
    }

    /// The room can be used.
    fn mark_entered(&self, address: &RoomAddress, slot: &RoomSlot, entry: &mut RoomEntry, id: &RoomId) {
        self.observed.set_room(address, id);
        if entry.failed.take().is_some() {
            slot.entered.notify_one();
        }
    }

    /// Whether the failure is the room's, as opposed to the account's or the homeserver's, of which others tell.
    fn is_own(error: &SendError) -> bool {
        matches!(error.reason, Reason::RoomRefused | Reason::JoinLimited)
    }

    /// Takes from a sync what makes a try to join worth while at once.
    pub fn observe(&self, updates: &RoomUpdates) {
        self.observed.observe(updates);
        if updates.invited.is_empty() && updates.left.is_empty() {
            return;
        }
        let mut news = lock(&self.news);
        // Of the last sync only, so that nobody fills the memory with invitations.
        news.invited = updates.invited.keys().cloned().collect();
        news.left = updates.left.keys().cloned().collect();
        drop(news);
        self.wake.notify_one();
    }

    async fn take_changes(&self) {
        let (invited, left) = {
            let mut news = lock(&self.news);
            (std::mem::take(&mut news.invited), std::mem::take(&mut news.left))
        };
        if invited.is_empty() && left.is_empty() {
            return;
        }
        let mut foreign: BTreeSet<_> = invited.iter().cloned().collect();
        let chairs: Vec<Arc<RoomSlot>> = lock(&self.slots).values().cloned().collect();
        for slot in chairs {
            let mut entry = slot.entry.lock().await;
            // Nobody knows yet which room it is.
            let open = entry.resolved.is_none() && entry.wanted.is_none() && !invited.is_empty();
            if open {
                foreign.clear();
            }
            foreign.retain(|id| !entry.concerns(id));
            if (open || invited.iter().chain(&left).any(|id| entry.concerns(id)))
                && let Some(failed) = &mut entry.failed
            {
                failed.news = true;
            }
        }
        let mut news = lock(&self.news);
        for id in foreign {
            if news.foreign.len() < MAX_FOREIGN && news.foreign.insert(id.clone()) {
                tracing::info!(room_id = %id, "invited to a room that is not in the config; left alone");
            }
        }
    }
}

impl Account {
    /// The rooms of the config in force, and what it says about aliases. Those that are new are entered at once; out of
    /// those that are not among them any more the account does not go.
    pub fn serve(&self, rooms: &[RoomAddress], pins: &BTreeMap<RoomAddress, RoomAddress>) {
        self.rooms.serve(rooms, pins);
        for (address, resolved) in self.rooms.resolved() {
            self.note_resolved_room(&address, &resolved);
        }
        // The rounds of a session without keys wait for this one.
        self.wake.notify_one();
    }

    /// Gets into every configured room and back into those that are lost. Never returns.
    pub(super) async fn keep_rooms(&self, client: &Client) {
        let first_sync = async {
            while !self.synced.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(100)).await;
            }
        };
        let _ = timeout(FIRST_SYNC, first_sync).await;
        let mut asked = Instant::now();
        loop {
            self.rooms.take_changes().await;
            if asked.elapsed() > MEMBERSHIP_CHECK && encrypted_rooms(client).next().is_none() {
                self.find_lost_rooms(client).await;
                asked = Instant::now();
            }
            for address in &self.rooms.served() {
                // Kept in the seat for the lane's next send to tell.
                let _ = self.enter_with_keys(client, address, Visit::Round).await;
            }
            let _ = timeout(ROUND, self.rooms.wake.notified()).await;
        }
    }

    /// Asks which rooms the account is in: syncs that leave members out do not report that it was removed from one. Where
    /// the homeserver does not say, the next send finds out.
    async fn find_lost_rooms(&self, client: &Client) {
        let token = client.access_token().unwrap_or_default();
        let Ok(api) = self.api() else { return };
        let room_api = RoomApi { token_api: TokenApi { api, token: &token }, client: Some(client) };
        let Ok(joined) = room_api.joined_rooms().await else { return };
        for address in &self.rooms.served() {
            let slot = self.rooms.slot(address);
            let mut entry = slot.entry.lock().await;
            let current = entry.resolved.as_ref().and_then(|resolved| RoomId::parse(resolved.current()).ok());
            // A room that was joined after the answer is asked about once more, and found to be joined.
            if current.is_some_and(|id| room_api.is_in(&id) && !joined.contains(&id)) {
                entry.lost = true;
            }
        }
    }

    /// The room behind an address, for a send.
    pub(super) async fn room(&self, client: &Client, address: &RoomAddress) -> Result<Room, SendError> {
        let id = self.enter_with_keys(client, address, Visit::Send).await?;
        client.get_room(&id).ok_or_else(|| errors::fault(Reason::NotReady, "not in the room yet"))
    }

    async fn enter_with_keys(
        &self,
        client: &Client,
        address: &RoomAddress,
        visit: Visit,
    ) -> Result<OwnedRoomId, SendError> {
        let token = client.access_token().unwrap_or_default();
        let token_api = TokenApi { api: self.api()?, token: &token };
        self.enter(RoomApi { token_api, client: Some(client) }, address, visit).await
    }

    /// The homeserver refused a send to a room that we thought we were in.
    pub(super) async fn room_refused(&self, address: &RoomAddress) {
        let slot = self.rooms.slot(address);
        let mut entry = slot.entry.lock().await;
        entry.joined = false;
        // The next try asks whether the account is still in the room.
        entry.lost = true;
        // An alias may lead to another room by now.
        if address.is_alias() {
            entry.looked_up = false;
            entry.asked = None;
        }
    }

    pub(super) async fn enter(
        &self,
        room_api: RoomApi<'_>,
        address: &RoomAddress,
        visit: Visit,
    ) -> Result<OwnedRoomId, SendError> {
        let slot = self.rooms.slot(address);
        let mut entry = slot.entry.lock().await;
        if let Some(id) = self.already_in(room_api, &entry, visit).await {
            self.note_entered(address, &entry);
            self.rooms.mark_entered(address, &slot, &mut entry, &id);
            return Ok(id);
        }
        if let Some(failed) = &entry.failed
            && failed.holds(visit, Instant::now())
        {
            self.note_not_joined(address, &failed.error, failed.pause);
            return Err(failed.error.clone());
        }
        // Before the first sync it may well be a room that we are in already.
        let may_join = room_api.client.is_none() || visit == Visit::Round || self.synced.load(Ordering::Relaxed);
        let entered = enter_now(room_api, address, &mut entry, may_join).await;
        match &entered {
            Err(error) if !may_join && error.reason == Reason::NotReady => {}
            Ok(id) => {
                if entry.entered.as_ref() != Some(id) {
                    tracing::info!(room = %address, room_id = %id, "in the room");
                    entry.entered = Some(id.clone());
                }
                self.store_resolved_room(address, &mut entry).await;
                self.note_entered(address, &entry);
                self.rooms.mark_entered(address, &slot, &mut entry, id);
            }
            Err(error) => {
                let failed = FailedJoin::again(entry.failed.take(), error, address);
                self.note_not_joined(address, error, failed.pause);
                entry.failed = Some(failed);
                entry.entered = None;
            }
        }
        entered
    }

    /// The room, if there is nothing to find out or to do.
    async fn already_in(&self, room_api: RoomApi<'_>, entry: &RoomEntry, visit: Visit) -> Option<OwnedRoomId> {
        let id = RoomId::parse(entry.resolved.as_ref()?.current()).ok()?;
        // A directory that does not answer need not keep us out of a room that we are in: it is asked again later.
        let asked_now = entry.asked.is_some_and(|at| at.elapsed() < FIRST_PAUSE);
        let known = !entry.lost && (entry.looked_up || (asked_now && entry.failed.is_none()));
        if !known || !(room_api.is_in(&id) || (room_api.client.is_none() && entry.joined)) {
            return None;
        }
        // Without syncs this is a request, which the rounds are for.
        let look = room_api.client.is_some() || visit == Visit::Round;
        let next = if look { room_api.successor(&id).await.ok().flatten() } else { None };
        (next.is_none() || next == entry.ignored).then_some(id)
    }

    /// Stores where an address leads, and tells of an upgrade.
    async fn store_resolved_room(&self, address: &RoomAddress, entry: &mut RoomEntry) {
        let Some(resolved) = entry.resolved.clone().filter(|resolved| entry.kept.as_ref() != Some(resolved)) else {
            return;
        };
        self.note_resolved_room(address, &resolved);
        lock(&self.rooms.resolved).insert(address.clone(), resolved.clone());
        match (self.setup.save_resolved_room)(address.clone(), resolved.clone()).await {
            Ok(()) => entry.kept = Some(resolved),
            Err(error) => tracing::warn!(room = %address, "where it leads is not kept: {error:#}"),
        }
    }

    /// For health: the room cannot be entered, whether or not anything is to be sent there. It is tried again after `pause`.
    fn note_not_joined(&self, address: &RoomAddress, error: &SendError, pause: Duration) {
        if !Rooms::is_own(error) {
            return;
        }
        let now = self.setup.clock.now();
        self.setup.health.update(|health| {
            if let Some(room) = health.rooms.get_mut(address) {
                let since = room.hold.as_ref().map_or(now, |hold| hold.since);
                let rate_limit = error.reason == Reason::JoinLimited;
                let until = Some(now.plus(pause));
                room.hold = Some(Hold { reason: error.to_string(), rate_limit, since, until });
            }
        });
    }

    /// For health: what [`Self::note_not_joined`] said is over.
    fn note_entered(&self, address: &RoomAddress, entry: &RoomEntry) {
        if entry.failed.as_ref().is_some_and(|failed| Rooms::is_own(&failed.error)) {
            self.setup.health.update(|health| {
                if let Some(room) = health.rooms.get_mut(address) {
                    room.hold = None;
                }
            });
        }
    }

    /// For health: the room has been replaced.
    pub(super) fn note_resolved_room(&self, address: &RoomAddress, resolved: &ResolvedRoom) {
        let notice =
            resolved.successor.as_ref().map(|_| "the room was upgraded: events go to its successor".to_owned());
        self.setup.health.update(|health| {
            if let Some(room) = health.rooms.get_mut(address) {
                room.notice = notice;
            }
        });
    }
}
