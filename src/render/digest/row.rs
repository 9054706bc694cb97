//! One incident on one line among others: its name, its place and its state.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{AlertState, Incident, IncidentState, Labels, Timestamp},
    render::{
        card::{
            alert::{CleanAlert, clean_labels, same},
            group::Group,
            headline,
            lines::{self, Emphasis, Line},
            statements,
        },
        held_back::{self, HeldBack},
        links::{
            alert_links,
            link::{Link, LinkKind},
            logs,
        },
        places,
        style::Style,
        text,
        time::TimeFormat,
    },
};

const MAX_PLACE: usize = 80;
const MAX_CLUSTER: usize = 24;
const MAX_WHAT: usize = 100;
const MAX_HELD_BACK: usize = 100;
/// The longest text that distinguishes incidents of one name and place, in characters.
const MAX_APART: usize = 48;
/// If the alerts of a group say different things, the line names this many places.
const MAX_NAMED: usize = 3;
/// The kinds of links to try in this order; a line has room for one.
const LINKED: [LinkKind; 3] = [LinkKind::Logs, LinkKind::Dashboard, LinkKind::Source];
/// Incidents that began within this time do not show a time each.
const SAME_TIME_MS: i64 = 10 * 60_000;

/// An incident with its rank among others.
#[derive(Clone, Copy)]
pub(super) struct Ranked<'a> {
    pub(super) incident: &'a Incident,
    /// The rank of the most severe alert that matters now.
    pub(super) rank: u32,
}

/// Firing incidents first, then those that may fire again, then closed ones; within each the most severe first, then
/// the oldest.
pub(super) fn ordered<'a>(style: &Style, incidents: &[&'a Incident]) -> Vec<Ranked<'a>> {
    let mut ranked: Vec<Ranked<'a>> =
        incidents.iter().map(|incident| Ranked { incident, rank: rank(style, incident) }).collect();
    ranked.sort_by_key(|one| {
        let incident = one.incident;
        let class = match incident.state {
            IncidentState::Firing => 0,
            IncidentState::Unlisted => 1,
            IncidentState::Quiet => 2,
            IncidentState::Stale | IncidentState::Gone => 3,
            IncidentState::Resolved => 4,
        };
        (class, one.rank, incident.opened_at, &incident.id)
    });
    ranked
}

fn rank(style: &Style, incident: &Incident) -> u32 {
    let of_state = |state| {
        let alerts = incident.alerts.iter().filter(move |alert| alert.state == state);
        let severity = |labels: &Labels| clean_labels(labels).remove("severity");
        alerts.map(|alert| style.display.rank(severity(&alert.doc.labels).as_deref())).min()
    };
    [AlertState::Firing, AlertState::Absent, AlertState::Gone, AlertState::Resolved]
        .into_iter()
        .find_map(of_state)
        .unwrap_or(incident.severity)
}

pub(super) struct Row {
    pub(super) rank: u32,
    pub(super) state: IncidentState,
    pub(super) name: String,
    /// May be empty.
    pub(super) place: String,
    /// When it began, and when it ended if it did.
    pub(super) since: Timestamp,
    pub(super) span: (Timestamp, Timestamp),
    pub(super) alertmanager: Option<Link>,
    emoji: String,
    mark: Emphasis,
    /// The counts, or how the incident ended; may be empty.
    outcome: String,
    /// May be empty.
    what: String,
    link: Option<Link>,
    /// Who takes care of it; may be empty.
    taken: String,
    cluster: Option<String>,
    /// The labels that may distinguish it from another incident of the same name and place.
    labels: Labels,
}

