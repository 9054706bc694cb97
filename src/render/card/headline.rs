//! The first line of a card. Alone it is the push notification, so it says everything that cannot wait.

use super::{
    alert::{clean_labels, same},
    group::Group,
};
use crate::{
    model::{AlertState, Incident, IncidentState, Labels, Timestamp},
    render::{
        heartbeat,
        held_back::{self, HeldBack},
        message::MAX_LINE,
        places,
        style::Style,
        text,
        time::{self, TimeFormat},
    },
};

const MAX_NAME: usize = 48;
const MAX_WORD: usize = 20;
const MAX_CLUSTER: usize = 24;
/// A shorter part of a sentence is not worth showing.
const MIN_WHAT: usize = 16;
pub(crate) const GREEN: &str = "#1a7f37";

pub(crate) struct Headline {
    pub(crate) emoji: String,
    /// May be empty.
    pub(crate) word: String,
    /// `#rrggbb` or empty.
    pub(crate) color: String,
    pub(crate) name: String,
    /// All that follows the name; may be empty.
    pub(crate) rest: String,
    /// Whether the text of what happened is cut.
    pub(crate) cut: bool,
    /// Labels whose values are part of the line, so that no chip repeats them.
    pub(crate) said: Vec<String>,
}

impl Headline {
    /// The whole line, without markup.
    pub(crate) fn line(&self) -> String {
        let words = [&self.emoji, &self.word, &self.name, &self.rest];
        words.into_iter().filter(|words| !words.is_empty()).cloned().collect::<Vec<_>>().join(" ")
    }
}

pub(crate) fn headline(style: &Style, group: &Group<'_>, times: &TimeFormat<'_>, now: Timestamp) -> Headline {
    let (emoji, word, color) = lead(style, group);
    if let Some((emoji, name, rest)) = heartbeat::headline(group, times, now) {
        let (emoji, word) = (emoji.to_owned(), String::new());
        return Headline { emoji, word, color, name, rest, cut: false, said: vec!["heartbeat".to_owned()] };
    }
    let mut said = Vec::new();
    let mut line =
        Headline { emoji, word, color, name: name(group), rest: String::new(), cut: false, said: Vec::new() };
    let what = group.what.first().filter(|what| text::adds(what, &line.name)).cloned().unwrap_or_default();

    let mut parts = Vec::new();
    if let Some(cluster) = group.common("cluster") {
        parts.push(text::show(cluster, MAX_CLUSTER));
        said.push("cluster".to_owned());
    }
    if group.places.mixed {
        let labels = group_labels(group);
        let whole = places::all(&labels, &style.display.places);
        let shown = text::cut(&whole, 40);
        // What was cut stays a chip.
        if shown == whole && labels.len() <= places::MAX_PARTS {
            said.extend(labels.into_keys().map(|label| raw_name(group, &label)));
        }
        parts.push(shown);
    }
    if !group.is_list() {
        let thing = places::alone(&group.thing, &style.display.places);
        // The last one is the most telling: a pod's name says more than its namespace.
        if let Some(thing) = thing.filter(|thing| {
            let telling = if thing.is_known { thing.labels.len().saturating_sub(1) } else { 0 };
            let is_said =
                |label: &String| group.thing.get(label).is_some_and(|value| places::is_said(&what, label, value));
            !thing.labels[telling..].iter().all(is_said)
        }) {
            parts.push(thing.name);
            said.extend(thing.labels.iter().map(|label| raw_name(group, label)));
        }
    }
    parts.push(outcome(group, times, now));
    parts.extend(group.reason().map(|reason| format!("· {reason}")));
    parts.retain(|part| !part.is_empty());
    line.said = said;

    let words = [&line.emoji, &line.word, &line.name];
    let taken = words.iter().filter(|words| !words.is_empty()).map(|words| words.chars().count() + 1).sum();
    let room = MAX_LINE.saturating_sub(taken);
    line.rest = text::cut(&parts.join(" "), room);
    if !what.is_empty() {
        let dash = if line.rest.is_empty() { "— " } else { " — " };
        let left = room.saturating_sub((line.rest.chars().count()) + dash.chars().count());
        line.cut = what.chars().count() + 2 > left;
        if !line.cut || left >= MIN_WHAT {
            line.rest = format!("{}{dash}{}", line.rest, text::show(&what, left.saturating_sub(2)));
        }
    }
    line
}

/// Emoji, word and colour: those of the severity while an alert fires, otherwise those of the state.
fn lead(style: &Style, group: &Group<'_>) -> (String, String, String) {
    let state = |emoji: &str, word: &str, color: &str| (emoji.to_owned(), word.to_owned(), color.to_owned());
    match group.incident.state {
        IncidentState::Firing => severity(style, group),
        IncidentState::Quiet => {
            let word = HeldBack::all(group.incident).map_or("NO LONGER REPORTED", HeldBack::head);
            state("🔕", word, "")
        }
        IncidentState::Unlisted => state("⚪", "", ""),
        IncidentState::Resolved => state("🟢", "RESOLVED", GREEN),
        IncidentState::Stale => state("⚪", "NO NEWS", ""),
        IncidentState::Gone => state("⚪", "NO LONGER IN ALERTMANAGER", ""),
    }
}

