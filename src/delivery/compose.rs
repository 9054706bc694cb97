//! Turns a card's state into the op that brings its room up to date. Pure: ids and time are passed in.

use std::borrow::Cow;

use crate::{
    config::{Config, Escalation, MAX_MENTIONS_BYTES, Mentions, Route, Updates},
    metrics::Metrics,
    model::{
        AlertState, Card, CardKind, CardState, Form, Incident, IncidentId, IncidentState, Note, NoteKind, OpKind,
        RoomAddress, Timestamp, TxnId,
    },
    render::{
        self, BrokenLink, Envelope, MessageKind, Relation, Rendered, Request, Style, Superseded, templates::Fallback,
    },
    store::{NewOp, Snapshot},
};

/// All that does not depend on the card.
pub struct ComposeInput<'a> {
    pub config: &'a Config,
    pub style: &'a Style,
    pub now: Timestamp,
    /// The wall clock's time, for the times in the text.
    pub wall: Timestamp,
    pub txn_id: TxnId,
    pub device: Option<String>,
    pub form: Form,
}

/// The result of composing a card's next event.
#[derive(Debug)]
pub enum Composed {
    /// With what its rendering had to leave out: templates that failed, and links that are broken.
    Op { op: Box<NewOp>, fallbacks: Vec<Fallback>, broken_links: Vec<BrokenLink> },
    /// A digest that is not in the room yet holds more than fits: these belong on a further one.
    Overfull(Vec<IncidentId>),
    /// The changes up to this revision are not worth a message.
    Silent(i64),
    /// There is nothing left to show or say.
    Nothing,
}

/// Whether changes of the card are posted as messages (`updates = "post"`), neither as edits nor as replies.
pub fn posts_updates(snapshot: &Snapshot, config: &Config) -> bool {
    // Its last edit is an edit even then.
    if snapshot.card.state == CardState::Unrouted || snapshot.rerouted_to.is_some() {
        return false;
    }
    let first = snapshot.incidents.first();
    first.and_then(|(incident, _)| route_of(incident, config)).is_some_and(|route| route.updates == Updates::Post)
}

/// Composes the next op of this kind for the card.
pub fn compose(kind: OpKind, snapshot: &Snapshot, input: ComposeInput<'_>) -> Composed {
    let Some((first, _)) = snapshot.incidents.first() else { return Composed::Nothing };
    let kind = match kind {
        OpKind::Reply if posts_updates(snapshot, input.config) => OpKind::Post,
        // The next message shows what has no note.
        OpKind::Edit if posts_updates(snapshot, input.config) => return Composed::Silent(snapshot.rev()),
        kind => kind,
    };
    let notes = match kind {
        // The first event says all there is to say, but mentions nobody who is called later.
        OpKind::Card => snapshot.notes.iter().filter(|note| note.kind != NoteKind::Escalation).collect(),
        OpKind::Post => snapshot.notes.iter().collect(),
        OpKind::Reply => notes_to_say(&snapshot.notes),
        OpKind::Edit | OpKind::Notice => Vec::new(),
    };
    let speaks_of_notes = matches!(kind, OpKind::Reply | OpKind::Post);
    if speaks_of_notes && notes.is_empty() {
        return Composed::Nothing;
    }
    let spoken = notes.last().filter(|_| speaks_of_notes);
    let (content, rendered) = match content_of(kind, snapshot, &notes, &input) {
        Content::Fits(content, rendered) => (content, rendered),
        Content::Overfull(rest) => return Composed::Overfull(rest),
        Content::Nothing => return Composed::Nothing,
    };
    let op = NewOp {
        content,
        card: snapshot.card.id.clone(),
        room: snapshot.card.room.clone(),
        kind,
        rev: snapshot.rev(),
        last_edit: kind == OpKind::Edit && snapshot.card.state.owes_last_edit(),
        form: input.form,
        speaks: kind != OpKind::Edit,
        since: since_of(kind, snapshot, &notes, input.now),
        notification: spoken.map_or(&first.notification, |note| &note.notification).clone(),
        incident: spoken.map_or(&first.id, |note| &note.incident).clone(),
        notes: notes.iter().map(|note| note.id).collect(),
        alert: only_alert(kind, &notes),
        first_try: input.now,
        txn_id: input.txn_id,
        device: input.device,
    };
    let Rendered { fallbacks, broken_links, .. } = rendered;
    Composed::Op { op: Box::new(op), fallbacks, broken_links }
}

