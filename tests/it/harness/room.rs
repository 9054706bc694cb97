//! Watching a room as a second user, until it shows what a test waits for.

use std::{fmt, time::Duration};

use serde_json::Value;
use tokio::time::Instant;
use urlencoding::encode;

use super::{Homeserver, NewRoom, RoomEvent, RoomView, User};

/// The most events that Synapse returns at once.
const PAGE: usize = 1000;
/// As many as are compared to see whether there is something new.
const NEWEST: usize = 10;
/// A poll costs the homeserver one request, so not as often as other conditions.
const POLL: Duration = Duration::from_millis(100);

/// A room, read by a user in it from its first event.
#[derive(Debug, Clone)]
pub struct Room {
    pub id: String,
    pub reader: User,
    /// Whose cards the views show.
    pub bot: String,
}

impl Room {
    pub fn new(id: &str, reader: &User, bot: &User) -> Self {
        Self { id: id.to_owned(), reader: reader.clone(), bot: bot.user_id.clone() }
    }

    /// A private room made by `reader`, which `bot` has joined.
    pub async fn with(reader: &User, bot: &User, room: NewRoom) -> Self {
        let id = reader.create_room(room.invite(&[bot])).await;
        bot.join(&id).await;
        Self::new(&id, reader, bot)
    }

    /// Reads the whole room.
    pub async fn view(&self) -> RoomView {
        let mut events: Vec<RoomEvent> = Vec::new();
        let mut from = None;
        loop {
            let page = self.page(PAGE, from.as_deref()).await;
            events.extend(page["chunk"].as_array().into_iter().flatten().cloned().map(RoomEvent::new));
            // Dendrite goes on with tokens beyond the first event.
            match page["end"].as_str().filter(|_| page["chunk"].as_array().is_some_and(|chunk| !chunk.is_empty())) {
                Some(end) => from = Some(end.to_owned()),
                None => break,
            }
        }
        events.reverse();
        RoomView { events, bot: self.bot.clone() }
    }

    /// Newest first.
    async fn page(&self, limit: usize, from: Option<&str>) -> Value {
        let from = from.map(|token| format!("&from={}", encode(token))).unwrap_or_default();
        self.reader.get(&format!("/v3/rooms/{}/messages?dir=b&limit={limit}{from}", encode(&self.id))).await
    }

    /// The ids of the newest events, oldest first. Any change of a room, also a redaction, is a new event; that need not
    /// be the last one where two were sent at the same time.
    async fn newest(&self) -> Vec<String> {
        let page = self.page(NEWEST, None).await;
        let ids = page["chunk"].as_array().into_iter().flatten().rev();
        ids.filter_map(|event| event["event_id"].as_str()).map(str::to_owned).collect()
    }

    /// Waits until the room shows `what`; returns how it then is.
    ///
    /// # Panics
    /// At the deadline, with the room's text.
    pub async fn wait_for(&self, what: &str, deadline: Duration, condition: impl Fn(&RoomView) -> bool) -> RoomView {
        let end = Instant::now() + deadline;
        let mut view = self.view().await;
        while !condition(&view) {
            assert!(Instant::now() < end, "not within {deadline:?}: {what}, in:\n{}", view.text());
            view = self.changed(view, end).await;
        }
        view
    }

    /// Waits until the room shows `what`, then watches that this stays so for `quiet`: no second message, no late edit.
    ///
    /// # Panics
    /// When the condition ends, with the room's text.
    pub async fn assert_settled(&self, what: &str, quiet: Duration, condition: impl Fn(&RoomView) -> bool) -> RoomView {
        let mut view = self.wait_for(what, super::DEADLINE, &condition).await;
        let end = Instant::now() + quiet;
        while Instant::now() < end {
            view = self.changed(view, end).await;
            assert!(condition(&view), "no longer so: {what}, in:\n{}", view.text());
        }
        view
    }

    /// The room after its next event, or as it is at `end`.
    async fn changed(&self, view: RoomView, end: Instant) -> RoomView {
        let known = &view.events[view.events.len().saturating_sub(NEWEST)..];
        let known: Vec<_> = known.iter().map(|event| event.event_id.clone()).collect();
        loop {
            tokio::time::sleep(POLL).await;
            if self.newest().await != known {
                return self.view().await;
            }
            if Instant::now() >= end {
                return view;
            }
        }
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// What most tests begin with: the receiver's account, a person, and a room with both in it.
#[derive(Debug)]
pub struct Scene {
    pub synapse: &'static Homeserver,
    pub bot: User,
    pub sre: User,
    pub room: Room,
    limited: bool,
    pub(super) encrypted: bool,
}

impl Scene {
    /// The bot without rate limits.
    pub async fn new() -> Self {
        let synapse = Homeserver::shared().await;
        let (bot, sre) = (synapse.user("alerts").await, synapse.user("sre").await);
        let room = Room::with(&sre, &bot, NewRoom::named("ops")).await;
        Self { synapse, bot, sre, room, limited: false, encrypted: false }
    }

    /// With an encrypted room.
    pub async fn encrypted() -> Self {
        let mut scene = Self { encrypted: true, ..Self::new().await };
        scene.room = Room::with(&scene.sre, &scene.bot, NewRoom::named("secret ops").encrypted()).await;
        scene
    }

    /// The bot under Synapse's default limits, with its burst of ten messages unused: joining would have taken from it.
    pub async fn limited() -> Self {
        let scene = Self { limited: true, ..Self::new().await };
        scene.synapse.set_ratelimit(&scene.bot, None).await;
        scene
    }

    /// One more room with both in it.
    pub async fn another_room(&self, name: &str) -> Room {
        self.synapse.set_ratelimit(&self.bot, Some((0, 0))).await;
        let room = Room::with(&self.sre, &self.bot, NewRoom::named(name)).await;
        if self.limited {
            self.synapse.set_ratelimit(&self.bot, None).await;
        }
        room
    }
}
