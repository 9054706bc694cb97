//! What others do in rooms from which people may act: taken from syncs, read back where something is missing, and looked
//! at once more where it could not be decrypted.
//!
//! The SDK stores its sync token before anybody has seen the events, so nothing here is sure to arrive: `acts/` keeps the
//! place of the last event that it looked at, and reads on from there after a start and after every gap.

mod convert;
mod decrypt;
mod megolm;
pub(crate) mod read;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use matrix_sdk::{
    Client,
    deserialized_responses::{TimelineEvent, TimelineEventKind},
    ruma::{OwnedRoomId, RoomId},
    sync::{RoomUpdates, Timeline},
};
use serde_json::Value;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{sleep, timeout},
};

use self::{
    convert::{Sealed, may_be_command, room_event, trust_of},
    decrypt::Decryption,
};
use crate::{
    config::Config,
    matrix::{api::token_api::TokenApi, context::lock, encryption::upkeep::TrustUpkeep, rooms::Rooms},
    model::{RoomAddress, RoomEvent, RoomEventContent, RoomEvents, Timestamp, Trust},
};

/// Batches that wait for `acts/` at most; what comes beyond is read back later.
const QUEUE: usize = 64;
/// How often to check whether a gap can be reported.
const GAP_CHECK: Duration = Duration::from_secs(1);
/// How long a sync waits for a second look at the commands in it. One that takes longer is looked at again by `acts/`.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// The rooms from which people may act, each with the prefixes of commands.
pub type ActingRooms = BTreeMap<RoomAddress, BTreeSet<String>>;

/// Those that the config names, with the prefixes of all routes that share a room.
#[must_use]
pub fn acting_rooms(config: &Config) -> ActingRooms {
    let mut rooms = ActingRooms::new();
    for route in config.routes.values() {
        let Some(actions) = &route.actions else { continue };
        for room in &route.rooms {
            rooms.entry(room.clone()).or_default().insert(actions.prefix.clone());
        }
    }
    rooms
}

/// Hands what others do to `acts/`.
pub(crate) struct Acting {
    rooms: Mutex<ActingRooms>,
    /// Rooms in which events were left out since the last batch.
    gaps: Mutex<BTreeSet<RoomAddress>>,
    /// To whoever listens; closed while nobody does.
    sender: Mutex<mpsc::Sender<RoomEvents>>,
}

impl Acting {
    pub fn new() -> Self {
        let (sender, _) = mpsc::channel(QUEUE);
        Self { rooms: Mutex::default(), gaps: Mutex::default(), sender: Mutex::new(sender) }
    }

    /// Replaces the rooms. What was said before in one that is new is read back.
    pub fn serve(&self, rooms: ActingRooms) {
        let before = std::mem::replace(&mut *lock(&self.rooms), rooms.clone());
        let mut gaps = lock(&self.gaps);
        gaps.retain(|room| rooms.contains_key(room));
        gaps.extend(rooms.into_keys().filter(|room| !before.contains_key(room)));
    }

