//! The alerts of a card, a line each.

use std::time::Duration;

use super::group::{Group, Seen};
use crate::{
    model::{AlertState, IncidentState, Timestamp},
    render::{
        Style,
        links::url::{self, Link, LinkKind},
        text,
        time::{self, Dial},
    },
};

const MAX_PLACE: usize = 100;
const MAX_WHAT: usize = 150;
const MAX_VALUE: usize = 30;
/// So many alerts that are over have a line each; more share one that names the first [`MAX_GATHERED`].
const MAX_SINGLE: usize = 5;
const MAX_GATHERED: usize = 12;
const MAX_GATHERED_PLACE: usize = 48;

/// How a line's first words are set: what fires stands out, what is over is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Strong,
    Struck,
    Slanted,
    /// `+3 more`: no words of an alert.
    Plain,
}

#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Only where the alerts of a card differ in severity.
    pub(crate) emoji: String,
    pub(crate) mark: Mark,
    pub(crate) name: String,
    /// All that follows the name, links aside; may be empty.
    pub(crate) rest: String,
    pub(crate) links: Vec<Link>,
}

/// The lines of one state, in order, each alert on its own.
pub(crate) fn lines(told: &Told<'_>, state: AlertState, most: usize) -> Vec<Line> {
    told.group.in_state(state).take(most).map(|seen| told.line(seen)).collect()
}

/// The lines of what is over: a few alerts have one each, many share one.
pub(crate) fn over(told: &Told<'_>, state: AlertState) -> Vec<Line> {
    let count = told.group.incident.count(state);
    if count <= MAX_SINGLE {
        return lines(told, state, MAX_SINGLE);
    }
    let place = |seen: &Seen<'_>| {
        let (name, place) = name_and_place(told.group, seen);
        text::cut(format!("{name} {place}").trim_end(), MAX_GATHERED_PLACE)
    };
    let places: Vec<String> = told.group.in_state(state).take(MAX_GATHERED).map(place).collect();
    let mut rest = if places.len() < count { format!("and {} more", count - places.len()) } else { String::new() };
    let mark = if state == AlertState::Resolved {
        push(&mut rest, "", &format!("resolved{}", told.took(state)));
        Mark::Struck
    } else {
        push(&mut rest, "", "no longer reported (silenced?)");
        Mark::Slanted
    };
    vec![Line { emoji: String::new(), mark, name: places.join(", "), rest, links: Vec::new() }]
}

/// What every line leaves out because the card says it.
pub(crate) struct Told<'a> {
    style: &'a Style,
    group: &'a Group<'a>,
    dial: &'a Dial<'a>,
    shared: Vec<LinkKind>,
    since: String,
    severities_differ: bool,
}

impl<'a> Told<'a> {
    pub(crate) fn new(style: &'a Style, group: &'a Group<'a>, dial: &'a Dial<'a>, shared: &[Link]) -> Self {
        let ranks: Vec<u32> = group.focus().map(|seen| seen.rank).collect();
        Self {
            style,
            group,
            dial,
            shared: shared.iter().map(|link| link.kind).collect(),
            since: dial.minute(group.since()),
            severities_differ: ranks.windows(2).any(|pair| pair[0] != pair[1]),
        }
    }

    /// ` after 14 min`, or ` after 3 min to 22 min` where alerts of a state took differently long.
    fn took(&self, state: AlertState) -> String {
        let took =
            self.group.in_state(state).filter_map(|seen| Some(seen.alert.ends_at?.since(self.group.start(seen))));
        let took: Vec<Duration> = took.collect();
        let (Some(least), Some(most)) = (took.iter().min(), took.iter().max()) else { return String::new() };
        let (least, most) = (time::words(*least), time::words(*most));
        if least == most { format!(" after {least}") } else { format!(" after {least} to {most}") }
    }

    fn line(&self, seen: &Seen<'_>) -> Line {
        let (name, place) = name_and_place(self.group, seen);
        let mut line = Line { emoji: String::new(), mark: Mark::Plain, name, rest: place, links: Vec::new() };
        match seen.alert.state {
            AlertState::Firing => self.firing(seen, &mut line),
            AlertState::Resolved => {
                line.mark = Mark::Struck;
                if let Some(ended) = seen.alert.ends_at {
                    push(&mut line.rest, " ", &format!("resolved after {}", duration(self.group, seen, ended)));
                } else {
                    push(&mut line.rest, " ", "resolved");
                }
            }
            AlertState::Absent => {
                line.mark = Mark::Slanted;
                if self.group.incident.state == IncidentState::Quiet {
                    push(&mut line.rest, " — ", &self.own_words(seen));
                } else {
                    push(&mut line.rest, " ", "no longer reported (silenced?)");
                }
            }
        }
        line
    }

    fn firing(&self, seen: &Seen<'_>, line: &mut Line) {
        line.mark = Mark::Strong;
        if self.severities_differ {
            line.emoji = self.style.emoji(seen.rank);
        }
        push(&mut line.rest, "— ", &self.own_words(seen));
        let since = self.dial.minute(self.group.start(seen));
        if since != self.since {
            push(&mut line.rest, "· ", &format!("since {since}"));
        }
        let range = self.group.range_of(std::iter::once(seen));
        line.links = url::of_alert(self.style, self.group.incident, seen.alert, range);
        line.links.retain(|link| !self.shared.contains(&link.kind));
    }

    /// What this alert says beyond what the card says of them all.
    fn own_words(&self, seen: &Seen<'_>) -> String {
        let words = if self.group.what.is_empty() { seen.what() } else { seen.told("description") };
        let Some(first) = words.first() else { return String::new() };
        let said = self.group.what.iter().chain(&self.group.description).any(|told| !text::adds(first, told));
        let words = if said { String::new() } else { text::show(first, MAX_WHAT) };
        // A value of its own tells more than a sentence that all share.
        match seen.value().filter(|value| !words.contains(value.as_str()) && !self.says(value)) {
            Some(value) if words.is_empty() => format!("value {}", text::show(&value, MAX_VALUE)),
            Some(value) => format!("{words} ({})", text::show(&value, MAX_VALUE)),
            None => words,
        }
    }

    /// Whether the card says this for all its alerts.
    fn says(&self, value: &str) -> bool {
        let group = self.group;
        group.what.iter().chain(&group.description).chain(&group.others()).any(|line| text::names(line, value))
    }
}

/// What a line begins with: the place, or where the alerts have several names, the name and the place.
pub(crate) fn name_and_place(group: &Group<'_>, seen: &Seen<'_>) -> (String, String) {
    let place = text::cut(&group.place(seen), MAX_PLACE);
    let name = || text::show(seen.label("alertname").unwrap_or("Alert"), 60);
    match (group.places.mixed, place.is_empty()) {
        (true, _) => (name(), place),
        (false, true) => (name(), String::new()),
        (false, false) => (place, String::new()),
    }
}

pub(crate) fn duration(group: &Group<'_>, seen: &Seen<'_>, ended: Timestamp) -> String {
    time::words(ended.since(group.start(seen)))
}

fn push(rest: &mut String, lead: &str, words: &str) {
    if words.is_empty() {
        return;
    }
    if !rest.is_empty() {
        rest.push(' ');
    }
    rest.push_str(lead.trim_start());
    rest.push_str(words);
}
