//! From the addresses of the config to rooms that the account is in: resolving aliases, joining, staying joined.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use matrix_sdk::{
    Client, OwnedServerName, Room, RoomState, ServerName,
    ruma::{OwnedRoomId, RoomAliasId, RoomId},
    sync::RoomUpdates,
};
use tokio::{
    sync::{Mutex, Notify},
    time::{Instant, sleep, timeout},
};

use super::{Account, errors, lock, sight::Sights};
use crate::{
    delivery::{Reason, SendError},
    model::RoomAddress,
};

/// A room is not tried more often than this, whoever asks.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const MAX_PAUSE: Duration = Duration::from_mins(5);
/// How often is looked whether a room is due for a try.
const ROUND: Duration = Duration::from_secs(5);
/// The first sync tells which rooms are joined already; the wait for it is not endless.
const FIRST_SYNC: Duration = Duration::from_secs(10);

pub(super) struct Rooms {
    seats: HashMap<RoomAddress, Arc<Mutex<Seat>>>,
    /// Rooms that the last sync told something about: an invitation, or that we are out.
    news: std::sync::Mutex<Vec<OwnedRoomId>>,
    wake: Notify,
    pub(super) sights: Sights,
}

/// What is known of one address.
struct Seat {
    /// The room behind an alias as last resolved; for an id the id itself.
    id: Option<OwnedRoomId>,
    /// The last try to get in failed.
    failed: Option<Failed>,
}

struct Failed {
    at: Instant,
    pause: Duration,
    /// Something happened since that makes another try worth while at once.
    news: bool,
    error: SendError,
}

impl Failed {
    fn new(error: &SendError, pause: Duration) -> Self {
        Self { at: Instant::now(), pause, news: false, error: error.clone() }
    }

    /// After one more failure: a room that refuses is asked ever less often, and that is logged when it is news.
    fn again(before: Option<Self>, error: &SendError, address: &RoomAddress) -> Self {
        if error.reason != Reason::RoomRefused {
            // The account's or the homeserver's fault, which others report.
            return Self::new(error, FIRST_PAUSE);
        }
        if before.as_ref().is_none_or(|before| before.error.detail != error.detail) {
            tracing::warn!(room = %address, reason = error.reason.as_str(), "cannot join the room: {}", error.detail);
        }
        let grown = before.map_or(FIRST_PAUSE, |before| (before.pause * 2).min(MAX_PAUSE));
        Self::new(error, error.retry_after.map_or(grown, |asked| asked.max(FIRST_PAUSE)))
    }

    /// Whether it is too early for another try. A send is held back only by the room's own refusal: it would pass
    /// on a fault of the homeserver that may be long over.
    fn holds(&self, visit: Visit, now: Instant) -> bool {
        let pause = match visit {
            Visit::Round => self.pause,
            Visit::Send if self.error.reason == Reason::RoomRefused => FIRST_PAUSE,
            Visit::Send => Duration::ZERO,
        };
        !self.news && now.duration_since(self.at) < pause
    }
}

/// Who wants a room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    /// The account, on its own schedule.
    Round,
    /// A send that waits for it.
    Send,
}

impl Rooms {
    pub fn new(rooms: &[RoomAddress]) -> Self {
        let seat = |room: &RoomAddress| Seat { id: RoomId::parse(room.as_str()).ok(), failed: None };
        let seats = rooms.iter().map(|room| (room.clone(), Arc::new(Mutex::new(seat(room))))).collect();
        Self { seats, news: std::sync::Mutex::default(), wake: Notify::new(), sights: Sights::default() }
    }

    /// Takes from a sync what makes a try to join worth while at once.
    pub fn heed(&self, updates: &RoomUpdates) {
        self.sights.heed(updates);
        let ids: Vec<OwnedRoomId> = updates.invited.keys().chain(updates.left.keys()).cloned().collect();
        if !ids.is_empty() {
            // Invitations to foreign rooms land here too, so the list is bounded by being taken whole.
            *lock(&self.news) = ids;
            self.wake.notify_one();
        }
    }

    async fn take_news(&self) {
        let ids = std::mem::take(&mut *lock(&self.news));
        if ids.is_empty() {
            return;
        }
        for seat in self.seats.values() {
            let mut seat = seat.lock().await;
            if seat.id.as_ref().is_some_and(|id| ids.contains(id))
                && let Some(failed) = &mut seat.failed
            {
                failed.news = true;
            }
        }
    }
}

