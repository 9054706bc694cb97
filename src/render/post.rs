//! What changed as a message of its own (`updates = "post"`): what happened, then the whole card as it is now.

use super::{
    card::{self, view::View},
    message::Message,
    reply::Reply,
    style::Style,
};
use crate::model::{Incident, Note, NoteKind, Timestamp};

/// `plainness` as for a card; from 2 on it says only what happened.
pub(super) fn post(style: &Style, incident: &Incident, notes: &[&Note], now: Timestamp, plainness: u32) -> Message {
    if notes.iter().all(|note| note.kind == NoteKind::Resolved) {
        // The card's own first line says just that.
        return card::card(style, incident, None, now, plainness);
    }
    let mut reply = Reply::new(style, incident, notes, None, now);
    // The card has them.
    reply.links.clear();
    let happened = reply.set();
    let view = View::new(style, incident, None, now);
    let set = |layout| {
        let card = card::set(&view.content(layout));
        Message {
            body: format!("{}\n{}", happened.body, card.body),
            html: format!("{}<br>{}", happened.html, card.html),
        }
    };
    card::stepped_down(&view, plainness, set, || Message::text_only(reply.line()))
}
