//! The content of room events, frozen as JSON text.

use serde_json::{Map, Value, json};

use super::message::Message;
use crate::{
    config::Mentions,
    model::{IncidentId, TxnId},
};

/// The key in our events' content by which the receiver recognises them when it reads a room.
pub const CONTENT_KEY: &str = "matrix_alertmanager_receiver";

/// What an event carries besides its text.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    pub op: &'a TxnId,
    pub incident: &'a IncidentId,
    /// `m.notice`, which never notifies, in place of `m.text`.
    pub notice: bool,
    /// Whom the event mentions; `None` mentions nobody.
    pub mentions: Option<&'a Mentions>,
}

/// How a reply refers to its card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation<'a> {
    /// In the card's thread; clients without threads show it as a reply to the newest event in the thread.
    Thread { last_reply: Option<&'a str> },
    /// In the main timeline.
    Reply,
}

/// A card's first event.
#[must_use]
pub fn card_content(message: &Message, envelope: &Envelope<'_>) -> String {
    finish(words(message, envelope.notice, mentions(envelope.mentions)), envelope)
}

/// A newer state of the card whose first event is `root_event`. The edit itself mentions nobody, so that it makes no
/// phone ring; its replacement content mentions the same users as the card.
#[must_use]
pub fn edit_content(message: &Message, root_event: &str, envelope: &Envelope<'_>) -> String {
    let fallback = Message { body: format!("* {}", message.body), html: format!("* {}", message.html) };
    let mut content = words(&fallback, envelope.notice, json!({}));
    let new = words(message, envelope.notice, mentions(envelope.mentions));
    content.insert("m.new_content".to_owned(), Value::Object(new));
    content.insert("m.relates_to".to_owned(), json!({ "rel_type": "m.replace", "event_id": root_event }));
    finish(content, envelope)
}

/// A reply to the card whose first event is `root_event`.
#[must_use]
pub fn reply_content(message: &Message, root_event: &str, relation: Relation<'_>, envelope: &Envelope<'_>) -> String {
    let mut content = words(message, envelope.notice, mentions(envelope.mentions));
    let relates_to = match relation {
        Relation::Thread { last_reply } => in_thread((root_event, last_reply.unwrap_or(root_event))),
        Relation::Reply => json!({ "m.in_reply_to": { "event_id": root_event } }),
    };
    content.insert("m.relates_to".to_owned(), relates_to);
    finish(content, envelope)
}

/// An answer, a notice. `thread`: its root, and the newest of its events that is known; `None`: in the main timeline.
#[must_use]
pub fn answer_content(
    message: &Message,
    thread: Option<(&str, &str)>,
    op: &TxnId,
    incident: Option<&IncidentId>,
) -> String {
    let mut content = words(message, true, json!({}));
    if let Some(thread) = thread {
        content.insert("m.relates_to".to_owned(), in_thread(thread));
    }
    mark(content, op, incident)
}

/// A picture that is uploaded already.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// What it shows, in words, on one line.
    pub alt: &'a str,
    pub filename: &'a str,
    pub mimetype: &'a str,
    pub width: u32,
    pub height: u32,
    pub bytes: usize,
    /// `{"url": …}` or, encrypted, `{"file": …}`.
    pub place: &'a Value,
}

/// An answer that is a picture. `thread`: as in [`answer_content`].
#[must_use]
pub fn image_content(image: &Image<'_>, thread: (&str, &str), op: &TxnId, incident: Option<&IncidentId>) -> String {
    let mut content = image.place.as_object().cloned().unwrap_or_default();
    content.insert("msgtype".to_owned(), "m.image".into());
    content.insert("body".to_owned(), image.alt.into());
    content.insert("filename".to_owned(), image.filename.into());
    let info = json!({ "w": image.width, "h": image.height, "mimetype": image.mimetype, "size": image.bytes });
    content.insert("info".to_owned(), info);
    content.insert("m.mentions".to_owned(), json!({}));
    content.insert("m.relates_to".to_owned(), in_thread(thread));
    mark(content, op, incident)
}

/// The relation of an event in the thread of `root_event`; clients without threads show it as a reply.
fn in_thread((root_event, reply_to): (&str, &str)) -> Value {
    json!({
        "rel_type": "m.thread",
        "event_id": root_event,
        "is_falling_back": true,
        "m.in_reply_to": { "event_id": reply_to },
    })
}

/// A reaction to `event`.
#[must_use]
pub fn reaction_content(event: &str, key: &str, op: &TxnId, incident: Option<&IncidentId>) -> String {
    let mut content = Map::new();
    let relates_to = json!({ "rel_type": "m.annotation", "event_id": event, "key": key });
    content.insert("m.relates_to".to_owned(), relates_to);
    mark(content, op, incident)
}

/// A link that every client opens in place.
#[must_use]
pub fn permalink(room: &str, event: &str) -> String {
    format!("https://matrix.to/#/{}/{}", urlencoding::encode(room), urlencoding::encode(event))
}

/// A link to a user, if it is a user id by the grammar of the specification; a foreign text never becomes a link.
#[must_use]
pub fn user_link(user: &str) -> Option<String> {
    let (local, server) = user.strip_prefix('@')?.split_once(':')?;
    let is_local = local.bytes().all(|b| b.is_ascii_alphanumeric() || b"._=-/+".contains(&b));
    let is_server = server.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b));
    let is_id = is_local && is_server && !local.is_empty() && !server.is_empty() && user.len() <= 255;
    is_id.then(|| format!("https://matrix.to/#/@{}:{server}", urlencoding::encode(local)))
}

fn words(message: &Message, notice: bool, mentions: Value) -> Map<String, Value> {
    let mut content = Map::new();
    content.insert("msgtype".to_owned(), if notice { "m.notice" } else { "m.text" }.into());
    content.insert("body".to_owned(), message.body.as_str().into());
    content.insert("format".to_owned(), "org.matrix.custom.html".into());
    content.insert("formatted_body".to_owned(), message.html.as_str().into());
    content.insert("m.mentions".to_owned(), mentions);
    content
}

/// Always an object, even an empty one: without it, servers fall back to searching the text for names.
fn mentions(mentions: Option<&Mentions>) -> Value {
    let mut value = Map::new();
    if let Some(mentions) = mentions {
        if !mentions.users.is_empty() {
            value.insert("user_ids".to_owned(), json!(mentions.users));
        }
        if mentions.room {
            value.insert("room".to_owned(), true.into());
        }
    }
    Value::Object(value)
}

fn finish(content: Map<String, Value>, envelope: &Envelope<'_>) -> String {
    mark(content, envelope.op, Some(envelope.incident))
}

fn mark(mut content: Map<String, Value>, op: &TxnId, incident: Option<&IncidentId>) -> String {
    let mut key = json!({ "op": op.as_str() });
    if let Some(incident) = incident {
        key["incident"] = incident.as_str().into();
    }
    content.insert(CONTENT_KEY.to_owned(), key);
    Value::Object(content).to_string()
}