fn severity(style: &Style, group: &Group<'_>) -> (String, String, String) {
    let rank = group.rank();
    if let Some(severity) = style.severity(rank) {
        let color = if text::is_color(&severity.color) { severity.color.clone() } else { String::new() };
        return (style.emoji(rank), text::show(&text::clean(&severity.word), MAX_WORD), color);
    }
    // A severity that the config does not have is shown as it is, if all alerts agree.
    let shared = same(group.focus().filter(|s| s.rank == rank).map(|s| s.label("severity"))).flatten();
    let word = shared.map_or("FIRING".to_owned(), |word| text::show(&text::clean(&word.to_uppercase()), MAX_WORD));
    (style.emoji(rank), word, String::new())
}

/// The name of an incident without anything else.
pub(crate) fn title(style: &Style, incident: &Incident) -> String {
    let group = Group::new(style, incident);
    heartbeat::title(&group).unwrap_or_else(|| name(&group))
}

/// The name that all alerts share, or the number of alerts.
pub(crate) fn name(group: &Group<'_>) -> String {
    if group.places.mixed {
        return format!("{} alerts", group.incident.total());
    }
    let group_labels = group.incident.doc.group_labels.get("alertname").map(|name| text::clean(name));
    let name = group.common("alertname").map(ToOwned::to_owned).or(group_labels).filter(|name| !name.is_empty());
    name.map_or("Alert".to_owned(), |name| text::show(&name, MAX_NAME))
}

/// The group labels that the line does not show anyway, as the thing has them and without the exporter's.
pub(crate) fn group_labels(group: &Group<'_>) -> Labels {
    let mut labels = clean_labels(&group.incident.doc.group_labels);
    labels.retain(|name, value| {
        let is_exporters = !group.alerts.is_empty() && group.alerts.iter().all(|seen| seen.is_exporters(name));
        match group.thing.get(name) {
            Some(of_thing) => value.clone_from(of_thing),
            None if is_exporters => return false,
            None => {}
        }
        !["alertname", "severity", "cluster"].contains(&name.as_str())
    });
    labels
}

/// The name under which a label of the thing stands among the chips.
fn raw_name(group: &Group<'_>, label: &str) -> String {
    group.alerts.first().map_or_else(|| label.to_owned(), |seen| seen.raw_name(label))
}

/// The counts, or how long the incident lasted.
pub(crate) fn outcome(group: &Group<'_>, times: &TimeFormat<'_>, now: Timestamp) -> String {
    let incident = group.incident;
    let counts = |firing: &'static str| {
        let states = [AlertState::Firing, AlertState::Resolved, AlertState::Absent, AlertState::Gone];
        let states = states.map(|state| incident.count(state));
        let words = [firing, "resolved", held_back::counted(incident), "no longer in Alertmanager"];
        let counts = states.into_iter().zip(words).filter(|(count, _)| *count > 0);
        let mut counts: Vec<String> = counts.map(|(count, word)| format!("{count} {word}")).collect();
        if incident.doc.truncated > 0 {
            counts.push(format!("{} not listed", incident.doc.truncated));
        }
        if counts.is_empty() { String::new() } else { format!("· {}", counts.join(", ")) }
    };
    let several = if incident.total() > 1 && !group.places.mixed {
        format!(" · {} alerts", incident.total())
    } else {
        String::new()
    };
    match incident.state {
        IncidentState::Resolved => {
            let (from, to) = group.span(now);
            format!("after {}{several}", time::words(to.since(from)))
        }
        IncidentState::Unlisted => format!("· all listed are resolved, {} not listed", incident.doc.truncated),
        IncidentState::Stale => {
            let since = format!("since {}", times.with_zone(incident.last_notified_at));
            if group.is_list() { format!("{since} {}", counts("were firing")) } else { since }
        }
        IncidentState::Gone => {
            let since = format!("since {}", times.with_zone(incident.closed_at.unwrap_or(incident.last_notified_at)));
            let resolved = incident.count(AlertState::Resolved);
            if resolved == 0 { format!("{since}{several}") } else { format!("{since}{several}, {resolved} resolved") }
        }
        IncidentState::Firing if group.is_list() => counts("firing"),
        IncidentState::Quiet if group.is_list() => {
            let over = [(AlertState::Resolved, "resolved"), (AlertState::Gone, "no longer in Alertmanager")];
            let over = over.map(|(state, word)| (incident.count(state), word));
            if over.iter().all(|(count, _)| *count == 0) {
                several.trim().to_owned()
            } else {
                let over = over.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!(", {count} {word}"));
                format!("· {} alerts{}", incident.count(AlertState::Absent), over.collect::<String>())
            }
        }
        IncidentState::Firing | IncidentState::Quiet => String::new(),
    }
}