/// Counts the links that a card or an edit of it leaves out.
pub fn count_broken_links(broken_links: &[BrokenLink], metrics: &Metrics) {
    for broken in broken_links {
        metrics.broken_links.with_label_values(&[broken.link, broken.reason]).inc();
    }
}

/// Composes one notice for many cards that turn green together, in place of a notice for each.
pub fn compose_green(green: &[(Incident, Note)], room: &RoomAddress, input: ComposeInput<'_>) -> Option<NewOp> {
    let (first, note) = green.first()?;
    let incidents: Vec<&Incident> = green.iter().map(|(incident, _)| incident).collect();
    let request = request(MessageKind::GreenNotice, CardKind::Incident, &incidents, &[], &input);
    let message = render::render(input.style, &request).message;
    let envelope = Envelope { op: &input.txn_id, incident: &first.id, notice: true, mentions: None };
    Some(NewOp {
        content: render::card_content(&message, &envelope),
        card: note.card.clone(),
        room: room.clone(),
        kind: OpKind::Notice,
        rev: 0,
        last_edit: false,
        form: input.form,
        speaks: true,
        since: green.iter().map(|(_, note)| note.at).min().unwrap_or(input.now),
        notification: note.notification.clone(),
        incident: first.id.clone(),
        notes: green.iter().map(|(_, note)| note.id).collect(),
        alert: None,
        first_try: input.now,
        txn_id: input.txn_id,
        device: input.device,
    })
}

/// The notes that are no longer true: after an outage they would only repeat the past.
pub fn void_notes(snapshot: &Snapshot, config: &Config) -> Vec<i64> {
    let holds = |note: &&Note| {
        let incident = snapshot.incidents.iter().map(|(incident, _)| incident).find(|i| i.id == note.incident);
        incident.is_some_and(|incident| still_holds(note, incident, config))
    };
    snapshot.notes.iter().filter(|note| !holds(note)).map(|note| note.id).collect()
}

fn still_holds(note: &Note, incident: &Incident, config: &Config) -> bool {
    let any = |state| {
        incident.alerts.iter().any(|alert| alert.state == state && note.args.fingerprints.contains(&alert.fingerprint))
    };
    match note.kind {
        NoteKind::NewFiring | NoteKind::Back | NoteKind::Again => any(AlertState::Firing),
        NoteKind::PartlyResolved => any(AlertState::Resolved) && incident.state != IncidentState::Resolved,
        NoteKind::Resolved => incident.state == IncidentState::Resolved,
        NoteKind::Reminder => incident.state == IncidentState::Firing,
        NoteKind::Escalation => {
            incident.taken.is_empty()
                && step_of(note, incident, config)
                    .is_some_and(|step| incident.alerts.iter().any(|alert| step.concerns(alert, &config.display)))
        }
    }
}

/// The entry of `routes.X.escalate` by which a note calls; `None`: the config no longer has it.
fn step_of<'a>(note: &Note, incident: &Incident, config: &'a Config) -> Option<&'a Escalation> {
    route_of(incident, config)?.escalate.get(note.args.step?)
}

/// The notes for one event: all that notify, or all that do not, whichever the oldest note does.
fn notes_to_say(notes: &[Note]) -> Vec<&Note> {
    let Some(first) = notes.first() else { return Vec::new() };
    notes.iter().filter(|note| note.kind.notifies() == first.kind.notifies()).collect()
}

