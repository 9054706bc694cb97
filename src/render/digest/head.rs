//! The first line of a message about several incidents: how many there are, and the names of those that matter most.

use super::row::{Ranked, Row};
use crate::{
    model::IncidentState,
    render::{
        card::{alert::same, headline::GREEN},
        held_back,
        message::MAX_LINE,
        style::Style,
        text, time,
    },
};

const MAX_WORD: usize = 20;
/// With less room than this no name is shown.
const MIN_NAMES: usize = 12;
/// The longest name together with its place, in characters.
const MAX_ONE: usize = 60;

pub(in crate::render) struct Head {
    pub(in crate::render) emoji: String,
    /// May be empty.
    pub(in crate::render) word: &'static str,
    pub(in crate::render) color: &'static str,
    /// `9 incidents`.
    pub(in crate::render) count: String,
    /// What follows the count, including the blank or comma.
    pub(in crate::render) rest: String,
}

impl Head {
    pub(in crate::render) fn line(&self) -> String {
        let blank = if self.word.is_empty() { "" } else { " " };
        format!("{}{blank}{} {}{}", self.emoji, self.word, self.count, self.rest)
    }

    fn new(emoji: &str, word: &'static str, count: usize) -> Self {
        let count = if count == 1 { "1 incident".to_owned() } else { format!("{count} incidents") };
        Self {
            emoji: emoji.to_owned(),
            word,
            color: if word.is_empty() { "" } else { GREEN },
            count,
            rest: String::new(),
        }
    }

    /// Adds `facts`, the names of the `rows` that they count as far as these fit, and what else there is to count.
    fn finish(mut self, facts: &str, rows: &[&Row], count: usize, others: &[String]) -> Self {
        let others = others.iter().fold(String::new(), |line, other| line + " · " + other.as_str());
        let room = MAX_LINE.saturating_sub(self.line().chars().count());
        self.rest = text::cut(facts, room);
        let room = room.saturating_sub(self.rest.chars().count() + others.chars().count() + 2);
        let names = if room < MIN_NAMES { String::new() } else { names(rows, count, room) };
        if !names.is_empty() {
            self.rest = format!("{}: {names}", self.rest);
        }
        self.rest.push_str(&others);
        self
    }
}