    /// The end at which events arrive from now on, and nowhere else. What came before, or comes while nobody listens, is
    /// left out: whoever begins to listen reads rooms back from where they were left.
    pub fn listen(&self) -> mpsc::Receiver<RoomEvents> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        *lock(&self.sender) = sender;
        receiver
    }

    /// Whether people may act from any room.
    pub fn is_on(&self) -> bool {
        !lock(&self.rooms).is_empty()
    }

    fn prefixes(&self, room: &RoomAddress) -> BTreeSet<String> {
        lock(&self.rooms).get(room).cloned().unwrap_or_default()
    }

    /// Earlier syncs left out what was said, or belonged to another session.
    pub fn report_gaps(&self) {
        let rooms: Vec<_> = lock(&self.rooms).keys().cloned().collect();
        lock(&self.gaps).extend(rooms);
    }

    /// Takes what a sync brought, in its order.
    pub async fn take(&self, look: Look<'_>, updates: &RoomUpdates) {
        let served = lock(&self.rooms).clone();
        let mut taken = BTreeSet::new();
        for (address, prefixes) in served {
            let Some(id) = look.rooms.id_of(&address) else {
                // It is entered later; what came until then is read back.
                lock(&self.gaps).insert(address);
                continue;
            };
            // Two addresses may stand for one room.
            let Some(update) = updates.joined.get(&id).filter(|_| taken.insert(id.clone())) else { continue };
            let Some(room) = look.client.get_room(&id) else { continue };
            let events = look.events(&id, &update.timeline, &prefixes).await;
            let is_encrypted = room.encryption_state().is_encrypted();
            let gap = update.timeline.limited;
            if gap || !events.is_empty() {
                self.hand_over(RoomEvents { room: address, room_id: id.to_string(), is_encrypted, events, gap });
            }
        }
    }

    /// Reports gaps in rooms where nothing is said. Never returns.
    pub async fn keep_reporting(&self, client: &Client, rooms: &Rooms) {
        loop {
            sleep(GAP_CHECK).await;
            // Before the first sync nothing can be read back.
            if !rooms.is_synced() {
                continue;
            }
            let waiting: Vec<_> = lock(&self.gaps).iter().cloned().collect();
            for room in waiting {
                let Some(id) = rooms.id_of(&room) else { continue };
                let Some(known) = client.get_room(&id) else { continue };
                let is_encrypted = known.encryption_state().is_encrypted();
                let (room_id, events) = (id.to_string(), Vec::new());
                self.hand_over(RoomEvents { room, room_id, is_encrypted, events, gap: true });
            }
        }
    }

    fn hand_over(&self, mut batch: RoomEvents) {
        let mut gaps = lock(&self.gaps);
        batch.gap |= gaps.remove(&batch.room);
        match lock(&self.sender).try_send(batch) {
            Err(TrySendError::Full(batch)) => {
                if !batch.events.is_empty() {
                    tracing::debug!(room = %batch.room, "events wait for their turn; reading them back later");
                }
                gaps.insert(batch.room);
            }
            // Closed: nobody listens.
            Ok(()) | Err(TrySendError::Closed(_)) => {}
        }
    }
}

/// What a second look at an event takes.
#[derive(Clone, Copy)]
pub(crate) struct Look<'a> {
    pub client: &'a Client,
    pub token_api: TokenApi<'a>,
    pub own: &'a str,
    pub rooms: &'a Rooms,
    pub trust: &'a TrustUpkeep,
    /// What our clock shows.
    pub wall: Timestamp,
}

impl Look<'_> {
    async fn events(&self, id: &OwnedRoomId, timeline: &Timeline, prefixes: &BTreeSet<String>) -> Vec<RoomEvent> {
        let mut events: Vec<RoomEvent> = Vec::new();
        let looking = async {
            for event in &timeline.events {
                let Some(read) = from_sync(event, self.own, self.wall) else { continue };
                events.push(read);
                let Some(last) = events.last_mut() else { continue };
                if matches!(event.kind, TimelineEventKind::Decrypted(_)) && may_be_command(last, prefixes) {
                    // The sync has dropped the ciphertext, without which a replay is not recognised. Unless it is seen
                    // again, it counts as not decrypted, and `acts/` asks for it later.
                    last.content = RoomEventContent::Undecryptable;
                    if let Some(again) = self.again(id, &last.event_id.clone(), prefixes).await {
                        *last = again;
                    }
                }
            }
        };
        if timeout(LOOK_TIMEOUT, looking).await.is_err() {
            let known = events.len();
            let rest = timeline.events.iter().filter_map(|event| from_sync(event, self.own, self.wall)).skip(known);
            events.extend(rest.map(|event| put_off(event, prefixes)));
        }
        events
    }

    async fn again(&self, id: &RoomId, event: &str, prefixes: &BTreeSet<String>) -> Option<RoomEvent> {
        let event = event.try_into().ok()?;
        let json = self.token_api.event(id, event).await.ok().flatten()?;
        let room = self.client.get_room(id)?;
        Decryption::new(&room, self.trust, self.own, prefixes, self.wall).read(&json).await
    }
}

