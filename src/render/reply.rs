//! A reply in a card's thread: a line for each kind of note, each with the name of the alert, since a phone shows it
//! alone.

use std::time::Duration;

use askama::Template;

use super::{
    card::{
        alert::{CleanAlert, same},
        group::Group,
        headline, lines,
    },
    heartbeat,
    held_back::{self, HeldBack},
    links::{
        alert_links,
        link::{Link, LinkKind},
        logs,
    },
    message::{MAX_LINE, Message},
    places,
    style::Style,
    text,
    time::{self, TimeFormat},
};
use crate::model::{AlertState, Form, Incident, IncidentState, Note, NoteKind, Timestamp};

/// Further places are only counted.
const MAX_PLACES: usize = 3;
const MAX_PLACE: usize = 48;
const MAX_NAME: usize = 48;
const MAX_VALUE: usize = 40;
const MIN_WHAT: usize = 12;
/// The most urgent kind comes first: a phone shows the first line only.
const ORDER: [NoteKind; 7] = [
    NoteKind::Escalation,
    NoteKind::NewFiring,
    NoteKind::Again,
    NoteKind::Back,
    NoteKind::Reminder,
    NoteKind::PartlyResolved,
    NoteKind::Resolved,
];

pub(super) struct Reply {
    /// Never empty.
    pub(super) lines: Vec<ReplyLine>,
    /// How many lines are left out.
    pub(super) more: usize,
    pub(super) links: Vec<Link>,
}

pub(super) struct ReplyLine {
    pub(super) emoji: String,
    pub(super) name: String,
    pub(super) words: String,
    /// The sort key where replies of several incidents are merged, smallest first: what nobody took, then new alerts,
    /// reminders, and resolved ones; within each the severity.
    pub(super) urgency: (u8, u32),
}

impl Reply {
    /// Merges `notes` of one kind into one line each. It describes the present state: an alert that fired and resolved
    /// before the reply could be sent is not called firing.
    pub(super) fn new(
        style: &Style,
        incident: &Incident,
        notes: &[&Note],
        root_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        let group = Group::new(style, incident);
        let writer = Writer { style, group: &group, times: TimeFormat::new(&style.zone, root_at.unwrap_or(now)), now };
        let over =
            incident.state == IncidentState::Resolved && notes.iter().any(|note| note.kind == NoteKind::Resolved);
        let mut lines = Vec::new();
        let mut concerned: Vec<&CleanAlert<'_>> = Vec::new();
        for kind in ORDER {
            let of_kind: Vec<&Note> = notes.iter().filter(|note| note.kind == kind).copied().collect();
            if of_kind.is_empty()
                || (over && kind != NoteKind::Resolved)
                || (kind == NoteKind::Reminder && !lines.is_empty())
            {
                continue;
            }
            let about = writer.about(&of_kind);
            if let Some(mut line) = writer.line(kind, &of_kind, &about) {
                line.urgency = (class(kind), about.iter().map(|seen| seen.rank).min().unwrap_or(u32::MAX));
                lines.push(line);
                if kind.notifies() {
                    concerned.extend(about);
                }
            }
        }
        if lines.is_empty() {
            lines.push(writer.as_it_is());
        }
        concerned.retain(|seen| seen.alert.state == AlertState::Firing);
        Self { lines, more: 0, links: writer.logs(&concerned) }
    }

    /// The first line, which is the push notification.
    pub(super) fn line(&self) -> String {
        self.lines.first().map(|line| format!("{} {}: {}", line.emoji, line.name, line.words)).unwrap_or_default()
    }

    pub(super) fn set(&self) -> Message {
        Message::from_templates(&ReplyHtml { reply: self }, &ReplyText { reply: self }, || self.line())
    }

    /// `Full` is as intended, `Counts` has no links. `OneLine`, and where there are no links to drop, is one line of text:
    /// a refused message is not tried again unchanged.
    pub(super) fn into_message(mut self, form: Form) -> Message {
        let line = Message::text_only(self.line());
        if form == Form::OneLine {
            return line;
        }
        let with_links = Some(self.set()).filter(Message::fits);
        let had_links = !self.links.is_empty();
        self.links.clear();
        match (form, with_links) {
            (Form::Full, Some(message)) => message,
            (Form::Full, None) => self.set(),
            // Without what did not fit anyway it would be the same.
            (_, Some(_)) if had_links => self.set(),
            _ => line,
        }
    }
}

struct Writer<'a> {
    style: &'a Style,
    group: &'a Group<'a>,
    times: TimeFormat<'a>,
    now: Timestamp,
}

