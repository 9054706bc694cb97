//! What is said in a card's thread: a line for each kind of news, each of which names the alert, since it stands alone
//! on a phone.

use std::time::Duration;

use super::{
    Style,
    card::{
        group::{Group, Seen, same},
        headline::{self, MAX_LINE},
        lines,
    },
    links::{
        logs,
        url::{self, Link, LinkKind},
    },
    places, text,
    time::{self, Dial},
};
use crate::model::{AlertState, Incident, IncidentState, Note, NoteKind, Timestamp};

/// More places than this are counted.
const MAX_PLACES: usize = 3;
const MAX_PLACE: usize = 48;
const MAX_NAME: usize = 48;
const MIN_WHAT: usize = 12;
/// What needs a person first comes first: the first line is what a phone shows.
const ORDER: [NoteKind; 6] = [
    NoteKind::NewFiring,
    NoteKind::Again,
    NoteKind::Back,
    NoteKind::Reminder,
    NoteKind::PartlyResolved,
    NoteKind::Resolved,
];

pub(super) struct Reply {
    /// Never empty.
    pub(super) lines: Vec<Said>,
    /// Lines that are left out.
    pub(super) more: usize,
    pub(super) links: Vec<Link>,
}

pub(super) struct Said {
    pub(super) emoji: String,
    pub(super) name: String,
    pub(super) words: String,
    /// Smaller comes first where the replies of several incidents are merged: news, then reminders, then what is over;
    /// among those the severity.
    pub(super) urgency: (u8, u32),
}

/// The reply for `notes`, of which those of one kind become one line. It tells how things are now: an alert that fired
/// and is over before the reply could be sent is not called firing.
pub(super) fn reply(
    style: &Style,
    incident: &Incident,
    notes: &[&Note],
    root_at: Option<Timestamp>,
    now: Timestamp,
) -> Reply {
    let group = Group::new(style, incident);
    let writer = Writer { style, group: &group, dial: Dial::new(&style.zone, root_at.unwrap_or(now)), now };
    let over = incident.state == IncidentState::Resolved && notes.iter().any(|note| note.kind == NoteKind::Resolved);
    let mut lines = Vec::new();
    let mut concerned: Vec<&Seen<'_>> = Vec::new();
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
    Reply { lines, more: 0, links: writer.logs(&concerned) }
}

struct Writer<'a> {
    style: &'a Style,
    group: &'a Group<'a>,
    dial: Dial<'a>,
    now: Timestamp,
}

impl<'a> Writer<'a> {
    /// The thing of an alert that stands alone; empty where its labels name none.
    fn alone(&self, seen: &Seen<'_>) -> String {
        places::alone(&seen.thing, &self.style.display.places).map(|thing| thing.name).unwrap_or_default()
    }

    /// The alerts that notes of one kind are about and that are still in the state they tell of.
    fn about(&self, notes: &[&Note]) -> Vec<&'a Seen<'a>> {
        let whole = notes.iter().any(|note| note.args.fingerprints.is_empty());
        let named = |seen: &&Seen<'_>| {
            whole || notes.iter().any(|note| note.args.fingerprints.contains(&seen.alert.fingerprint))
        };
        let state = match notes[0].kind {
            NoteKind::PartlyResolved | NoteKind::Resolved => AlertState::Resolved,
            _ => AlertState::Firing,
        };
        self.group.in_state(state).filter(named).collect()
    }

    fn line(&self, kind: NoteKind, notes: &[&Note], about: &[&Seen<'_>]) -> Option<Said> {
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
                ("🔁".to_owned(), format!("still firing{on}, since {}", self.dial.minute(self.group.since())), false)
            }
            NoteKind::PartlyResolved => {
                let took = same(about.iter().map(|seen| self.took(seen))).flatten();
                let took = took.map(|took| format!(" after {took}")).unwrap_or_default();
                let places = if places.is_empty() { format!("{}", about.len()) } else { places };
                ("🟢".to_owned(), format!("{places} resolved{took}"), false)
            }
            NoteKind::Resolved => return Some(self.resolved()),
        };
        let name = self.name(about);
        Some(said(emoji, &name, &words, what.then(|| common_what(about)).flatten()))
    }

    fn resolved(&self) -> Said {
        let (from, to) = self.group.span(self.now);
        let words = format!("resolved after {}", time::words(to.since(from)));
        said("🟢".to_owned(), &headline::name(self.group), &words, None)
    }

    /// For news that was overtaken before it could be told.
    fn as_it_is(&self) -> Said {
        let incident = self.group.incident;
        let name = headline::name(self.group);
        let absent = incident.count(AlertState::Absent);
        match self.group.focus {
            AlertState::Firing => {
                let emoji = self.style.emoji(self.group.rank());
                said(emoji, &name, &format!("{} firing", incident.count(AlertState::Firing)), None)
            }
            AlertState::Absent => {
                let words =
                    if absent == 1 { "no longer reported".to_owned() } else { format!("{absent} no longer reported") };
                said("🔕".to_owned(), &name, &words, None)
            }
            AlertState::Resolved if self.group.alerts.is_empty() || incident.state.is_open() => {
                said("⚪".to_owned(), &name, "all listed are resolved", None)
            }
            AlertState::Resolved => self.resolved(),
        }
    }

    /// The name that the alerts in question share, else that of the card.
    fn name(&self, about: &[&Seen<'_>]) -> String {
        let shared = same(about.iter().map(|seen| seen.label("alertname"))).flatten();
        shared.map_or_else(|| headline::name(self.group), |name| text::show(name, MAX_NAME))
    }

    /// `a, b and c`; empty where nothing tells the alerts apart.
    fn places(&self, about: &[&Seen<'_>]) -> String {
        let one_name = same(about.iter().map(|seen| seen.label("alertname"))).is_some();
        let place = |seen: &&Seen<'_>| {
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

    fn took(&self, seen: &Seen<'_>) -> Option<String> {
        seen.alert.ends_at.map(|ended| lines::duration(self.group, seen, ended))
    }

    /// One link where the alerts share it, else one for each of the first few.
    fn logs(&self, about: &[&Seen<'_>]) -> Vec<Link> {
        let of = |seen: &Seen<'_>| url::of_kind(self.style, self.group.incident, seen.alert, LinkKind::Logs);
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

/// A line that fits a phone; `what` goes first when there is no room.
pub(super) fn said(emoji: String, name: &str, words: &str, what: Option<String>) -> Said {
    let name = text::cut(name, MAX_NAME);
    let room = MAX_LINE.saturating_sub(emoji.chars().count() + name.chars().count() + 3);
    let mut words = text::cut(words, room);
    let left = room.saturating_sub(words.chars().count() + 5);
    if let Some(what) = what.filter(|what| left >= MIN_WHAT && text::adds(what, &name)) {
        words = format!("{words} — {}", text::show(&what, left));
    }
    Said { emoji, name, words, urgency: (u8::MAX, u32::MAX) }
}

fn class(kind: NoteKind) -> u8 {
    match kind {
        NoteKind::NewFiring | NoteKind::Again | NoteKind::Back => 0,
        NoteKind::Reminder => 1,
        NoteKind::PartlyResolved | NoteKind::Resolved => 2,
    }
}

/// How long the alerts were not reported, as far as the notes know.
fn gap(notes: &[&Note]) -> String {
    match notes.iter().filter_map(|note| note.args.gap_ms).max() {
        Some(gap) => format!(" for {}", time::words(Duration::from_millis(gap))),
        None => " for a while".to_owned(),
    }
}

/// What the alerts say happened, if they all say the same.
fn common_what(about: &[&Seen<'_>]) -> Option<String> {
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
