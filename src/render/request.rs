//! The one call that renders a message: its words, what became of the operator's templates, and its broken links.

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
    model::{CardKind, Incident, IncidentId, Note, Timestamp},
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
    pub plainness: u32,
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
    let Request { incidents, notes, root_at, now, plainness, .. } = *request;
    let mut left_out = Vec::new();
    let built_in = match (request.kind, request.single()) {
        (MessageKind::Card { .. }, Some(incident)) => card(style, incident, root_at, now, plainness),
        (MessageKind::Card { must_hold_all }, None) => {
            let digest = storm::digest(style, incidents, root_at, now, plainness, must_hold_all);
            if !must_hold_all && plainness == 0 && !digest.named.is_empty() {
                let ids = incidents.iter().map(|incident| &incident.id);
                left_out = ids.filter(|id| !digest.named.contains(id)).cloned().collect();
            }
            digest.message
        }
        (MessageKind::Reply, Some(incident)) => {
            Reply::new(style, incident, notes, root_at, now).into_message(plainness)
        }
        (MessageKind::Post, Some(incident)) => post(style, incident, notes, now, plainness),
        (MessageKind::Reply | MessageKind::Post, None) => {
            thread::merged(style, incidents, notes, root_at, now).into_message(plainness)
        }
        (MessageKind::Superseded(why), _) => superseded::message(style, incidents, why, plainness),
        (MessageKind::GreenNotice, _) => {
            let notice = green::green_notice(style, incidents, now);
            if plainness > 0 { notice.first_line() } else { notice }
        }
    };
    // Plainer forms are always the built-in ones: they are there for what was refused.
    let (message, fallbacks) =
        if plainness == 0 { by_templates(style, request, built_in) } else { (built_in, Vec::new()) };
    let broken_links = match request.kind {
        MessageKind::Card { .. } | MessageKind::Superseded(_) => {
            incidents.iter().flat_map(|incident| broken_links(style, incident)).collect()
        }
        _ => Vec::new(),
    };
    Rendered { message, fallbacks, broken_links, left_out }
}

/// `built_in` with its forms replaced by those that the operator's templates give.
fn by_templates(style: &Style, request: &Request<'_>, built_in: Message) -> (Message, Vec<Fallback>) {
    let Request { incidents, notes, root_at, now, .. } = *request;
    let set = style.templates.of(incidents);
    let times = EventTimes { root_at, now };
    match (request.kind, request.single()) {
        // A post shows the card as it is now.
        (MessageKind::Card { .. } | MessageKind::Post, Some(incident)) => {
            set.apply([TemplateName::CardHtml, TemplateName::CardText], built_in, || {
                CardView::new(style, incident, times)
            })
        }
        (MessageKind::Card { .. }, None) => {
            set.apply([TemplateName::DigestHtml, TemplateName::DigestText], built_in, || {
                let full = storm::in_full(style, incidents, root_at, now);
                DigestView::new(style, incidents, &full, times)
            })
        }
        (MessageKind::Reply, Some(incident)) => {
            set.apply([TemplateName::ReplyHtml, TemplateName::ReplyText], built_in, || {
                ReplyView::new(style, &[incident], &Reply::new(style, incident, notes, root_at, now), times)
            })
        }
        (MessageKind::Reply | MessageKind::Post, None) => {
            set.apply([TemplateName::ReplyHtml, TemplateName::ReplyText], built_in, || {
                let noted = |incident: &&&Incident| notes.iter().any(|note| note.incident == incident.id);
                let noted: Vec<&Incident> = incidents.iter().filter(noted).copied().collect();
                ReplyView::new(style, &noted, &thread::merged(style, incidents, notes, root_at, now), times)
            })
        }
        (MessageKind::Superseded(_) | MessageKind::GreenNotice, _) => (built_in, Vec::new()),
    }
}

impl<'a> Request<'a> {
    /// The incident of a card that shows only one.
    fn single(&self) -> Option<&'a Incident> {
        self.incidents.first().copied().filter(|_| self.card == CardKind::Incident)
    }
}