/// `🌩 9 incidents, 2 critical: KubeNodeNotReady controlplane2, PodCrashLooping media · 6 more firing · 1 resolved`: names
/// stand beside the count of what they name. What is resolved is counted last and never named.
pub(super) fn digest(style: &Style, ranked: &[Ranked<'_>], rows: &[Row], cluster: Option<&str>) -> Head {
    let count = |state| ranked.iter().filter(|one| one.incident.state == state).count();
    let all = ranked.len();
    let place = cluster.map(|cluster| format!(" in {cluster}")).unwrap_or_default();
    if all > 0 && count(IncidentState::Resolved) == all {
        return resolved(rows, all, &place);
    }
    let top = ranked.iter().filter(|one| one.incident.state == IncidentState::Firing).map(|one| one.rank).min();
    let is_top = |state, rank| state == IncidentState::Firing && Some(rank) == top;
    let worst = ranked.iter().filter(|one| is_top(one.incident.state, one.rank)).count();
    let emoji = match top {
        Some(_) => "🌩",
        None if count(IncidentState::Quiet) > 0 => "🔕",
        None => "⚪",
    };
    let counted = |number: usize, word: &str| match number {
        0 => String::new(),
        _ if word.is_empty() => String::new(),
        1 if all == 1 => format!(", {word}"),
        _ if number == all => format!(", all {word}"),
        _ => format!(", {number} {word}"),
    };
    let firing = count(IncidentState::Firing);
    let gone = count(IncidentState::Quiet) + count(IncidentState::Stale) + count(IncidentState::Gone);
    let gone_word = missing(ranked);
    let word = match top {
        Some(rank) => word(style, rank),
        None if gone > 0 => gone_word.to_owned(),
        None => String::new(),
    };
    let is_named = |row: &&Row| match top {
        Some(_) => is_top(row.state, row.rank),
        None if gone > 0 => matches!(row.state, IncidentState::Quiet | IncidentState::Stale | IncidentState::Gone),
        None => row.state != IncidentState::Resolved,
    };
    let (named, of) = match top {
        Some(_) => (worst, worst),
        None if gone > 0 => (gone, gone),
        None => (0, all - count(IncidentState::Resolved)),
    };
    // Without a word for the most severe there is no count to stand beside: then what fires is counted.
    let word = if top.is_some() && word.is_empty() && firing < all { "firing".to_owned() } else { word };
    let others = [
        (firing - worst, "more firing"),
        (if top.is_some() { gone } else { 0 }, gone_word),
        (count(IncidentState::Resolved), "resolved"),
    ];
    let others: Vec<String> =
        others.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect();
    let facts = [place, counted(named, &word)].concat();
    Head::new(emoji, "", all).finish(&facts, &rows.iter().filter(is_named).collect::<Vec<_>>(), of, &others)
}

/// What the incidents that do not fire and are not resolved are called, if one word fits all.
fn missing(ranked: &[Ranked<'_>]) -> &'static str {
    let words = ranked.iter().filter_map(|one| match one.incident.state {
        IncidentState::Quiet => Some(held_back::counted(one.incident)),
        IncidentState::Gone => Some("no longer in Alertmanager"),
        IncidentState::Stale => Some("no longer reported"),
        _ => None,
    });
    same(words).unwrap_or("no longer reported")
}

/// `🟢 RESOLVED 9 incidents after 22 min`
fn resolved(rows: &[Row], all: usize, place: &str) -> Head {
    let from = rows.iter().map(|row| row.span.0).min().unwrap_or_default();
    let to = rows.iter().map(|row| row.span.1).max().unwrap_or_default();
    let facts = format!("{place} after {}", time::words(to.since(from)));
    Head::new("🟢", "RESOLVED", all).finish(&facts, &[], 0, &[])
}

/// `🟢 60 incidents resolved: …`. A notice names what it is about, since nothing fires beside it.
pub(super) fn green(rows: &[Row], all: usize, cluster: Option<&str>) -> Head {
    let place = cluster.map(|cluster| format!(" in {cluster}")).unwrap_or_default();
    Head::new("🟢", "", all).finish(&format!("{place} resolved"), &rows.iter().collect::<Vec<_>>(), all, &[])
}

/// `critical`; empty for a severity that the config does not know.
fn word(style: &Style, rank: u32) -> String {
    style
        .severity(rank)
        .map(|severity| text::show(&text::clean(&severity.word.to_lowercase()), MAX_WORD))
        .unwrap_or_default()
}

/// `A here, there, B and 6 more`: as many of the `count` incidents as fit, those of one name together.
fn names(rows: &[&Row], count: usize, room: usize) -> String {
    let mut list = String::new();
    let mut best = String::new();
    for (named, (row, first)) in together(rows).into_iter().enumerate() {
        if !list.is_empty() {
            list.push_str(", ");
        }
        let words = if first { format!("{} {}", row.name, row.place) } else { row.place.clone() };
        list.push_str(&text::cut(words.trim(), MAX_ONE));
        let more = count.saturating_sub(named + 1);
        let whole = if more == 0 { list.clone() } else { format!("{list} and {more} more") };
        if whole.chars().count() <= room {
            best = whole;
        } else if best.is_empty() {
            return cut_one(&list, more, room);
        } else if list.chars().count() > room {
            break;
        }
    }
    best
}

/// The first name, cut to the room that is left.
fn cut_one(name: &str, more: usize, room: usize) -> String {
    let others = if more == 0 { String::new() } else { format!(" and {more} more") };
    let left = room.saturating_sub(others.chars().count());
    if left < MIN_NAMES { text::cut(name, room) } else { format!("{}{others}", text::cut(name, left)) }
}

/// Puts rows of one name together; the flag says whether a row is the first of its name, or has no place.
fn together<'a>(rows: &[&'a Row]) -> Vec<(&'a Row, bool)> {
    // A line never shows more.
    let rows = &rows[..rows.len().min(MAX_LINE)];
    let mut left: Vec<&Row> = rows.to_vec();
    let mut sorted = Vec::new();
    while let Some(first) = left.first().copied() {
        let (alike, others): (Vec<&Row>, Vec<&Row>) = left.into_iter().partition(|row| row.name == first.name);
        sorted.extend(alike.into_iter().enumerate().map(|(at, row)| (row, at == 0 || row.place.is_empty())));
        left = others;
    }
    sorted
}