enum Content {
    Fits(String, Rendered),
    Overfull(Vec<IncidentId>),
    Nothing,
}

fn content_of(kind: OpKind, snapshot: &Snapshot, notes: &[&Note], input: &ComposeInput<'_>) -> Content {
    let incidents: Vec<&Incident> = snapshot.incidents.iter().map(|(incident, _)| incident).collect();
    let Some(first) = incidents.first() else { return Content::Nothing };
    let card = &snapshot.card;
    let envelope = |notice, mentions| Envelope { op: &input.txn_id, incident: &first.id, notice, mentions };
    let mut loud = incidents.iter().filter(|incident| !incident.doc.quiet);
    let notice = loud.clone().all(|incident| incident.state != IncidentState::Firing);
    let whom = loud.find_map(|incident| mentions_for(route_of(incident, input.config), incident.severity));
    let (root, root_at) = (card.root_event.as_deref(), card.root_at);
    let quiet = notes.iter().all(|note| !note.kind.notifies());
    let news = incidents.iter().find_map(|incident| {
        let severity = severity_of_notes(incident, notes, input.config)?;
        mentions_for(route_of(incident, input.config), severity)
    });
    let called = called_by(notes, &incidents, input.config);
    let whom_of_news = match (called, news) {
        (Some(called), news) => Some(Cow::Owned(and(called, news))),
        (None, news) => news.map(Cow::Borrowed),
    };
    let render = |message_kind| {
        // Times in the card's thread leave out the day of its root event.
        let root_at = root_at.filter(|_| matches!(kind, OpKind::Edit | OpKind::Reply));
        let request = request(message_kind, card.kind, &incidents, notes, input);
        render::render(input.style, &Request { root_at, ..request })
    };
    match (kind, root) {
        (OpKind::Card, _) => {
            let shown = render(MessageKind::Card { must_hold_all: false });
            if !shown.left_out.is_empty() {
                return Content::Overfull(shown.left_out);
            }
            let envelope = envelope(notice, whom.filter(|_| !notice));
            Content::Fits(render::card_content(&shown.message, &envelope), shown)
        }
        (OpKind::Edit, Some(root)) if card.state == CardState::Unrouted => {
            let why = match snapshot.rerouted_to.as_deref() {
                Some(route) => Superseded::Moved { route, to: None },
                None => Superseded::Unrouted,
            };
            let shown = render(MessageKind::Superseded(why));
            Content::Fits(render::edit_content(&shown.message, root, &envelope(true, None)), shown)
        }
        (OpKind::Edit, Some(root)) if card.superseded_by.is_some() => {
            let Some(next) = snapshot.continued.as_deref() else { return Content::Nothing };
            let to = render::permalink(snapshot.continued_in.as_deref().unwrap_or(card.room.as_str()), next);
            let why = match snapshot.rerouted_to.as_deref() {
                Some(route) => Superseded::Moved { route, to: Some(&to) },
                None => Superseded::Continued { to: &to },
            };
            let shown = render(MessageKind::Superseded(why));
            Content::Fits(render::edit_content(&shown.message, root, &envelope(true, None)), shown)
        }
        (OpKind::Edit, Some(root)) => {
            let shown = render(MessageKind::Card { must_hold_all: true });
            Content::Fits(render::edit_content(&shown.message, root, &envelope(notice, whom)), shown)
        }
        (OpKind::Reply, Some(root)) => {
            let said = render(MessageKind::Reply);
            let relation = relation_of(card, route_of(first, input.config));
            let content =
                render::reply_content(&said.message, root, relation, &envelope(quiet, whom_of_news.as_deref()));
            Content::Fits(content, said)
        }
        (OpKind::Post, _) => {
            let posted = render(MessageKind::Post);
            Content::Fits(render::card_content(&posted.message, &envelope(quiet, whom_of_news.as_deref())), posted)
        }
        (OpKind::Edit | OpKind::Reply, None) | (OpKind::Notice, _) => Content::Nothing,
    }
}

