//! Turns what people do in rooms into acts, and commits these together with the place up to which a room was read.
//!
//! The SDK moves its sync token before anybody has looked at the events. So what was looked at is remembered here, and
//! what was missed is read from there: at a start, and after a sync that left events out.

mod decide;
mod places;
mod undecryptable;
mod unplaced;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{
    decide::{Asks, Decider},
    places::{Held, Place},
    undecryptable::Undecryptable,
    unplaced::Unplaced,
};
use super::{answers::lists::routes_of, context::ActContext};
use crate::{
    model::{ActArgs, ActKind, RoomAddress, RoomEvent, RoomEventContent, RoomEvents, Timestamp, TxnId},
    pacing::{Backoff, Growth, SayOnce},
    render::{answer::Answer, answer_content},
    store::{ActAnswer, Heard, NewAct, StoreError},
};

/// How often a place is stored if nothing was asked.
const STORE_EVERY: Duration = Duration::from_secs(30);
/// While something waits, and while nothing does.
const TICK: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(30);
/// While the homeserver does not give a room's events.
const BEHIND: Growth = Growth { first: Duration::from_secs(2), last: Duration::from_mins(1) };
/// How long before it became known a room may have been acted from.
const GRACE: Duration = Duration::from_secs(10);
/// Events that are remembered as looked at: a read-back brings some of those that a sync brought.
const SEEN: usize = 4_000;

/// The task that reads rooms.
pub struct Listener {
    context: ActContext,
    places: HashMap<String, Place>,
    undecryptable: Undecryptable,
    unplaced: Unplaced,
    seen: Seen,
    started_at: Timestamp,
    fault: SayOnce,
}

impl Listener {
    #[must_use]
    pub fn new(context: ActContext) -> Self {
        let started_at = context.clock.now();
        Self {
            context,
            started_at,
            places: HashMap::new(),
            undecryptable: Undecryptable::default(),
            unplaced: Unplaced::default(),
            seen: Seen::default(),
            fault: SayOnce::default(),
        }
    }

