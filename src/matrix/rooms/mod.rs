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
    membership::{FIRST_PAUSE, Failed, Seat, Visit, enter_now},
    observed::Sights,
    requests::Door,
};
use super::{Account, api::errors, lock, session::without_keys::Bare, sync::encrypted_rooms};
use crate::{
    delivery::{Reason, SendError},
    health::Hold,
    model::{Place, RoomAddress},
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
    seats: std::sync::Mutex<HashMap<RoomAddress, Arc<Chair>>>,
    /// What is known of addresses, also of those that the config does not name.
    places: std::sync::Mutex<HashMap<RoomAddress, Place>>,
    /// Rooms that the last sync told something about: an invitation, or that we are out.
    news: std::sync::Mutex<News>,
    wake: Notify,
    pub(super) sights: Sights,
}

/// One address's place among the rooms.
pub(super) struct Chair {
    pub seat: Mutex<Seat>,
    /// Told when a room is entered that could not be.
    entered: Notify,
}

#[derive(Default)]
struct News {
    invited: Vec<OwnedRoomId>,
    left: Vec<OwnedRoomId>,
    /// Invitations that were told of as not ours.
    foreign: BTreeSet<OwnedRoomId>,
}

impl Rooms {
    /// `places`: what earlier runs found out. `pins`: what the operator says about aliases, which counts for more.
    pub fn new(
        rooms: &[RoomAddress],
        places: HashMap<RoomAddress, Place>,
        pins: &BTreeMap<RoomAddress, RoomAddress>,
    ) -> Self {
        let new = Self {
            served: std::sync::Mutex::default(),
            seats: std::sync::Mutex::default(),
            places: std::sync::Mutex::new(places),
            news: std::sync::Mutex::default(),
            wake: Notify::new(),
            sights: Sights::default(),
        };
        new.serve(rooms, pins);
        new
    }

    /// These are the rooms of the config from now on. One that was not among them is looked up anew.
    pub fn serve(&self, rooms: &[RoomAddress], pins: &BTreeMap<RoomAddress, RoomAddress>) {
        let before = std::mem::replace(&mut *lock(&self.served), rooms.to_vec());
        for room in rooms.iter().filter(|room| !before.contains(room)) {
            let chair = self.new_chair(room, pins.get(room));
            lock(&self.seats).insert(room.clone(), chair);
        }
        self.wake.notify_one();
    }

    fn new_chair(&self, room: &RoomAddress, pin: Option<&RoomAddress>) -> Arc<Chair> {
        let kept = lock(&self.places).get(room).cloned();
        let known = match pin {
            Some(pin) => kept
                .clone()
                .filter(|place| place.first == pin.as_str() || place.current() == pin.as_str())
                .or_else(|| Some(Place::new(pin.as_str()))),
            None => kept.clone(),
        };
        Arc::new(Chair { seat: Mutex::new(Seat::new(room, known, kept)), entered: Notify::new() })
    }

    pub fn served(&self) -> Vec<RoomAddress> {
        lock(&self.served).clone()
    }

    /// Also of a room that the config does not name any more: a last edit may be due there.
    pub fn chair(&self, room: &RoomAddress) -> Arc<Chair> {
        if let Some(chair) = lock(&self.seats).get(room) {
            return Arc::clone(chair);
        }
        let chair = self.new_chair(room, None);
        Arc::clone(lock(&self.seats).entry(room.clone()).or_insert(chair))
    }

    pub fn places(&self) -> Vec<(RoomAddress, Place)> {
        lock(&self.places).iter().map(|(room, place)| (room.clone(), place.clone())).collect()
    }

    pub async fn entered(&self, room: &RoomAddress) {
        self.chair(room).entered.notified().await;
    }

    /// The room can be used.
    fn settle(&self, address: &RoomAddress, chair: &Chair, seat: &mut Seat, id: &RoomId) {
        self.sights.stands_for(address, id);
        if seat.failed.take().is_some() {
            chair.entered.notify_one();
        }
    }

    /// Whether the failure is the room's, as opposed to the account's or the homeserver's, of which others tell.
    fn is_own(error: &SendError) -> bool {
        matches!(error.reason, Reason::RoomRefused | Reason::JoinLimited)
    }