impl Account {
    /// Gets into every configured room and back into those that are lost. Never returns.
    pub(super) async fn keep_rooms(&self, client: &Client) {
        let first_sync = async {
            while !self.synced.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(100)).await;
            }
        };
        let _ = timeout(FIRST_SYNC, first_sync).await;
        loop {
            self.rooms.take_news().await;
            for address in &self.setup.rooms {
                // Kept in the seat for the lane's next send to tell.
                let _ = self.enter(client, address, Visit::Round).await;
            }
            let _ = timeout(ROUND, self.rooms.wake.notified()).await;
        }
    }

    /// The room behind an address, for a send.
    pub(super) async fn room(&self, client: &Client, address: &RoomAddress) -> Result<Room, SendError> {
        self.enter(client, address, Visit::Send).await
    }

    /// The homeserver refused a send to a room that we thought we were in.
    pub(super) async fn room_refused(&self, address: &RoomAddress, error: &SendError) {
        let Some(seat) = self.rooms.seats.get(address) else { return };
        // An alias may point to another room by now; an id is what it is, and the next sync tells whether we are out.
        if address.is_alias() {
            let mut seat = seat.lock().await;
            seat.id = None;
            seat.failed = Some(Failed::new(error, FIRST_PAUSE));
        }
    }

    async fn enter(&self, client: &Client, address: &RoomAddress, visit: Visit) -> Result<Room, SendError> {
        let Some(seat) = self.rooms.seats.get(address) else {
            return Err(errors::fault(Reason::RoomRefused, format!("{address} is not in the config")));
        };
        let mut seat = seat.lock().await;
        if let Some(room) = seat.id.as_ref().and_then(|id| joined(client, id)) {
            self.rooms.sights.stands_for(address, room.room_id());
            seat.failed = None;
            return Ok(room);
        }
        if let Some(failed) = &seat.failed
            && failed.holds(visit, Instant::now())
        {
            return Err(failed.error.clone());
        }
        // Before the first sync it may well be a room that we are in already.
        let may_join = visit == Visit::Round || self.synced.load(Ordering::Relaxed);
        let entered = enter_now(client, address, &mut seat.id, may_join).await;
        match &entered {
            Err(error) if !may_join && error.reason == Reason::NotReady => {}
            Ok(room) => {
                tracing::info!(room = %address, room_id = %room.room_id(), "in the room");
                self.rooms.sights.stands_for(address, room.room_id());
                seat.failed = None;
            }
            Err(error) => {
                let failed = Failed::again(seat.failed.take(), error, address);
                seat.failed = Some(failed);
            }
        }
        entered
    }
}

fn joined(client: &Client, id: &RoomId) -> Option<Room> {
    client.get_room(id).filter(|room| room.state() == RoomState::Joined)
}

/// Resolves the address and joins unless joined; an invitation is accepted by that.
async fn enter_now(
    client: &Client,
    address: &RoomAddress,
    known: &mut Option<OwnedRoomId>,
    may_join: bool,
) -> Result<Room, SendError> {
    let (id, via) = match (RoomAliasId::parse(address.as_str()), &*known) {
        (Ok(alias), _) => match client.resolve_room_alias(&alias).await {
            Ok(answer) => (answer.room_id, answer.servers),
            // A directory that is out of reach need not keep us out of a room that we are in.
            Err(error) => match by_own_aliases(client, &alias) {
                Some(room) => (room.room_id().to_owned(), Vec::new()),
                None => return Err(errors::http(&error).of_join()),
            },
        },
        (Err(_), Some(id)) => (id.clone(), servers_of(id)),
        (Err(error), None) => {
            return Err(errors::fault(Reason::RoomRefused, format!("{address} is not a room address: {error}")));
        }
    };
    *known = Some(id.clone());
    if let Some(room) = joined(client, &id) {
        return Ok(room);
    }
    if !may_join {
        return Err(errors::fault(Reason::NotReady, "not connected yet: the first sync is under way"));
    }
    client.join_room_by_id_or_alias((&*id).into(), &via).await.map_err(|error| errors::sdk(&error).of_join())
}

fn by_own_aliases(client: &Client, alias: &RoomAliasId) -> Option<Room> {
    let is_it = |room: &Room| {
        room.canonical_alias().is_some_and(|own| own == *alias) || room.alt_aliases().iter().any(|own| own == alias)
    };
    client.joined_rooms().into_iter().find(is_it)
}

/// Where to ask for a room that our homeserver does not know yet. Since room version 12 an id names no server.
fn servers_of(id: &RoomId) -> Vec<OwnedServerName> {
    id.server_name().map(ServerName::to_owned).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_held_back_by_what() {
        let address = RoomAddress::parse("!a:x").unwrap();
        let refused = errors::fault(Reason::RoomRefused, "not joined");
        let held = |failed: &Failed, after: Duration| {
            let now = failed.at + after;
            (failed.holds(Visit::Round, now), failed.holds(Visit::Send, now))
        };
        let first = Failed::again(None, &refused, &address);
        assert_eq!(held(&first, Duration::ZERO), (true, true));
        assert_eq!(held(&first, FIRST_PAUSE), (false, false));
        let mut second = Failed::again(Some(first), &refused, &address);
        assert_eq!(held(&second, FIRST_PAUSE), (true, false));
        assert_eq!(held(&second, FIRST_PAUSE * 2), (false, false));
        second.news = true;
        assert_eq!(held(&second, Duration::ZERO), (false, false));

        let down = Failed::again(Some(second), &errors::fault(Reason::Unreachable, "down"), &address);
        assert_eq!(held(&down, Duration::ZERO), (true, false));
    }
}
