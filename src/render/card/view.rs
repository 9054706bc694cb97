//! The view model of a card: it decides all words and links, and templates only set them.

use super::{
    group::Group,
    headline::{Headline, headline},
    lines::{Line, LineWriter, lines, over},
    statements::{Statement, statements},
};
use crate::{
    model::{AlertState, Incident, IncidentState, Timestamp},
    render::{
        held_back,
        links::{link::Link, logs},
        style::Style,
        text,
        time::TimeFormat,
    },
};

const MAX_CHIPS: usize = 12;
const MAX_CHIP_NAME: usize = 40;
const MAX_CHIP_VALUE: usize = 80;
const MAX_DETAIL_LINES: usize = 6;
const MAX_DETAIL_CHARS: usize = 600;
/// A long summary must leave room for the description.
const MAX_DETAIL_LINE: usize = 400;
/// A line takes more than 31 bytes, so more lines never fit into one event.
const MAX_LINES: usize = 700;
/// Labels about scraping say least, so they come last.
const SCRAPING: [&str; 6] = ["job", "service", "endpoint", "prometheus", "prometheus_replica", "receive"];

/// A card with everything that it could show; [`CardLayout`] says how much of it is shown.
pub(crate) struct View {
    pub(crate) head: Headline,
    details: Vec<String>,
    chips: Vec<String>,
    more_chips: usize,
    /// The alerts that matter now, as many as could fit.
    lines: Vec<Line>,
    /// The number of alerts that matter now, and their state in words.
    count: (usize, &'static str),
    /// The lines of all other alerts.
    over: Vec<Line>,
    statements: Vec<Statement>,
    /// When the incident began, or from when to when it lasted.
    when: String,
    links: Vec<Link>,
}

/// How much of a card is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CardLayout {
    /// How many of the alerts that matter now have a line; `None` leaves the list out.
    pub(crate) lines: Option<usize>,
    pub(crate) details: bool,
    /// Longer links are left out.
    pub(crate) max_url: usize,
}

/// What the templates show.
pub(crate) struct CardContent<'a> {
    pub(crate) head: &'a Headline,
    pub(crate) details: &'a [String],
    pub(crate) chips: &'a [String],
    pub(crate) more_chips: usize,
    pub(crate) lines: Vec<Line>,
    /// What people did about it.
    pub(crate) statements: &'a [Statement],
    pub(crate) when: &'a str,
    pub(crate) links: Vec<Link>,
}

impl View {
    pub(crate) fn new(style: &Style, incident: &Incident, root_at: Option<Timestamp>, now: Timestamp) -> Self {
        let group = Group::new(style, incident);
        let times = TimeFormat::new(&style.zone, root_at.unwrap_or(now));
        let head = headline(style, &group, &times, now);
        let shared = group.shared_links(style);
        let writer = LineWriter::new(style, &group, &times, &shared);
        // Resolved alerts go below the others, also where no other alerts are left.
        let main = Some(group.focus).filter(|state| *state != AlertState::Resolved);
        let others = [AlertState::Firing, AlertState::Resolved, AlertState::Absent, AlertState::Gone].into_iter();
        let others = others.filter(|state| Some(*state) != main);
        let (lines, over) = if group.is_list() {
            (
                main.map(|state| lines(&writer, state, MAX_LINES)),
                others.flat_map(|state| over(&writer, state)).collect(),
            )
        } else {
            (None, Vec::new())
        };
        let (chips, more_chips) = chips(style, &group, &head);
        Self {
            details: [details(&group, &head), group.others(), broken_logs(style, &group).into_iter().collect()]
                .concat(),
            chips,
            more_chips,
            lines: lines.unwrap_or_default(),
            count: (
                incident.count(group.focus),
                match group.focus {
                    AlertState::Firing => "firing",
                    AlertState::Gone => "no longer in Alertmanager",
                    _ => held_back::counted(incident),
                },
            ),
            over,
            statements: statements(&group, &times),
            when: when(&group, &times, now),
            links: shared,
            head,
        }
    }