/// The rows of these incidents in order, and the cluster if all share one.
pub(super) fn rows(
    style: &Style,
    times: &TimeFormat<'_>,
    ranked: &[Ranked<'_>],
    now: Timestamp,
) -> (Vec<Row>, Option<String>) {
    let mut rows: Vec<Row> = ranked.iter().map(|one| Row::new(style, times, one, now)).collect();
    let shared = same(rows.iter().map(|row| row.cluster.clone())).flatten();
    if same(rows.iter().filter_map(|row| row.cluster.as_ref())).is_none() {
        for row in &mut rows {
            if let Some(cluster) = &row.cluster {
                row.place = join(cluster, &row.place);
            }
        }
    }
    tell_apart(&mut rows, &style.display.places);
    (rows, shared)
}

impl Row {
    fn new(style: &Style, times: &TimeFormat<'_>, ranked: &Ranked<'_>, now: Timestamp) -> Self {
        let incident = ranked.incident;
        let group = Group::new(style, incident);
        let name = headline::name(&group);
        let firing = incident.state == IncidentState::Firing;
        let (emoji, mark) = match incident.state {
            IncidentState::Firing => (style.emoji(ranked.rank), Emphasis::Strong),
            IncidentState::Quiet => ("🔕".to_owned(), Emphasis::Slanted),
            IncidentState::Unlisted | IncidentState::Stale | IncidentState::Gone => {
                ("⚪".to_owned(), Emphasis::Slanted)
            }
            IncidentState::Resolved => ("🟢".to_owned(), Emphasis::Struck),
        };
        Self {
            rank: ranked.rank,
            state: incident.state,
            place: place(style, &group),
            since: group.since(),
            span: group.span(now),
            alertmanager: alert_links::alertmanager(style, &incident.doc.external_url),
            emoji,
            mark,
            outcome: outcome(&group, times, now),
            what: if firing { what(&group, &name) } else { String::new() },
            link: if firing { link(style, &group) } else { None },
            taken: statements::taken_in_short(&group),
            cluster: group.common("cluster").map(|cluster| text::show(cluster, MAX_CLUSTER)),
            labels: own_labels(&group),
            name,
        }
    }

    /// The incident's line. `since` is the start that the message gives for all.
    pub(super) fn line(&self, layout: &RowLayout, times: &TimeFormat<'_>, since: Timestamp) -> Line {
        let mut rest = vec![text::cut(&self.place, layout.max_place), self.outcome.clone()];
        if layout.what && !self.what.is_empty() {
            rest.push(format!("— {}", self.what));
        }
        let late = self.since.0.saturating_sub(since.0) >= SAME_TIME_MS;
        if layout.what && late && self.state == IncidentState::Firing {
            rest.push(format!("· since {}", times.minute(self.since)));
        }
        if layout.taken && !self.taken.is_empty() {
            rest.push(format!("· {}", self.taken));
        }
        rest.retain(|words| !words.is_empty());
        let link = self.link.iter().filter(|link| link.url.len() <= layout.max_url);
        Line {
            emoji: self.emoji.clone(),
            mark: self.mark,
            name: text::cut(&self.name, layout.max_name),
            rest: rest.join(" "),
            links: link.cloned().collect(),
        }
    }
}

fn join(one: &str, other: &str) -> String {
    format!("{one} {other}").trim().to_owned()
}

/// How much of a row is shown.
pub(super) struct RowLayout {
    pub(super) what: bool,
    pub(super) taken: bool,
    pub(super) max_url: usize,
    pub(super) max_name: usize,
    pub(super) max_place: usize,
}

/// The place of an incident: as on a card of one alert, else the job, else the group labels.
fn place(style: &Style, group: &Group<'_>) -> String {
    let by = || {
        let mut labels = headline::group_labels(group);
        labels.remove("cluster");
        text::cut(&places::all(&labels, &style.display.places), MAX_PLACE)
    };
    if group.places.mixed {
        return by();
    }
    if let Some(thing) = places::alone(&group.thing, &style.display.places) {
        return text::cut(&thing.name, MAX_PLACE);
    }
    group.thing.get("job").map_or_else(by, |job| text::show(job, MAX_PLACE))
}

/// The labels that distinguish it from others of its name: the group labels, else those that all alerts share.
fn own_labels(group: &Group<'_>) -> Labels {
    let mut labels = group.common.clone();
    labels.extend(headline::group_labels(group));
    labels.retain(|name, _| !["alertname", "severity", "cluster"].contains(&name.as_str()));
    labels
}

fn outcome(group: &Group<'_>, times: &TimeFormat<'_>, now: Timestamp) -> String {
    let outcome = headline::outcome(group, times, now);
    let lead = match group.incident.state {
        IncidentState::Firing | IncidentState::Unlisted => String::new(),
        IncidentState::Quiet => quiet(group.incident, times),
        IncidentState::Stale => "no news".to_owned(),
        IncidentState::Gone => "no longer in Alertmanager".to_owned(),
        IncidentState::Resolved => "resolved".to_owned(),
    };
    format!("{lead} {outcome}").trim().to_owned()
}

/// Why nothing of the incident notifies, as far as it is known of all.
fn quiet(incident: &Incident, times: &TimeFormat<'_>) -> String {
    let shared = held_back::shared_words(incident, times);
    match HeldBack::all(incident) {
        Some(_) if !shared.is_empty() => text::cut(&shared, MAX_HELD_BACK),
        Some(held_back) => held_back.word().to_owned(),
        None if !shared.is_empty() => format!("no longer reported · {shared}"),
        None => "no longer reported".to_owned(),
    }
}

/// What happened; if the alerts say different things, the places of those alerts.
fn what(group: &Group<'_>, name: &str) -> String {
    if let Some(what) = group.what.first() {
        return if text::adds(what, name) { text::show(what, MAX_WHAT) } else { String::new() };
    }
    if !group.is_list() {
        return String::new();
    }
    let place = |seen: &CleanAlert<'_>| {
        let (name, place) = lines::name_and_place(group, seen);
        text::cut(format!("{name} {place}").trim_end(), MAX_APART)
    };
    let mut named: Vec<String> = Vec::new();
    for seen in group.focus() {
        let place = place(seen);
        if place != name && !named.contains(&place) {
            named.push(place);
        }
        if named.len() == MAX_NAMED {
            break;
        }
    }
    let more = group.incident.count(group.focus).saturating_sub(named.len());
    match (named.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => text::cut(&named.join(", "), MAX_WHAT),
        (false, more) => format!("{} and {more} more", text::cut(&named.join(", "), MAX_WHAT)),
    }
}

