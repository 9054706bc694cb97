//! A room as a person sees it: every event, edits folded in, threads found.

use std::fmt::Write;

use serde_json::Value;

/// One event of the timeline, as the server returned it.
#[derive(Debug, Clone)]
pub struct RoomEvent {
    pub event_id: String,
    pub sender: String,
    pub event_type: String,
    pub is_state: bool,
    pub origin_server_ts: i64,
    pub redacted: bool,
    pub content: Value,
    /// The whole event.
    pub raw: Value,
}

impl RoomEvent {
    pub fn new(raw: Value) -> Self {
        let text = |key: &str| raw[key].as_str().unwrap_or_default().to_owned();
        Self {
            event_id: text("event_id"),
            sender: text("sender"),
            event_type: text("type"),
            is_state: raw.get("state_key").is_some(),
            origin_server_ts: raw["origin_server_ts"].as_i64().unwrap_or_default(),
            redacted: raw["unsigned"].get("redacted_because").is_some(),
            content: raw["content"].clone(),
            raw,
        }
    }

    fn relates_to(&self) -> Option<&Value> {
        self.content.get("m.relates_to")
    }

    /// The event this one has the relation `rel_type` to.
    pub fn related(&self, rel_type: &str) -> Option<&str> {
        let relation = self.relates_to()?;
        if relation["rel_type"] == rel_type { relation["event_id"].as_str() } else { None }
    }

    /// The event this one answers, also the fallback inside a thread.
    pub fn in_reply_to(&self) -> Option<&str> {
        self.relates_to()?["m.in_reply_to"]["event_id"].as_str()
    }

    fn is_message(&self) -> bool {
        self.event_type == "m.room.message" && !self.is_state
    }
}

/// A message with its newest edit applied.
#[derive(Debug, Clone)]
pub struct Message {
    /// As it was first sent; its id is what relations point to.
    pub event: RoomEvent,
    /// What a client shows: the newest edit's `m.new_content`, or the event's own content.
    pub content: Value,
    /// How many edits it has had.
    pub edits: usize,
}

impl Message {
    pub fn event_id(&self) -> &str {
        &self.event.event_id
    }

    /// `m.text`, `m.notice`, …
    pub fn msgtype(&self) -> &str {
        self.content["msgtype"].as_str().unwrap_or_default()
    }

    pub fn body(&self) -> &str {
        self.content["body"].as_str().unwrap_or_default()
    }

    /// The line that a push notification shows.
    pub fn first_line(&self) -> &str {
        self.body().lines().next().unwrap_or_default()
    }

    /// The lines of which each is about one group: a card's first, those of a digest's list.
    pub fn own_lines(&self) -> impl Iterator<Item = &str> {
        own_lines(self.body())
    }

    pub fn formatted_body(&self) -> &str {
        self.content["formatted_body"].as_str().unwrap_or_default()
    }

    /// The user ids that `m.mentions` names, `@room` for the room; `None` without `m.mentions`.
    pub fn mentions(&self) -> Option<Vec<&str>> {
        mentions(&self.content)
    }

    /// Whether either form of the text has `needle`.
    pub fn has(&self, needle: &str) -> bool {
        self.body().contains(needle) || self.formatted_body().contains(needle)
    }
}

/// See [`Message::own_lines`].
fn own_lines(body: &str) -> impl Iterator<Item = &str> {
    let is_list = body.lines().next().is_some_and(|line| line.contains(" incident"));
    let own = move |(number, line): &(usize, &str)| if is_list { line.starts_with("- ") } else { *number == 0 };
    body.lines().enumerate().filter(own).map(|(_, line)| line)
}

