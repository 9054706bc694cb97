//! The alerts of a card, a line each.

use std::time::Duration;

use super::{alert::CleanAlert, group::Group};
use crate::{
    model::{AlertState, IncidentState, Timestamp},
    render::{
        held_back::{self, HeldBack},
        links::{
            alert_links,
            link::{Link, LinkKind},
        },
        style::Style,
        text,
        time::{self, TimeFormat},
    },
};

const MAX_PLACE: usize = 100;
const MAX_WHAT: usize = 150;
const MAX_VALUE: usize = 30;
/// Up to this many resolved alerts have a line each; more share one line that names the first [`MAX_GATHERED`].
const MAX_SINGLE: usize = 5;
const MAX_GATHERED: usize = 12;
const MAX_GATHERED_PLACE: usize = 48;

/// How a line's first words are set: firing alerts stand out, resolved ones are struck through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Emphasis {
    Strong,
    Struck,
    Slanted,
    /// `+3 more`: the line names no alert.
    Plain,
}

#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Set only where the alerts of a card differ in severity.
    pub(crate) emoji: String,
    pub(crate) mark: Emphasis,
    pub(crate) name: String,
    /// What follows the name, except links; may be empty.
    pub(crate) rest: String,
    pub(crate) links: Vec<Link>,
}

impl Line {
    /// A line with only these words.
    pub(crate) fn plain(name: String) -> Self {
        Self { emoji: String::new(), mark: Emphasis::Plain, name, rest: String::new(), links: Vec::new() }
    }
}

/// The lines of one state in order, one for each alert.
pub(crate) fn lines(writer: &LineWriter<'_>, state: AlertState, most: usize) -> Vec<Line> {
    writer.group.in_state(state).take(most).map(|seen| writer.line(seen)).collect()
}

/// The lines of resolved alerts: a few have one each, many share one.
pub(crate) fn over(writer: &LineWriter<'_>, state: AlertState) -> Vec<Line> {
    let count = writer.group.incident.count(state);
    if count <= MAX_SINGLE {
        return lines(writer, state, MAX_SINGLE);
    }
    let place = |seen: &CleanAlert<'_>| {
        let (name, place) = name_and_place(writer.group, seen);
        text::cut(format!("{name} {place}").trim_end(), MAX_GATHERED_PLACE)
    };
    let places: Vec<String> = writer.group.in_state(state).take(MAX_GATHERED).map(place).collect();
    let mut rest = if places.len() < count { format!("and {} more", count - places.len()) } else { String::new() };
    let mark = if state == AlertState::Resolved {
        push(&mut rest, "", &format!("resolved{}", writer.took(state)));
        Emphasis::Struck
    } else {
        push(&mut rest, "", &writer.missing(state));
        Emphasis::Slanted
    };
    vec![Line { mark, rest, ..Line::plain(places.join(", ")) }]
}

/// Writes lines without what the card already says.
pub(crate) struct LineWriter<'a> {
    style: &'a Style,
    group: &'a Group<'a>,
    times: &'a TimeFormat<'a>,
    shared: Vec<LinkKind>,
    since: String,
    severities_differ: bool,
    /// What is known of all absent alerts.
    held_back: String,
    /// Lines of other annotations, which the card shows once.
    others: Vec<String>,
}

impl<'a> LineWriter<'a> {
    pub(crate) fn new(style: &'a Style, group: &'a Group<'a>, times: &'a TimeFormat<'a>, shared: &[Link]) -> Self {
        let ranks: Vec<u32> = group.focus().map(|seen| seen.rank).collect();
        Self {
            style,
            group,
            times,
            shared: shared.iter().map(|link| link.kind).collect(),
            since: times.minute(group.since()),
            severities_differ: ranks.windows(2).any(|pair| pair[0] != pair[1]),
            held_back: held_back::shared_words(group.incident, times),
            others: group.others(),
        }
    }

    /// ` after 14 min`, or ` after 3 min to 22 min` where the durations of the alerts differ.
    fn took(&self, state: AlertState) -> String {
        let took =
            self.group.in_state(state).filter_map(|seen| Some(seen.alert.ends_at?.since(self.group.start(seen))));
        let took: Vec<Duration> = took.collect();
        let (Some(least), Some(most)) = (took.iter().min(), took.iter().max()) else { return String::new() };
        let (least, most) = (time::words(*least), time::words(*most));
        if least == most { format!(" after {least}") } else { format!(" after {least} to {most}") }
    }

