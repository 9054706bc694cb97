//! Every kind of message through the one call.

use crate::{
    model::{CardKind, Form, Incident, Note, Timestamp},
    render::{Message, MessageKind, Rendered, Request, Style, Superseded, digest::storm, render},
};

const CARD: MessageKind<'static> = MessageKind::Card { must_hold_all: true };

/// A request for a card of one incident, for the others to change.
fn request<'a>(incidents: &'a [&'a Incident], now: Timestamp) -> Request<'a> {
    Request { kind: CARD, card: CardKind::Incident, incidents, notes: &[], root_at: None, now, form: Form::Full }
}

pub(in crate::render) fn card(
    style: &Style,
    incident: &Incident,
    root_at: Option<Timestamp>,
    now: Timestamp,
    form: Form,
) -> Message {
    render(style, &Request { root_at, form, ..request(&[incident], now) }).message
}

/// The card and what went wrong with it.
pub(in crate::render) fn whole_card(style: &Style, incident: &Incident, now: Timestamp) -> Rendered {
    render(style, &request(&[incident], now))
}

pub(in crate::render) fn digest_card(style: &Style, incidents: &[&Incident], now: Timestamp) -> Rendered {
    render(style, &Request { card: CardKind::Digest, ..request(incidents, now) })
}

/// A digest with the incidents that it names, which the call itself does not return.
pub(super) use storm::digest;

pub(super) fn reply(
    style: &Style,
    incident: &Incident,
    notes: &[&Note],
    root_at: Option<Timestamp>,
    now: Timestamp,
    form: Form,
) -> Message {
    let incidents = [incident];
    let request = Request { kind: MessageKind::Reply, notes, root_at, form, ..request(&incidents, now) };
    render(style, &request).message
}

pub(super) fn digest_reply(
    style: &Style,
    incidents: &[&Incident],
    notes: &[&Note],
    root_at: Option<Timestamp>,
    now: Timestamp,
    form: Form,
) -> Message {
    let request = Request { kind: MessageKind::Reply, card: CardKind::Digest, notes, ..request(incidents, now) };
    render(style, &Request { root_at, form, ..request }).message
}

pub(super) fn green_notice(style: &Style, incidents: &[&Incident], now: Timestamp) -> Message {
    render(style, &Request { kind: MessageKind::GreenNotice, ..request(incidents, now) }).message
}

pub(super) fn superseded(style: &Style, incidents: &[&Incident], why: Superseded<'_>) -> Message {
    let now = Timestamp::default();
    render(style, &Request { kind: MessageKind::Superseded(why), ..request(incidents, now) }).message
}