impl<'a> Writer<'a> {
    /// The thing of an alert that stands alone; empty where its labels name none.
    fn alone(&self, seen: &CleanAlert<'_>) -> String {
        places::alone(&seen.thing, &self.style.display.places).map(|thing| thing.name).unwrap_or_default()
    }

    /// The alerts that notes of one kind name and that are still in the state of that kind.
    fn about(&self, notes: &[&Note]) -> Vec<&'a CleanAlert<'a>> {
        let whole = notes.iter().any(|note| note.args.fingerprints.is_empty());
        let named = |seen: &&CleanAlert<'_>| {
            whole || notes.iter().any(|note| note.args.fingerprints.contains(&seen.alert.fingerprint))
        };
        let state = match notes[0].kind {
            NoteKind::PartlyResolved | NoteKind::Resolved => AlertState::Resolved,
            _ => AlertState::Firing,
        };
        self.group.in_state(state).filter(named).collect()
    }

    fn line(&self, kind: NoteKind, notes: &[&Note], about: &[&CleanAlert<'_>]) -> Option<ReplyLine> {
        let places = self.places(about);
        let on = if places.is_empty() { String::new() } else { format!(" on {places}") };
        let only_some = about.len() < self.group.incident.total();
        let rank = about.iter().map(|seen| seen.rank).min()?;
        let (emoji, words, what) = match kind {
            NoteKind::NewFiring if about.len() == 1 => (self.style.emoji(rank), format!("new{on}"), true),
            NoteKind::NewFiring if on.is_empty() => (self.style.emoji(rank), format!("{} new", about.len()), true),
            NoteKind::NewFiring => (self.style.emoji(rank), format!("{} new,{on}", about.len()), true),
            NoteKind::Again => {
                let on = if only_some { on } else { String::new() };
                let time = notes.iter().map(|note| note.args.flaps).max().filter(|flaps| *flaps > 0);
                let time =
                    time.map(|flaps| format!(" ({} time)", ordinal(flaps.saturating_add(1)))).unwrap_or_default();
                (self.style.emoji(rank), format!("firing again{on}{time}"), false)
            }
            NoteKind::Back => {
                (self.style.emoji(rank), format!("firing again{on}, was not reported{}", gap(notes)), false)
            }
            NoteKind::Reminder => {
                let on = if about.len() > 1 { format!(" on {}", about.len()) } else { on };
                // What was measured may have moved since the last edit.
                let value = about.first().filter(|_| about.len() == 1).and_then(|seen| seen.value());
                let now = value.map(|value| format!(", now {}", text::show(&value, MAX_VALUE))).unwrap_or_default();
                let since = self.times.minute(self.group.since());
                ("🔁".to_owned(), format!("still firing{on}, since {since}{now}"), false)
            }
            NoteKind::Escalation => {
                let since = self.times.minute(self.group.since());
                (self.style.emoji(rank), format!("nobody took it, firing{on} since {since}"), false)
            }
            NoteKind::PartlyResolved => {
                let took = same(about.iter().map(|seen| self.took(seen))).flatten();
                let took = took.map(|took| format!(" after {took}")).unwrap_or_default();
                let places = if places.is_empty() { format!("{}", about.len()) } else { places };
                ("🟢".to_owned(), format!("{places} resolved{took}"), false)
            }
            NoteKind::Resolved => return Some(self.resolved()),
        };
        let name = heartbeat::title(self.group).unwrap_or_else(|| self.name(about));
        Some(ReplyLine::new(emoji, &name, &words, what.then(|| common_what(about)).flatten()))
    }

    fn title(&self) -> String {
        heartbeat::title(self.group).unwrap_or_else(|| headline::name(self.group))
    }

    fn resolved(&self) -> ReplyLine {
        let (from, to) = self.group.span(self.now);
        let words = format!("resolved after {}", time::words(to.since(from)));
        ReplyLine::new("🟢".to_owned(), &self.title(), &words, None)
    }

    /// The present state, for notes that are no longer true.
    fn as_it_is(&self) -> ReplyLine {
        let incident = self.group.incident;
        let name = self.title();
        let absent = incident.count(AlertState::Absent);
        match self.group.focus {
            AlertState::Firing => {
                let emoji = self.style.emoji(self.group.rank());
                ReplyLine::new(emoji, &name, &format!("{} firing", incident.count(AlertState::Firing)), None)
            }
            AlertState::Gone => ReplyLine::new("⚪".to_owned(), &name, "no longer in Alertmanager", None),
            AlertState::Absent => {
                let word = held_back::counted(incident);
                let shared = held_back::shared_words(incident, &self.times);
                let words = match absent {
                    _ if HeldBack::all(incident).is_some() && !shared.is_empty() => shared,
                    1 => word.to_owned(),
                    _ => format!("{absent} {word}"),
                };
                ReplyLine::new("🔕".to_owned(), &name, &words, None)
            }
            AlertState::Resolved if self.group.alerts.is_empty() || incident.state.is_open() => {
                ReplyLine::new("⚪".to_owned(), &name, "all listed are resolved", None)
            }
            AlertState::Resolved => self.resolved(),
        }
    }

    /// The name that these alerts share, else that of the card.
    fn name(&self, about: &[&CleanAlert<'_>]) -> String {
        let shared = same(about.iter().map(|seen| seen.label("alertname"))).flatten();
        shared.map_or_else(|| headline::name(self.group), |name| text::show(name, MAX_NAME))
    }

    /// `a, b and c`; empty where no label distinguishes the alerts.
    fn places(&self, about: &[&CleanAlert<'_>]) -> String {
        let one_name = same(about.iter().map(|seen| seen.label("alertname"))).is_some();
        let place = |seen: &&CleanAlert<'_>| {
            let place = if self.group.incident.total() == 1 {
                self.alone(seen)
            } else if one_name {
                self.group.place(seen)
            } else {
                let (name, place) = lines::name_and_place(self.group, seen);
                format!("{name} {place}").trim_end().to_owned()
            };
            text::cut(&place, MAX_PLACE)
        };
        let places: Vec<String> = about.iter().take(MAX_PLACES).map(place).filter(|place| !place.is_empty()).collect();
        let Some((last, others)) = places.split_last() else { return String::new() };
        match (others, about.len() - places.len()) {
            ([], 0) => last.clone(),
            (others, 0) => format!("{} and {last}", others.join(", ")),
            (_, more) => format!("{} and {more} more", places.join(", ")),
        }
    }

    fn took(&self, seen: &CleanAlert<'_>) -> Option<String> {
        seen.alert.ends_at.map(|ended| lines::duration(self.group, seen, ended))
    }

    /// One link if the alerts share it, else one for each of the first few.
    fn logs(&self, about: &[&CleanAlert<'_>]) -> Vec<Link> {
        let of =
            |seen: &CleanAlert<'_>| alert_links::of_kind(self.style, self.group.incident, seen.alert, LinkKind::Logs);
        if let Some(shared) = same(about.iter().map(|seen| of(seen))) {
            let range = self.group.range_of(about.iter().copied());
            return shared.map(|link| logs::in_time(link, range)).into_iter().collect();
        }
        let named = about.iter().filter_map(|seen| {
            let (name, place) = lines::name_and_place(self.group, seen);
            let label = format!("Logs {name} {place}");
            let link = Link { label: text::cut(label.trim_end(), MAX_PLACE), ..of(seen)? };
            Some(logs::in_time(link, self.group.range_of(std::iter::once(*seen))))
        });
        named.take(MAX_PLACES).collect()
    }
}

impl ReplyLine {
    /// A line that fits a phone; it drops `what` first when there is no room.
    pub(super) fn new(emoji: String, name: &str, words: &str, what: Option<String>) -> Self {
        let name = text::cut(name, MAX_NAME);
        let room = MAX_LINE.saturating_sub(emoji.chars().count() + name.chars().count() + 3);
        let mut words = text::cut(words, room);
        let left = room.saturating_sub(words.chars().count() + 5);
        if let Some(what) = what.filter(|what| left >= MIN_WHAT && text::adds(what, &name)) {
            words = format!("{words} — {}", text::show(&what, left));
        }
        Self { emoji, name, words, urgency: (u8::MAX, u32::MAX) }
    }
}

fn class(kind: NoteKind) -> u8 {
    match kind {
        NoteKind::Escalation => 0,
        NoteKind::NewFiring | NoteKind::Again | NoteKind::Back => 1,
        NoteKind::Reminder => 2,
        NoteKind::PartlyResolved | NoteKind::Resolved => 3,
    }
}

/// How long the alerts were not reported, as far as the notes say.
fn gap(notes: &[&Note]) -> String {
    match notes.iter().filter_map(|note| note.args.gap_ms).max() {
        Some(gap) => format!(" for {}", time::words(Duration::from_millis(gap))),
        None => " for a while".to_owned(),
    }
}

/// What the alerts say happened, if they agree.
fn common_what(about: &[&CleanAlert<'_>]) -> Option<String> {
    same(about.iter().map(|seen| seen.what().into_iter().next())).flatten()
}

/// `2nd`, `3rd`, `11th`.
fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[derive(Template)]
#[template(path = "reply.html")]
struct ReplyHtml<'a> {
    reply: &'a Reply,
}

#[derive(Template)]
#[template(path = "reply.txt")]
struct ReplyText<'a> {
    reply: &'a Reply,
}