    /// How many alerts could have a line.
    pub(crate) fn most_lines(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn content(&self, layout: CardLayout) -> CardContent<'_> {
        let mut shown = Vec::new();
        if let Some(most) = layout.lines {
            shown.extend(self.lines.iter().take(most).cloned());
            let (count, word) = self.count;
            if !self.lines.is_empty() && shown.len() < count {
                shown.push(Line::plain(format!("+{} more {word}", count - shown.len())));
            }
            shown.extend(self.over.iter().cloned());
        }
        for line in &mut shown {
            line.links.retain(|link| link.url.len() <= layout.max_url);
        }
        CardContent {
            head: &self.head,
            details: if layout.details { &self.details } else { &[] },
            chips: &self.chips,
            more_chips: self.more_chips,
            lines: shown,
            statements: if layout.details { &self.statements } else { &[] },
            when: &self.when,
            links: self.links.iter().filter(|link| link.url.len() <= layout.max_url).cloned().collect(),
        }
    }
}

/// The rest of a text that the first line cut, and the description where it adds something.
fn details(group: &Group<'_>, head: &Headline) -> Vec<String> {
    let mut lines: Vec<&String> = group.what.iter().skip(usize::from(!head.cut)).collect();
    let what = group.what.join(" ");
    if text::adds(&group.description.join(" "), &what) {
        lines.extend(group.description.iter().filter(|line| text::adds(line, &what)));
    }
    let mut details = Vec::new();
    let mut room = MAX_DETAIL_CHARS;
    let more = lines.len() > MAX_DETAIL_LINES;
    for line in lines.into_iter().take(MAX_DETAIL_LINES) {
        if room < 20 {
            break;
        }
        let shown = text::show(line, room.min(MAX_DETAIL_LINE));
        room = room.saturating_sub(shown.chars().count());
        details.push(shown);
    }
    if more && let Some(last) = details.last_mut().filter(|last| !last.ends_with('…')) {
        last.push_str(" …");
    }
    details
}

/// Names a `logs_url` that gives no link, so that somebody fixes the alert rule.
fn broken_logs(style: &Style, group: &Group<'_>) -> Option<String> {
    let mut broken = group.focus().filter_map(|seen| logs::broken(style, seen.alert));
    let (problem, shown) = broken.next()?;
    let of = match broken.count() {
        0 => String::new(),
        others => format!(" of {} alerts", others + 1),
    };
    Some(format!("logs_url{of} {problem}: {shown}"))
}

/// The labels that all alerts share, and how many more there are.
fn chips(style: &Style, group: &Group<'_>, head: &Headline) -> (Vec<String>, usize) {
    let said = |name: &str| ["alertname", "severity"].contains(&name) || head.said.iter().any(|said| said == name);
    let hides = !style.display.hide_labels.is_empty();
    // Where an exporter runs is what one would query, unless the thing says where it is itself.
    let queried = |name: &str| name == "namespace" && !group.thing.contains_key(name);
    let of_exporter = |name: &str| hides && !queried(name) && group.alerts.iter().all(|seen| seen.is_exporters(name));
    let hidden = |name: &str| style.display.hides(name) || of_exporter(name);
    let mut labels: Vec<_> = group.common.iter().filter(|(name, _)| !said(name) && !hidden(name)).collect();
    labels.sort_by_key(|(name, _)| {
        let first = ["namespace", "pod", "container"].iter().position(|telling| telling == name).unwrap_or(3);
        (SCRAPING.iter().position(|last| last == name).map_or(0, |at| at + 1), first)
    });
    let chip = |(name, value): &(&String, &String)| {
        format!("{}={}", text::show(name, MAX_CHIP_NAME), text::show(value, MAX_CHIP_VALUE))
    };
    (labels.iter().take(MAX_CHIPS).map(chip).collect(), labels.len().saturating_sub(MAX_CHIPS))
}

fn when(group: &Group<'_>, times: &TimeFormat<'_>, now: Timestamp) -> String {
    match group.incident.state {
        IncidentState::Firing => format!("since {}", times.with_zone(group.since())),
        IncidentState::Quiet => {
            format!("since {}{}", times.with_zone(group.since()), held_back::beside_start(group.incident, times))
        }
        IncidentState::Stale | IncidentState::Gone => format!("began {}", times.with_zone(group.span(now).0)),
        IncidentState::Resolved | IncidentState::Unlisted => {
            let (from, to) = group.span(now);
            times.range(from, to)
        }
    }
}