/// The one link that all firing alerts share, else the logs of the first alert, which the link then names.
fn link(style: &Style, group: &Group<'_>) -> Option<Link> {
    let of = |kind| {
        let shared =
            same(group.focus().map(|seen| alert_links::of_kind(style, group.incident, seen.alert, kind))).flatten();
        shared.map(|link| logs::in_time(link, group.range_of(group.focus())))
    };
    let first = || {
        let seen = group.focus().next()?;
        let (name, place) = lines::name_and_place(group, seen);
        let label = format!("Logs {name} {place}");
        let link = alert_links::of_kind(style, group.incident, seen.alert, LinkKind::Logs)?;
        let link = Link { label: text::cut(label.trim_end(), MAX_APART), ..link };
        Some(logs::in_time(link, group.range_of(std::iter::once(seen))))
    };
    of(LinkKind::Logs).or_else(first).or_else(|| LINKED.into_iter().find_map(of))
}

/// Adds to rows that would read the same the labels in which they differ.
fn tell_apart(rows: &mut [Row], rules: &[Vec<String>]) {
    let mut alike: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        alike.entry((row.name.clone(), row.place.clone())).or_default().push(at);
    }
    for members in alike.into_values().filter(|members| members.len() > 1) {
        let names: BTreeSet<String> = members.iter().flat_map(|at| rows[*at].labels.keys().cloned()).collect();
        let differs = |name: &String| same(members.iter().map(|at| rows[*at].labels.get(name))).is_none();
        let names: BTreeSet<String> = names.into_iter().filter(differs).collect();
        for at in members {
            let row = &mut rows[at];
            row.labels.retain(|name, _| names.contains(name));
            let apart = text::cut(&places::all(&row.labels, rules), MAX_APART);
            row.place = join(&row.place, &apart);
        }
    }
}
