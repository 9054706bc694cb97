//! Text and links that the page shows.

use crate::render::{event::permalink, text};

/// The longest foreign text on the page, in characters.
const MAX_WORDS: usize = 400;

/// Foreign text on one line, cleaned for display.
#[must_use]
pub fn words(raw: &str) -> String {
    text::show(&text::clean(raw), MAX_WORDS)
}

/// The link to an event. `server` is one in the room, for ids that name none.
#[must_use]
pub fn event_link(room: &str, event: &str, server: &str) -> String {
    format!("{}?via={}", permalink(room, event), urlencoding::encode(server))
}

/// The link to a room.
#[must_use]
pub fn room_link(room: &str, server: &str) -> String {
    format!("https://matrix.to/#/{}?via={}", urlencoding::encode(room), urlencoding::encode(server))
}