    /// What a line of many says that are absent or gone.
    fn missing(&self, state: AlertState) -> String {
        match (state, HeldBack::all(self.group.incident)) {
            (AlertState::Gone, _) => "no longer in Alertmanager".to_owned(),
            (_, Some(_)) if !self.held_back.is_empty() => self.held_back.clone(),
            (_, Some(held_back)) => held_back.word().to_owned(),
            (_, None) => "no longer reported (silenced?)".to_owned(),
        }
    }

    fn line(&self, seen: &CleanAlert<'_>) -> Line {
        let (name, place) = name_and_place(self.group, seen);
        let mut line = Line { rest: place, ..Line::plain(name) };
        match seen.alert.state {
            AlertState::Firing => self.firing(seen, &mut line),
            AlertState::Resolved => {
                line.mark = Emphasis::Struck;
                if let Some(ended) = seen.alert.ends_at {
                    push(&mut line.rest, " ", &format!("resolved after {}", duration(self.group, seen, ended)));
                } else {
                    push(&mut line.rest, " ", "resolved");
                }
            }
            AlertState::Absent => {
                line.mark = Emphasis::Slanted;
                let known = seen.alert.seen.as_ref().map(|seen| held_back::words(self.times, seen)).unwrap_or_default();
                if self.group.incident.state == IncidentState::Quiet {
                    push(&mut line.rest, " — ", &self.own_words(seen));
                    // What holds back all of them stands below.
                    if known != self.held_back {
                        push(&mut line.rest, "· ", &known);
                    }
                } else if HeldBack::of(seen.alert.seen.as_ref()).is_some() {
                    push(&mut line.rest, " ", &known);
                } else {
                    push(&mut line.rest, " ", "no longer reported (silenced?)");
                    push(&mut line.rest, "· ", &known);
                }
            }
            AlertState::Gone => {
                line.mark = Emphasis::Slanted;
                if self.group.incident.state == IncidentState::Gone {
                    push(&mut line.rest, " — ", &self.own_words(seen));
                } else {
                    push(&mut line.rest, " ", "no longer in Alertmanager");
                }
            }
        }
        line
    }

    fn firing(&self, seen: &CleanAlert<'_>, line: &mut Line) {
        line.mark = Emphasis::Strong;
        if self.severities_differ {
            line.emoji = self.style.emoji(seen.rank);
        }
        push(&mut line.rest, "— ", &self.own_words(seen));
        let since = self.times.minute(self.group.start(seen));
        if since != self.since {
            push(&mut line.rest, "· ", &format!("since {since}"));
        }
        let range = self.group.range_of(std::iter::once(seen));
        line.links = alert_links::of_alert(self.style, self.group.incident, seen.alert, range);
        line.links.retain(|link| !self.shared.contains(&link.kind));
    }

    /// What this alert says beyond what the card says of all.
    fn own_words(&self, seen: &CleanAlert<'_>) -> String {
        let words = if self.group.what.is_empty() { seen.what() } else { seen.annotation("description") };
        let adds = |first: &&String| {
            self.group.what.iter().chain(&self.group.description).all(|shown| text::adds(first, shown))
        };
        let words = words.first().filter(adds).map(|first| text::show(first, MAX_WHAT)).unwrap_or_default();
        // The value of one alert says more than a sentence that all share.
        match seen.value().filter(|value| (words.is_empty() || !text::names(&words, value)) && !self.says(value)) {
            Some(value) if words.is_empty() => format!("value {}", text::show(&value, MAX_VALUE)),
            Some(value) => format!("{words} ({})", text::show(&value, MAX_VALUE)),
            None => words,
        }
    }

    /// Whether the card says this for all its alerts.
    fn says(&self, value: &str) -> bool {
        let group = self.group;
        group.what.iter().chain(&group.description).chain(&self.others).any(|line| text::names(line, value))
    }
}

/// The first words of a line: the place, or name and place if the alerts have several names.
pub(crate) fn name_and_place(group: &Group<'_>, seen: &CleanAlert<'_>) -> (String, String) {
    let place = text::cut(&group.place(seen), MAX_PLACE);
    let name = || text::show(seen.label("alertname").unwrap_or("Alert"), 60);
    match (group.places.mixed, place.is_empty()) {
        (true, _) => (name(), place),
        (false, true) => (name(), String::new()),
        (false, false) => (place, String::new()),
    }
}

pub(crate) fn duration(group: &Group<'_>, seen: &CleanAlert<'_>, ended: Timestamp) -> String {
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