    /// Takes from a sync what makes a try to join worth while at once.
    pub fn heed(&self, updates: &RoomUpdates) {
        self.sights.heed(updates);
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

    async fn take_news(&self) {
        let (invited, left) = {
            let mut news = lock(&self.news);
            (std::mem::take(&mut news.invited), std::mem::take(&mut news.left))
        };
        if invited.is_empty() && left.is_empty() {
            return;
        }
        let mut foreign: BTreeSet<_> = invited.iter().cloned().collect();
        let chairs: Vec<Arc<Chair>> = lock(&self.seats).values().cloned().collect();
        for chair in chairs {
            let mut seat = chair.seat.lock().await;
            // Nobody knows yet which room it is.
            let open = seat.place.is_none() && seat.wanted.is_none() && !invited.is_empty();
            if open {
                foreign.clear();
            }
            foreign.retain(|id| !seat.concerns(id));
            if (open || invited.iter().chain(&left).any(|id| seat.concerns(id)))
                && let Some(failed) = &mut seat.failed
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
        for (address, place) in self.rooms.places() {
            self.note_place(&address, &place);
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
            self.rooms.take_news().await;
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
        let Ok(wire) = self.wire() else { return };
        let door = Door { bare: Bare { wire, token: &token }, client: Some(client) };
        let Ok(joined) = door.joined_rooms().await else { return };
        for address in &self.rooms.served() {
            let chair = self.rooms.chair(address);
            let mut seat = chair.seat.lock().await;
            let current = seat.place.as_ref().and_then(|place| RoomId::parse(place.current()).ok());
            // A room that was joined after the answer is asked about once more, and found to be joined.
            if current.is_some_and(|id| door.is_in(&id) && !joined.contains(&id)) {
                seat.lost = true;
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
        let bare = Bare { wire: self.wire()?, token: &token };
        self.enter(Door { bare, client: Some(client) }, address, visit).await
    }

    /// The homeserver refused a send to a room that we thought we were in.
    pub(super) async fn room_refused(&self, address: &RoomAddress) {
        let chair = self.rooms.chair(address);
        let mut seat = chair.seat.lock().await;
        seat.joined = false;
        // The next try asks whether the account is still in the room.
        seat.lost = true;
        // An alias may lead to another room by now.
        if address.is_alias() {
            seat.looked_up = false;
            seat.asked = None;
        }
    }

    pub(super) async fn enter(
        &self,
        door: Door<'_>,
        address: &RoomAddress,
        visit: Visit,
    ) -> Result<OwnedRoomId, SendError> {
        let chair = self.rooms.chair(address);
        let mut seat = chair.seat.lock().await;
        if let Some(id) = self.seated(door, &seat, visit).await {
            self.note_entered(address, &seat);
            self.rooms.settle(address, &chair, &mut seat, &id);
            return Ok(id);
        }
        if let Some(failed) = &seat.failed
            && failed.holds(visit, Instant::now())
        {
            self.note_shut_out(address, &failed.error, failed.pause);
            return Err(failed.error.clone());
        }
        // Before the first sync it may well be a room that we are in already.
        let may_join = door.client.is_none() || visit == Visit::Round || self.synced.load(Ordering::Relaxed);
        let entered = enter_now(door, address, &mut seat, may_join).await;
        match &entered {
            Err(error) if !may_join && error.reason == Reason::NotReady => {}
            Ok(id) => {
                if seat.entered.as_ref() != Some(id) {
                    tracing::info!(room = %address, room_id = %id, "in the room");
                    seat.entered = Some(id.clone());
                }
                self.keep_place(address, &mut seat).await;
                self.note_entered(address, &seat);
                self.rooms.settle(address, &chair, &mut seat, id);
            }
            Err(error) => {
                let failed = Failed::again(seat.failed.take(), error, address);
                self.note_shut_out(address, error, failed.pause);
                seat.failed = Some(failed);
                seat.entered = None;
            }
        }
        entered
    }

    /// The room, if there is nothing to find out or to do.
    async fn seated(&self, door: Door<'_>, seat: &Seat, visit: Visit) -> Option<OwnedRoomId> {
        let id = RoomId::parse(seat.place.as_ref()?.current()).ok()?;
        // A directory that does not answer need not keep us out of a room that we are in: it is asked again later.
        let asked_now = seat.asked.is_some_and(|at| at.elapsed() < FIRST_PAUSE);
        let known = !seat.lost && (seat.looked_up || (asked_now && seat.failed.is_none()));
        if !known || !(door.is_in(&id) || (door.client.is_none() && seat.joined)) {
            return None;
        }
        // Without syncs this is a request, which the rounds are for.
        let look = door.client.is_some() || visit == Visit::Round;
        let next = if look { door.successor(&id).await.ok().flatten() } else { None };
        (next.is_none() || next == seat.ignored).then_some(id)
    }

    /// Stores where an address leads, and tells of an upgrade.
    async fn keep_place(&self, address: &RoomAddress, seat: &mut Seat) {
        let Some(place) = seat.place.clone().filter(|place| seat.kept.as_ref() != Some(place)) else { return };
        self.note_place(address, &place);
        lock(&self.rooms.places).insert(address.clone(), place.clone());
        match (self.setup.save_place)(address.clone(), place.clone()).await {
            Ok(()) => seat.kept = Some(place),
            Err(error) => tracing::warn!(room = %address, "where it leads is not kept: {error:#}"),
        }
    }

    /// For health: the room cannot be entered, whether or not anything is to be sent there. It is tried again after `pause`.
    fn note_shut_out(&self, address: &RoomAddress, error: &SendError, pause: Duration) {
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

    /// For health: what [`Self::note_shut_out`] said is over.
    fn note_entered(&self, address: &RoomAddress, seat: &Seat) {
        if seat.failed.as_ref().is_some_and(|failed| Rooms::is_own(&failed.error)) {
            self.setup.health.update(|health| {
                if let Some(room) = health.rooms.get_mut(address) {
                    room.hold = None;
                }
            });
        }
    }

    /// For health: the room has been replaced.
    pub(super) fn note_place(&self, address: &RoomAddress, place: &Place) {
        let notice = place.successor.as_ref().map(|_| "the room was upgraded: events go to its successor".to_owned());
        self.setup.health.update(|health| {
            if let Some(room) = health.rooms.get_mut(address) {
                room.notice = notice;
            }
        });
    }
}
