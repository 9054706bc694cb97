//! The one call that renders a message: its words, what became of the operator's templates, and its broken links.

use serde_json::Value as Json;

use super::{
    card::card,
    digest::{green, storm, thread},
    links::alert_links::{BrokenLink, broken_links},
    message::Message,
    post::post,
    reply::Reply,
    style::Style,
    superseded::{self, Superseded},
    templates::{
        set::Fallback,
        view::{CardView, DigestView, EventTimes, ReplyView},
    },
};
use crate::{
    config::TemplateName,
    model::{CardKind, Form, Incident, IncidentId, Note, Timestamp},
};

/// What to render.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub kind: MessageKind<'a>,
    /// Whether the card shows one incident or is a digest of several.
    pub card: CardKind,
    pub incidents: &'a [&'a Incident],
    /// What a reply or a post says; the other kinds ignore them.
    pub notes: &'a [&'a Note],
    /// When the card's first event was frozen; `None` for a message that is not in its thread.
    pub root_at: Option<Timestamp>,
    pub now: Timestamp,
    /// 0 is as meant; each step leaves out more of what a homeserver may refuse, and from 2 on it is a line of text.
    pub form: Form,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind<'a> {
    /// The state of a card. A digest that must hold all counts the incidents that it has no room to name.
    Card { must_hold_all: bool },
    /// A reply in the card's thread.
    Reply,
    /// What changed as a message of its own.
    Post,
    /// The last state of a card that is no longer updated.
    Superseded(Superseded<'a>),
    /// One notice for many cards that turn green together.
    GreenNotice,
}

/// A message, and what went wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub message: Message,
    /// Templates of the operator that failed, so that the built-in ones took their place.
    pub fallbacks: Vec<Fallback>,
    /// Links of a card's alerts that cannot be opened, so that the message leaves them out.
    pub broken_links: Vec<BrokenLink>,
    /// Incidents that need a digest of their own, since this one has no room for them.
    pub left_out: Vec<IncidentId>,
}

/// Renders a message by the operator's templates where there are any, and by the built-in ones where those fail.
#[must_use]
pub fn render(style: &Style, request: &Request<'_>) -> Rendered {
    let (built_in, left_out) = built_in(style, request);
    // Plainer forms are always the built-in ones: they are there for what was refused.
    let (message, fallbacks) = match request.templates().filter(|_| request.form == Form::Full) {
        Some(names) => style.templates.of(request.incidents).apply(names, built_in, || view(style, request)),
        None => (built_in, Vec::new()),
    };
    let broken_links = match request.kind {
        MessageKind::Card { .. } | MessageKind::Superseded(_) => {
            request.incidents.iter().flat_map(|incident| broken_links(style, incident)).collect()
        }
        _ => Vec::new(),
    };
    Rendered { message, fallbacks, broken_links, left_out }
}

/// The message by the built-in templates, and the incidents that it has no room for.
pub(super) fn built_in(style: &Style, request: &Request<'_>) -> (Message, Vec<IncidentId>) {
    let Request { incidents, notes, root_at, now, form, .. } = *request;
    let mut left_out = Vec::new();
    let message = match (request.kind, request.single()) {
        (MessageKind::Card { .. }, Some(incident)) => card(style, incident, root_at, now, form),
        (MessageKind::Card { must_hold_all }, None) => {
            let digest = storm::digest(style, incidents, root_at, now, form, must_hold_all);
            if !must_hold_all && form == Form::Full && !digest.named.is_empty() {
                let ids = incidents.iter().map(|incident| &incident.id);
                left_out = ids.filter(|id| !digest.named.contains(id)).cloned().collect();
            }
            digest.message
        }
        (MessageKind::Post, Some(incident)) => post(style, incident, notes, now, form),
        (MessageKind::Reply | MessageKind::Post, _) => reply(style, request).into_message(form),
        (MessageKind::Superseded(why), _) => superseded::message(style, incidents, why, form),
        (MessageKind::GreenNotice, _) => {
            let notice = green::green_notice(style, incidents, now);
            if form == Form::Full { notice } else { notice.first_line() }
        }
    };
    (message, left_out)
}

/// The variables of the operator's templates for this message.
pub(super) fn view(style: &Style, request: &Request<'_>) -> Json {
    let Request { incidents, notes, root_at, now, .. } = *request;
    let times = EventTimes { root_at, now };
    let view = match (request.kind, request.single()) {
        // A post shows the card as it is now.
        (MessageKind::Card { .. } | MessageKind::Post, Some(incident)) => {
            serde_json::to_value(CardView::new(style, incident, times))
        }
        (MessageKind::Reply | MessageKind::Post, single) => {
            let noted =
                |incident: &&Incident| single.is_some() || notes.iter().any(|note| note.incident == incident.id);
            let noted: Vec<&Incident> = incidents.iter().copied().filter(noted).collect();
            serde_json::to_value(ReplyView::new(style, &noted, &reply(style, request), times))
        }
        _ => {
            let full = storm::in_full(style, incidents, root_at, now);
            serde_json::to_value(DigestView::new(style, incidents, &full, times))
        }
    };
    view.unwrap_or_default()
}

fn reply(style: &Style, request: &Request<'_>) -> Reply {
    let Request { incidents, notes, root_at, now, .. } = *request;
    match request.single() {
        Some(incident) => Reply::new(style, incident, notes, root_at, now),
        None => thread::merged(style, incidents, notes, root_at, now),
    }
}

impl<'a> Request<'a> {
    /// The incident of a card that shows only one.
    fn single(&self) -> Option<&'a Incident> {
        self.incidents.first().copied().filter(|_| self.card == CardKind::Incident)
    }

    /// The operator's templates that give both forms; `None` for a kind that is always built in.
    pub(super) fn templates(&self) -> Option<[TemplateName; 2]> {
        match (self.kind, self.single()) {
            (MessageKind::Card { .. } | MessageKind::Post, Some(_)) => {
                Some([TemplateName::CardHtml, TemplateName::CardText])
            }
            (MessageKind::Card { .. }, None) => Some([TemplateName::DigestHtml, TemplateName::DigestText]),
            (MessageKind::Reply | MessageKind::Post, _) => Some([TemplateName::ReplyHtml, TemplateName::ReplyText]),
            (MessageKind::Superseded(_) | MessageKind::GreenNotice, _) => None,
        }
    }
}
