//! A card's state -> the op that brings its room up to date. Pure; ids and time are handed in.

use crate::{
    config::{Config, Mentions, Route, Updates},
    model::{AlertState, Incident, IncidentState, Note, NoteKind, OpKind, Timestamp, TxnId},
    render::{self, Envelope, Message, Relation, Style},
    store::{NewOp, Snapshot},
};

/// The plainest form there is; refused in this one, an op is dead.
pub const PLAINEST: u32 = 2;

/// What does not depend on the card.
pub struct Frame<'a> {
    pub config: &'a Config,
    pub style: &'a Style,
    pub now: Timestamp,
    pub txn_id: TxnId,
    pub device: Option<String>,
    pub plainness: u32,
}

/// The next op of this kind for the card; `None` when there is nothing (left) to show or say.
pub fn compose(kind: OpKind, snapshot: &Snapshot, frame: Frame<'_>) -> Option<NewOp> {
    let (incident, _) = snapshot.incidents.first()?;
    let notes = match kind {
        OpKind::Card => snapshot.notes.iter().collect(),
        OpKind::Reply => notes_to_say(&snapshot.notes),
        OpKind::Edit => Vec::new(),
    };
    if kind == OpKind::Reply && notes.is_empty() {
        return None;
    }
    let route = frame.config.routes.get(&incident.key.route);
    let content = content_of(kind, snapshot, incident, &notes, route, &frame)?;
    let spoken = notes.last().filter(|_| kind == OpKind::Reply);
    Some(NewOp {
        content,
        card: snapshot.card.id.clone(),
        room: snapshot.card.room.clone(),
        kind,
        rev: snapshot.rev(),
        plainness: frame.plainness,
        speaks: kind != OpKind::Edit,
        since: since_of(kind, snapshot, &notes, frame.now),
        notification: spoken.map_or(&incident.notification, |note| &note.notification).clone(),
        incident: incident.id.clone(),
        notes: notes.iter().map(|note| note.id).collect(),
        first_try: frame.now,
        txn_id: frame.txn_id,
        device: frame.device,
    })
}

/// Notes that are no longer true: saying them after an outage would be a replay, not news.
pub fn void_notes(snapshot: &Snapshot) -> Vec<i64> {
    let holds = |note: &&Note| {
        let incident = snapshot.incidents.iter().map(|(incident, _)| incident).find(|i| i.id == note.incident);
        incident.is_some_and(|incident| still_holds(note, incident))
    };
    snapshot.notes.iter().filter(|note| !holds(note)).map(|note| note.id).collect()
}

fn still_holds(note: &Note, incident: &Incident) -> bool {
    let any = |state| {
        incident.alerts.iter().any(|alert| alert.state == state && note.args.fingerprints.contains(&alert.fingerprint))
    };
    match note.kind {
        NoteKind::NewFiring | NoteKind::Back | NoteKind::Again => any(AlertState::Firing),
        NoteKind::PartlyResolved => any(AlertState::Resolved) && incident.state != IncidentState::Resolved,
        NoteKind::Resolved => incident.state == IncidentState::Resolved,
        NoteKind::Reminder => incident.state == IncidentState::Firing,
    }
}

/// What can be said in one event: all that rings, or all that does not, whichever the oldest note is.
fn notes_to_say(notes: &[Note]) -> Vec<&Note> {
    let Some(first) = notes.first() else { return Vec::new() };
    notes.iter().filter(|note| note.kind.notifies() == first.kind.notifies()).collect()
}

fn content_of(
    kind: OpKind,
    snapshot: &Snapshot,
    incident: &Incident,
    notes: &[&Note],
    route: Option<&Route>,
    frame: &Frame<'_>,
) -> Option<String> {
    let root = snapshot.card.root_event.as_deref();
    let card = |root_at| render::card(frame.style, incident, root_at, frame.now, frame.plainness);
    let envelope = |notice, mentions| Envelope { op: &frame.txn_id, incident: &incident.id, notice, mentions };
    let card_mentions = mentions_for(route, incident.severity);
    let notice = incident.state != IncidentState::Firing;
    Some(match kind {
        OpKind::Card => render::card_content(&card(None), &envelope(notice, card_mentions.filter(|_| !notice))),
        // The kind of message stays what the card was first posted as would be; a green card is still its news.
        OpKind::Edit => render::edit_content(&card(snapshot.card.root_at), root?, &envelope(notice, card_mentions)),
        OpKind::Reply => {
            let message: Message =
                render::reply(frame.style, incident, notes, snapshot.card.root_at, frame.now, frame.plainness);
            let quiet = notes.iter().all(|note| !note.kind.notifies());
            let severity = news_severity(incident, notes, frame.config);
            let mentions = severity.and_then(|severity| mentions_for(route, severity));
            let threaded = route.is_none_or(|route| route.updates != Updates::Reply);
            let relation = if threaded {
                Relation::Thread { last_reply: snapshot.card.last_reply.as_deref() }
            } else {
                Relation::Reply
            };
            render::reply_content(&message, root?, relation, &envelope(quiet, mentions))
        }
    })
}

/// Whom an event of this severity mentions.
#[must_use]
pub fn mentions_for(route: Option<&Route>, severity: u32) -> Option<&Mentions> {
    route.map(|route| &route.mentions).filter(|mentions| mentions.min_severity.is_some_and(|min| severity <= min))
}

/// The severity of the most severe alert that a reply brings as news; `None`: no news of a kind that mentions.
fn news_severity(incident: &Incident, notes: &[&Note], config: &Config) -> Option<u32> {
    let news = notes.iter().filter(|note| note.kind.mentions());
    let named =
        |fingerprint: &str| news.clone().any(|note| note.args.fingerprints.iter().any(|known| known == fingerprint));
    incident
        .alerts
        .iter()
        .filter(|alert| alert.state == AlertState::Firing && named(&alert.fingerprint))
        .map(|alert| config.display.rank(alert.doc.labels.get("severity").map(String::as_str)))
        .min()
}

/// The oldest accepted change that this op brings into the room.
fn since_of(kind: OpKind, snapshot: &Snapshot, notes: &[&Note], now: Timestamp) -> Timestamp {
    let said = if kind == OpKind::Reply { notes.iter().map(|note| note.at).min() } else { None };
    said.or(snapshot.card.dirty_since).unwrap_or(now)
}
