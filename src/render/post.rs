//! What changed as a message of its own (`updates = "post"`): what happened, then the whole card as it is now.

use super::{
    card::{self, view::View},
    message::Message,
    reply::Reply,
    style::Style,
};
use crate::model::{Form, Incident, Note, NoteKind, Timestamp};

/// `form` as for a card; from 2 on it says only what happened.
pub(super) fn post(style: &Style, incident: &Incident, notes: &[&Note], now: Timestamp, form: Form) -> Message {
    if notes.iter().all(|note| note.kind == NoteKind::Resolved) {
        // The card's own first line says just that.
        return card::card(style, incident, None, now, form);
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
    card::stepped_down(&view, form, set, || Message::text_only(reply.line()))
}