fn request<'a>(
    kind: MessageKind<'a>,
    card: CardKind,
    incidents: &'a [&'a Incident],
    notes: &'a [&'a Note],
    input: &ComposeInput<'_>,
) -> Request<'a> {
    Request { kind, card, incidents, notes, root_at: None, now: input.wall, form: input.form }
}

fn route_of<'a>(incident: &Incident, config: &'a Config) -> Option<&'a Route> {
    config.routes.get(&incident.key.route)
}

fn relation_of<'a>(card: &'a Card, route: Option<&Route>) -> Relation<'a> {
    if route.is_none_or(|route| route.updates != Updates::Reply) {
        Relation::Thread { last_reply: card.last_reply.as_deref() }
    } else {
        Relation::Reply
    }
}

/// The mentions of an event of this severity.
#[must_use]
pub fn mentions_for(route: Option<&Route>, severity: u32) -> Option<&Mentions> {
    route.map(|route| &route.mentions).filter(|mentions| mentions.min_severity.is_some_and(|min| severity <= min))
}

/// All whom these notes call; `None`: they call nobody.
fn called_by(notes: &[&Note], incidents: &[&Incident], config: &Config) -> Option<Mentions> {
    let calls = notes.iter().filter(|note| note.kind == NoteKind::Escalation).filter_map(|note| {
        let incident = incidents.iter().find(|incident| incident.id == note.incident)?;
        step_of(note, incident, config)
    });
    calls.fold(None, |all: Option<Mentions>, step| {
        let of_step = Mentions { min_severity: None, users: step.users.clone(), room: step.room };
        let nobody = Mentions { min_severity: None, users: Vec::new(), room: false };
        Some(and(all.unwrap_or(nobody), Some(&of_step)))
    })
}

/// Both together, as far as an event has room for the users.
fn and(mut all: Mentions, others: Option<&Mentions>) -> Mentions {
    let mut bytes: usize = all.users.iter().map(String::len).sum();
    for user in others.iter().flat_map(|others| &others.users) {
        if !all.users.contains(user) && bytes + user.len() <= MAX_MENTIONS_BYTES {
            bytes += user.len();
            all.users.push(user.clone());
        }
    }
    all.room |= others.is_some_and(|others| others.room);
    all
}

/// The severity of the most severe alert in these notes; `None`: no note of a kind that mentions anybody.
fn severity_of_notes(incident: &Incident, notes: &[&Note], config: &Config) -> Option<u32> {
    let mentioning = notes.iter().filter(|note| note.kind.mentions() && note.incident == incident.id);
    let named = |fingerprint: &str| {
        mentioning.clone().any(|note| note.args.fingerprints.iter().any(|known| known == fingerprint))
    };
    incident
        .alerts
        .iter()
        .filter(|alert| alert.state == AlertState::Firing && named(&alert.fingerprint))
        .map(|alert| config.display.rank(alert.doc.labels.get("severity").map(String::as_str)))
        .min()
}

/// The alert that a reply is about, if all its notes are about the same one: a command that answers the reply means that
/// alert. A note that names none is about the whole incident.
fn only_alert(kind: OpKind, notes: &[&Note]) -> Option<String> {
    let first = notes.first()?.args.fingerprints.first()?;
    let is_alone = |note: &&Note| matches!(note.args.fingerprints.as_slice(), [only] if only == first);
    (kind == OpKind::Reply && notes.iter().all(is_alone)).then(|| first.clone())
}

/// When the oldest change was accepted that this op shows.
fn since_of(kind: OpKind, snapshot: &Snapshot, notes: &[&Note], now: Timestamp) -> Timestamp {
    let said = if kind == OpKind::Reply { notes.iter().map(|note| note.at).min() } else { None };
    said.or(snapshot.card.dirty_since).unwrap_or(now)
}
