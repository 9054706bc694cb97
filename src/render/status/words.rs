//! Text and links that the page shows.

use crate::render::{event::permalink, text};

/// Longest text of a homeserver or a label that the page shows, in characters.
const MAX_WORDS: usize = 400;

/// What came over the wire, made fit to be shown on one line.
#[must_use]
pub fn words(raw: &str) -> String {
    text::show(&text::clean(raw), MAX_WORDS)
}

/// Where clients find an event. `server` is one that is in the room, for ids that do not name any.
#[must_use]
pub fn event_link(room: &str, event: &str, server: &str) -> String {
    format!("{}?via={}", permalink(room, event), urlencoding::encode(server))
}

/// Where clients find a room.
#[must_use]
pub fn room_link(room: &str, server: &str) -> String {
    format!("https://matrix.to/#/{}?via={}", urlencoding::encode(room), urlencoding::encode(server))
}