/// A command that could not be looked at again in time.
fn put_off(event: RoomEvent, prefixes: &BTreeSet<String>) -> RoomEvent {
    let is_command = event.trust != Trust::Plain && may_be_command(&event, prefixes);
    let content = if is_command { RoomEventContent::Undecryptable } else { event.content };
    RoomEvent { content, ..event }
}

fn from_sync(event: &TimelineEvent, own: &str, wall: Timestamp) -> Option<RoomEvent> {
    let json = event.raw().deserialize_as_unchecked::<Value>().ok()?;
    let sealed = match &event.kind {
        TimelineEventKind::PlainText { .. } => Sealed::Plain,
        TimelineEventKind::UnableToDecrypt { .. } => Sealed::Unread,
        TimelineEventKind::Decrypted(read) => {
            Sealed::Read { trust: trust_of(&read.encryption_info.verification_state), megolm: None }
        }
    };
    room_event(&json, own, sealed, wall)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> RoomAddress {
        RoomAddress::parse(name).expect("a room")
    }

    fn batch(name: &str) -> RoomEvents {
        let event = RoomEvent {
            event_id: "$1".to_owned(),
            sender: "@a:x".to_owned(),
            age: None,
            trust: Trust::Plain,
            megolm: None,
            content: RoomEventContent::Other,
        };
        RoomEvents { room: room(name), room_id: name.to_owned(), is_encrypted: false, events: vec![event], gap: false }
    }

    fn serving(names: &[&str]) -> ActingRooms {
        names.iter().map(|name| (room(name), BTreeSet::from(["!".to_owned()]))).collect()
    }

    #[test]
    fn what_does_not_fit_is_a_gap_that_the_next_batch_carries() {
        let acting = Acting::new();
        let mut receiver = acting.listen();
        for _ in 0..=QUEUE {
            acting.hand_over(batch("!a:x"));
        }
        for _ in 0..QUEUE {
            assert!(!receiver.try_recv().expect("a batch").gap);
        }
        assert!(receiver.try_recv().is_err(), "it did not fit");
        acting.hand_over(batch("!b:x"));
        assert!(!receiver.try_recv().expect("a batch").gap, "another room");
        acting.hand_over(batch("!a:x"));
        assert!(receiver.try_recv().expect("a batch").gap);
        acting.hand_over(batch("!a:x"));
        assert!(!receiver.try_recv().expect("a batch").gap, "reported once");
    }

    #[test]
    fn events_go_to_whoever_began_to_listen_last() {
        let acting = Acting::new();
        acting.hand_over(batch("!a:x"));
        let mut first = acting.listen();
        acting.hand_over(batch("!a:x"));
        assert!(first.try_recv().is_ok() && first.try_recv().is_err(), "what came before is left out");
        let mut second = acting.listen();
        acting.hand_over(batch("!a:x"));
        assert!(second.try_recv().is_ok() && first.try_recv().is_err());
    }

    #[test]
    fn a_room_that_is_new_begins_with_a_gap() {
        let acting = Acting::new();
        assert!(!acting.is_on());
        acting.serve(serving(&["!a:x"]));
        assert!(acting.is_on());
        let mut receiver = acting.listen();
        let mut gap = |name| {
            acting.hand_over(batch(name));
            receiver.try_recv().expect("a batch").gap
        };
        assert!(gap("!a:x") && !gap("!a:x"));
        acting.serve(serving(&["!a:x", "!b:x"]));
        assert!(!gap("!a:x") && gap("!b:x"));
        acting.report_gaps();
        assert!(gap("!a:x") && gap("!b:x"), "syncs begin again");
        acting.report_gaps();
        acting.serve(serving(&["!b:x"]));
        assert!(!gap("!a:x") && gap("!b:x"), "nobody acts from the first any more");
    }
}
