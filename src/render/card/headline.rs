//! The first line of a card. Alone it is the push notification, so it says everything that cannot wait.

use super::group::Group;
use crate::{
    model::{AlertState, Incident, IncidentState, Labels, Timestamp},
    render::{
        Style, places, text,
        time::{self, Dial},
    },
};

/// What a phone shows of a notification.
pub(crate) const MAX_LINE: usize = 110;
const MAX_NAME: usize = 48;
const MAX_WORD: usize = 20;
const MAX_CLUSTER: usize = 24;
/// Less of a sentence than this is not worth showing.
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
    /// The text of what happened is not all there.
    pub(crate) cut: bool,
    /// Labels whose values the line has said, so that no chip repeats them.
    pub(crate) said: Vec<String>,
}

pub(crate) fn headline(style: &Style, group: &Group<'_>, dial: &Dial<'_>, now: Timestamp) -> Headline {
    let (emoji, word, color) = lead(style, group);
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
        parts.push(text::cut(&places::all(&labels, &style.display.places), 40));
        said.extend(labels.into_keys());
    }
    if !group.is_list() {
        let thing = places::alone(&group.thing, &style.display.places);
        // The last one is the most telling: a pod's name says more than its namespace.
        if let Some(thing) = thing.filter(|thing| {
            let last = thing.labels.last().and_then(|label| group.thing.get(label));
            !last.is_some_and(|value| places::is_said(&what, value))
        }) {
            parts.push(thing.name);
            said.extend(thing.labels.iter().map(|label| match group.alerts.first() {
                Some(seen) => seen.raw_name(label),
                None => label.clone(),
            }));
        }
    }
    parts.push(outcome(group, dial, now));
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

/// Emoji, word and colour: the severity while something fires, else the state.
fn lead(style: &Style, group: &Group<'_>) -> (String, String, String) {
    let state = |emoji: &str, word: &str, color: &str| (emoji.to_owned(), word.to_owned(), color.to_owned());
    match group.incident.state {
        IncidentState::Firing => severity(style, group),
        IncidentState::Quiet => state("🔕", "NO LONGER REPORTED", ""),
        IncidentState::Unlisted => state("⚪", "", ""),
        IncidentState::Resolved => state("🟢", "RESOLVED", GREEN),
        IncidentState::Stale => state("⚪", "NO NEWS", ""),
    }
}

fn severity(style: &Style, group: &Group<'_>) -> (String, String, String) {
    let rank = group.rank();
    let known = usize::try_from(rank).ok().and_then(|rank| style.display.severities.get(rank));
    if let Some(severity) = known {
        let color = if is_color(&severity.color) { severity.color.clone() } else { String::new() };
        return (style.emoji(rank), text::show(&text::clean(&severity.word), MAX_WORD), color);
    }
    // Words that the config does not know are told as they are, if they agree.
    let told = super::group::same(group.focus().filter(|s| s.rank == rank).map(|s| s.label("severity"))).flatten();
    let word = told.map_or("FIRING".to_owned(), |word| text::show(&text::clean(&word.to_uppercase()), MAX_WORD));
    (style.emoji(rank), word, String::new())
}

pub(crate) fn is_color(color: &str) -> bool {
    color.len() == 7 && color.starts_with('#') && color[1..].bytes().all(|b| b.is_ascii_hexdigit())
}

/// The name of an incident alone.
pub(crate) fn title(style: &Style, incident: &Incident) -> String {
    name(&Group::new(style, incident))
}

/// The name that all alerts share, or how many they are.
pub(crate) fn name(group: &Group<'_>) -> String {
    if group.places.mixed {
        return format!("{} alerts", group.incident.total());
    }
    let group_labels = group.incident.doc.group_labels.get("alertname").map(|name| text::clean(name));
    let name = group.common("alertname").map(ToOwned::to_owned).or(group_labels).filter(|name| !name.is_empty());
    name.map_or("Alert".to_owned(), |name| text::show(&name, MAX_NAME))
}

/// What the group was made by, beyond what the line says anyway.
pub(crate) fn group_labels(group: &Group<'_>) -> Labels {
    let mut labels = super::group::clean_labels(&group.incident.doc.group_labels);
    labels.retain(|name, _| !["alertname", "severity", "cluster"].contains(&name.as_str()));
    labels
}

/// Counts, or how long it took.
pub(crate) fn outcome(group: &Group<'_>, dial: &Dial<'_>, now: Timestamp) -> String {
    let incident = group.incident;
    let counts = |words: [&str; 3]| {
        let states = [AlertState::Firing, AlertState::Resolved, AlertState::Absent].map(|s| incident.count(s));
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
            let since = format!("since {}", dial.with_zone(incident.heard_at));
            if group.is_list() {
                format!("{since} {}", counts(["were firing", "resolved", "no longer reported"]))
            } else {
                since
            }
        }
        IncidentState::Firing if group.is_list() => counts(["firing", "resolved", "no longer reported"]),
        IncidentState::Quiet if group.is_list() => {
            let (absent, resolved) = (incident.count(AlertState::Absent), incident.count(AlertState::Resolved));
            if resolved == 0 { several.trim().to_owned() } else { format!("· {absent} alerts, {resolved} resolved") }
        }
        IncidentState::Firing | IncidentState::Quiet => String::new(),
    }
}