    /// Reads what was missed, then what comes, until `stop`.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<RoomEvents>, stop: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        while let Err(error) = self.start().await {
            self.complain(&error);
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(backoff.pause()) => {}
            }
        }
        let mut tick_at = Instant::now() + IDLE;
        loop {
            // Rooms that are never quiet must not put it off.
            tick_at = tick_at.min(Instant::now() + if self.is_idle() { IDLE } else { TICK });
            tokio::select! {
                () = stop.cancelled() => break,
                events = inbox.recv() => match events {
                    Some(events) => self.hear_at_last(events, &stop).await,
                    None => break,
                },
                () = sleep_until(tick_at) => {
                    tick_at = Instant::now() + IDLE;
                    if let Err(error) = self.tick().await {
                        self.complain(&error);
                    }
                }
            }
        }
        match self.store_places(Duration::ZERO).await {
            Ok(()) | Err(StoreError::NotLeader) => {}
            Err(error) => tracing::warn!(%error, "last room positions not stored"),
        }
    }

    /// Has each room read from where it was left.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn start(&mut self) -> Result<(), StoreError> {
        let settings = (self.context.settings)();
        let resolved: HashMap<_, _> = self.context.store.resolved_rooms().await?.into_iter().collect();
        for (room, _) in settings.config.rooms() {
            if routes_of(&settings, &room).is_empty() {
                continue;
            }
            let id = resolved.get(&room).map(|room| room.current().to_owned());
            let Some(id) = id.or_else(|| (!room.is_alias()).then(|| room.as_str().to_owned())) else { continue };
            self.open(&room, &id).await?;
        }
        Ok(())
    }

    /// Finds out up to where a room was looked at. From one that never was, people may act from now on.
    async fn open(&mut self, room: &RoomAddress, room_id: &str) -> Result<(), StoreError> {
        let place = if let Some((position, at)) = self.context.store.room_position(room_id).await? {
            Place::left_at(room.clone(), position, at)
        } else {
            let (position, room_id) = (Some(String::new()), room_id.to_owned());
            self.context.store.commit_acts(Heard { room_id, position, ..Heard::default() }).await?;
            // What was said a moment ago may be what made the room known.
            Place::fresh(room.clone(), self.context.clock.now().minus(GRACE).max(self.started_at))
        };
        self.places.insert(room_id.to_owned(), place);
        Ok(())
    }

    /// Events must not be lost because the store is away for a moment.
    async fn hear_at_last(&mut self, events: RoomEvents, stop: &CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        loop {
            match self.hear(events.clone()).await {
                Ok(()) => {
                    if self.fault.clear() {
                        tracing::info!("commands are taken again");
                    }
                    return;
                }
                Err(error) => self.complain(&error),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(backoff.pause()) => {}
            }
        }
    }

    fn complain(&mut self, error: &StoreError) {
        // The listener of the replica that leads reads on from the place that is stored.
        if !matches!(error, StoreError::NotLeader) && self.fault.should_log(&error.to_string()) {
            tracing::warn!(%error, "commands cannot be stored; will retry");
        }
    }

    fn is_idle(&self) -> bool {
        self.undecryptable.is_empty() && self.unplaced.is_empty() && self.places.values().all(Place::is_settled)
    }

    /// What a sync brought of one room.
    ///
    /// # Errors
    /// When the store does not answer; then nothing of it counts as looked at.
    pub async fn hear(&mut self, events: RoomEvents) -> Result<(), StoreError> {
        if routes_of(&(self.context.settings)(), &events.room).is_empty() {
            return Ok(());
        }
        if !self.places.contains_key(&events.room_id) {
            self.open(&events.room, &events.room_id).await?;
        }
        if events.gap
            && let Some(place) = self.places.get_mut(&events.room_id)
        {
            place.fall_behind();
        }
        self.catch_up(&events.room_id).await?;
        // What was said before comes first, if it can be decided by now.
        self.place_again(self.context.clock.now()).await?;
        self.look_at(events).await
    }

    /// What is to be done by now: rooms that could not be read, events that lacked their keys or what they are about, places
    /// to be stored.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn tick(&mut self) -> Result<(), StoreError> {
        let now = self.context.clock.now();
        // First, since the homeserver may be slow to do the rest.
        self.place_again(now).await?;
        let behind: Vec<String> =
            self.places.iter().filter(|(_, place)| place.is_to_be_read(now)).map(|(id, _)| id.clone()).collect();
        for room_id in behind {
            self.catch_up(&room_id).await?;
        }
        self.look_again(now).await?;
        self.release();
        self.store_places(STORE_EVERY).await
    }

    /// Reads a room from where it was left, if it has to be.
    async fn catch_up(&mut self, room_id: &str) -> Result<(), StoreError> {
        let now = self.context.clock.now();
        let Some(place) = self.places.get_mut(room_id).filter(|place| place.is_to_be_read(now)) else { return Ok(()) };
        let Some(position) = place.position().map(ToOwned::to_owned) else {
            place.caught_up();
            return Ok(());
        };
        let room = place.room.clone();
        match self.context.rooms.read_since(&room, &position).await {
            Ok(mut read) => {
                // The id that the place is known by: an alias may have come to stand for another room.
                if read.room_id != room_id {
                    place.caught_up();
                    return Ok(());
                }
                let was_cut = std::mem::take(&mut read.gap);
                let last = read.events.last().map(|event| event.event_id.clone());
                self.look_at_all(read, true).await?;
                // Without a place, reading ends at a bound.
                if was_cut && !position.is_empty() {
                    self.say_cut(room_id, &room, &last.unwrap_or(position)).await?;
                }
            }
            Err(error) => {
                tracing::debug!(%room, ?error, "missed events of a room not read; will retry");
                place.try_again(now, BEHIND);
            }
        }
        Ok(())
    }

    async fn look_at(&mut self, events: RoomEvents) -> Result<(), StoreError> {
        self.look_at_all(events, false).await
    }

    /// Commits what events ask for. `catches_up`: nothing is missing before them or between.
    async fn look_at_all(&mut self, events: RoomEvents, catches_up: bool) -> Result<(), StoreError> {
        let settings = (self.context.settings)();
        let RoomEvents { room, room_id, is_encrypted, events, .. } = events;
        let now = self.context.clock.now();
        let Some(mut place) = self.places.get(&room_id).cloned() else { return Ok(()) };
        let decider =
            Decider { context: &self.context, settings: &settings, room: &room, is_encrypted, now, is_last: false };
        let mut heard = Heard { room_id: room_id.clone(), ..Heard::default() };
        let (mut last, mut held): (Option<String>, Option<Held>) = (None, None);
        let mut new = Vec::with_capacity(events.len());
        for event in &events {
            if !place.is_before(event.age, now) && !self.seen.contains(&event.event_id) {
                if event.content == RoomEventContent::Undecryptable {
                    self.undecryptable.add(&room, &room_id, event, now);
                    held.get_or_insert_with(|| Held(last.clone()));
                } else {
                    // What waited and is taken back asks for nothing.
                    if let RoomEventContent::Redaction { target } = &event.content {
                        self.unplaced.remove(target);
                    }
                    let known = |target: &str| heard.acts.iter().any(|act| act.event_id == target);
                    match decider.decide(event, known).await? {
                        Asks::Nothing => {}
                        Asks::NotKnownYet => {
                            self.unplaced.add(&room, &room_id, is_encrypted, event, now);
                            held.get_or_insert_with(|| Held(last.clone()));
                        }
                        Asks::For(act) => heard.acts.push(*act),
                        Asks::Undoing(redacted) => heard.redactions.push(redacted),
                    }
                }
                new.push(event.event_id.clone());
            } else if self.undecryptable.waits_for(&event.event_id) || self.unplaced.waits_for(&event.event_id) {
                held.get_or_insert_with(|| Held(last.clone()));
            }
            last = Some(event.event_id.clone());
        }
        // The place moves only once all of it is committed.
        if catches_up {
            place.caught_up();
        }
        place.move_to(last, held);
        let asks = !heard.acts.is_empty() || !heard.redactions.is_empty();
        if asks || place.is_to_be_stored(now, STORE_EVERY) {
            heard.position = place.to_be_stored();
            if self.context.store.commit_acts(heard.clone()).await? > 0 {
                self.context.asked.send_modify(|asked| *asked += 1);
            }
            place.stored(heard.position, now);
        }
        self.places.insert(room_id, place);
        self.seen.extend(new);
        Ok(())
    }

    /// Tries the events that lacked their keys.
    async fn look_again(&mut self, now: Timestamp) -> Result<(), StoreError> {
        for waiting in self.undecryptable.due(now) {
            let found = self.context.rooms.event(&waiting.room, &waiting.event_id).await;
            match found {
                Ok(Some(event)) if event.content != RoomEventContent::Undecryptable => {
                    self.seen.remove(&waiting.event_id);
                    self.look_at_one(&waiting.room, &waiting.room_id, true, event, false).await?;
                    self.undecryptable.remove(&waiting.event_id);
                }
                _ if self.undecryptable.is_over(&waiting, now) => {
                    if self.undecryptable.may_say(&waiting, now) {
                        self.say_undecryptable(&waiting).await?;
                    }
                    self.undecryptable.remove(&waiting.event_id);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Tries the events of which it was not known whether they are about one of ours.
    async fn place_again(&mut self, now: Timestamp) -> Result<(), StoreError> {
        for waiting in self.unplaced.all() {
            let (event, is_last) = (waiting.aged(now), waiting.is_over(now));
            let (room, room_id) = (&waiting.room, &waiting.room_id);
            if self.look_at_one(room, room_id, waiting.is_encrypted, event, is_last).await? {
                self.unplaced.remove(&waiting.event.event_id);
            }
        }
        Ok(())
    }

    /// Places may go on where nothing waits any more.
    fn release(&mut self) {
        for (room_id, place) in &mut self.places {
            if !self.undecryptable.waits_in(room_id) && !self.unplaced.waits_in(room_id) {
                place.release();
            }
        }
    }

    /// Commits what an event asks for that had to wait. Returns whether that is known now.
    async fn look_at_one(
        &mut self,
        room: &RoomAddress,
        room_id: &str,
        is_encrypted: bool,
        event: RoomEvent,
        is_last: bool,
    ) -> Result<bool, StoreError> {
        let settings = (self.context.settings)();
        let now = self.context.clock.now();
        let decider = Decider { context: &self.context, settings: &settings, room, is_encrypted, now, is_last };
        let mut heard = Heard { room_id: room_id.to_owned(), ..Heard::default() };
        match decider.decide(&event, |_| false).await? {
            Asks::Nothing => return Ok(true),
            Asks::NotKnownYet => {
                self.unplaced.add(room, room_id, is_encrypted, &event, now);
                return Ok(false);
            }
            Asks::For(act) => heard.acts.push(*act),
            Asks::Undoing(redacted) => heard.redactions.push(redacted),
        }
        self.commit(heard).await?;
        Ok(true)
    }

    async fn commit(&self, heard: Heard) -> Result<(), StoreError> {
        if self.context.store.commit_acts(heard).await? > 0 {
            self.context.asked.send_modify(|asked| *asked += 1);
        }
        Ok(())
    }

    async fn say_undecryptable(&self, waiting: &undecryptable::Waiting) -> Result<(), StoreError> {
        let settings = (self.context.settings)();
        let Some(route) = routes_of(&settings, &waiting.room).into_iter().next() else { return Ok(()) };
        let act = NewAct {
            event_id: waiting.event_id.clone(),
            megolm: None,
            route,
            room: waiting.room.clone(),
            sender: waiting.sender.clone(),
            kind: ActKind::Unknown,
            incident: None,
            card: None,
            args: ActArgs {
                refusal: Some("This message cannot be decrypted here; if it was a command, send it again".to_owned()),
                ..ActArgs::default()
            },
            not_before: None,
        };
        self.commit(Heard { room_id: waiting.room_id.clone(), acts: vec![act], ..Heard::default() }).await
    }

    /// More was missed than is read.
    async fn say_cut(&self, room_id: &str, room: &RoomAddress, last: &str) -> Result<(), StoreError> {
        let settings = (self.context.settings)();
        let Some(route) = routes_of(&settings, room).into_iter().next() else { return Ok(()) };
        tracing::warn!(%room, room_id, "not all missed events of a room were read");
        let answer =
            Answer::new("ℹ️", "Not all messages of the last time were read here; repeat commands without an answer");
        let txn_id = TxnId(ulid::Ulid::new().to_string());
        let content = answer_content(&answer.message(), None, &txn_id, None);
        let act = NewAct {
            event_id: format!("{last}#cut"),
            megolm: None,
            route,
            room: room.clone(),
            sender: settings.config.matrix.user_id.clone(),
            kind: ActKind::Unknown,
            incident: None,
            card: None,
            args: ActArgs::default(),
            not_before: None,
        };
        self.context
            .store
            .commit_notice(act, ActAnswer { txn_id, event_type: "m.room.message", content })
            .await
            .map(drop)
    }

    async fn store_places(&mut self, every: Duration) -> Result<(), StoreError> {
        let now = self.context.clock.now();
        for (room_id, place) in &mut self.places {
            if place.is_to_be_stored(now, every) {
                let position = place.to_be_stored();
                let heard = Heard { room_id: room_id.clone(), position: position.clone(), ..Heard::default() };
                self.context.store.commit_acts(heard).await?;
                place.stored(position, now);
            }
        }
        Ok(())
    }
}

/// The last events that were looked at.
#[derive(Debug, Default)]
struct Seen {
    order: VecDeque<String>,
    ids: HashSet<String>,
}

impl Seen {
    fn contains(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    fn remove(&mut self, id: &str) {
        self.ids.remove(id);
    }

    fn extend(&mut self, ids: Vec<String>) {
        for id in ids {
            if self.ids.insert(id.clone()) {
                self.order.push_back(id);
            }
        }
        while self.order.len() > SEEN {
            if let Some(id) = self.order.pop_front() {
                self.ids.remove(&id);
            }
        }
    }
}