/// The user ids that a content's `m.mentions` names, `@room` for the room; `None` without `m.mentions`.
pub fn mentions(content: &Value) -> Option<Vec<&str>> {
    let mentions = content.get("m.mentions")?;
    let users = mentions["user_ids"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let room = (mentions["room"] == true).then_some("@room");
    Some(users.chain(room).collect())
}

/// Every event of a room, oldest first, and whose cards are meant.
#[derive(Debug, Clone)]
pub struct RoomView {
    pub events: Vec<RoomEvent>,
    /// The user id of the receiver's account.
    pub bot: String,
}

impl RoomView {
    /// The bot's messages that begin something: neither edits nor replies, nor redacted.
    pub fn cards(&self) -> Vec<Message> {
        self.by_bot().filter(|event| event.relates_to().is_none()).map(|event| self.folded(event)).collect()
    }

    /// The one card.
    ///
    /// # Panics
    /// When there is none or there are more, with the room's text.
    pub fn card(&self) -> Message {
        let mut cards = self.cards();
        assert_eq!(cards.len(), 1, "one card, in:\n{}", self.text());
        cards.remove(0)
    }

    /// The cards that name `needle` in either form.
    pub fn cards_with(&self, needle: &str) -> Vec<Message> {
        self.cards().into_iter().filter(|card| card.has(needle)).collect()
    }

    /// The bot's edits of `root`, oldest first.
    pub fn edits_of(&self, root: &str) -> Vec<&RoomEvent> {
        let mut edits: Vec<_> = self.by_bot().filter(|event| event.related("m.replace") == Some(root)).collect();
        // Stable: events of one millisecond stay in the order of the room.
        edits.sort_by_key(|event| event.origin_server_ts);
        edits
    }

    /// The bot's messages in the thread under `root`, edits applied.
    pub fn thread_of(&self, root: &str) -> Vec<Message> {
        self.by_bot().filter(|event| event.related("m.thread") == Some(root)).map(|event| self.folded(event)).collect()
    }

    /// The bot's answers to `root` outside of any thread, edits applied.
    pub fn replies_to(&self, root: &str) -> Vec<Message> {
        let plain = |event: &&RoomEvent| event.relates_to().is_some_and(|relation| relation.get("rel_type").is_none());
        self.by_bot()
            .filter(plain)
            .filter(|event| event.in_reply_to() == Some(root))
            .map(|event| self.folded(event))
            .collect()
    }

    /// All that the bot has sent and nobody has redacted: messages, edits and replies, as they were sent.
    pub fn by_bot(&self) -> impl Iterator<Item = &RoomEvent> {
        self.events.iter().filter(|event| event.sender == self.bot && event.is_message() && !event.redacted)
    }

    /// When `name` first had a line of its own on a card or in a digest, in milliseconds of the homeserver's clock.
    pub fn named_at(&self, name: &str) -> Option<i64> {
        let shown = |event: &RoomEvent| {
            let content = event.content.get("m.new_content").unwrap_or(&event.content);
            let is_card = event.relates_to().is_none() || event.related("m.replace").is_some();
            is_card && own_lines(content["body"].as_str().unwrap_or_default()).any(|line| line.contains(name))
        };
        self.by_bot().filter(|event| shown(event)).map(|event| event.origin_server_ts).min()
    }

    /// An event by its id.
    pub fn event(&self, id: &str) -> Option<&RoomEvent> {
        self.events.iter().find(|event| event.event_id == id)
    }

    fn folded(&self, event: &RoomEvent) -> Message {
        let edits = self.edits_of(&event.event_id);
        let content = match edits.last() {
            Some(newest) => newest.content["m.new_content"].clone(),
            None => event.content.clone(),
        };
        Message { event: event.clone(), content, edits: edits.len() }
    }

    /// The room as a person would read it, with what they would not see in brackets; for failure messages.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for event in &self.events {
            let time = clock_time(event.origin_server_ts);
            let who = event.sender.split(':').next().unwrap_or_default();
            let id = short(&event.event_id);
            let _ = match () {
                () if event.redacted => writeln!(text, "{time} {who} [{id}] (redacted)"),
                () if event.is_message() => writeln!(text, "{time} {who} [{id}] {}", self.line(event)),
                () => writeln!(text, "{time} {who} [{id}] ({})", event.event_type),
            };
        }
        text
    }

    fn line(&self, event: &RoomEvent) -> String {
        let msgtype = event.content["msgtype"].as_str().unwrap_or("no msgtype");
        let body = event.content["body"].as_str().unwrap_or("no body").replace('\n', "\n        ");
        if let Some(root) = event.related("m.replace") {
            return format!("edits [{}]: {msgtype} {body}", short(root));
        }
        let place = event.related("m.thread").map(|root| format!("in the thread of [{}]: ", short(root)));
        let answer = event.in_reply_to().map(|other| format!("answers [{}]: ", short(other)));
        let edits = self.edits_of(&event.event_id);
        let now = edits.last().map(|edit| {
            let body = edit.content["m.new_content"]["body"].as_str().unwrap_or("no body");
            format!("\n     (edited {} times, now: {})", edits.len(), body.replace('\n', "\n        "))
        });
        format!("{}{msgtype} {body}{}", place.or(answer).unwrap_or_default(), now.unwrap_or_default())
    }
}

/// Enough of an event id to tell two apart.
fn short(id: &str) -> String {
    id.chars().take(6).collect()
}

fn clock_time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.strftime("%H:%M:%S%.3f").to_string())
}
