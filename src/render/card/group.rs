//! One incident as the room should understand it: what its alerts share, which of them matter now, and in which order.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::{
    model::{Alert, AlertState, Incident, IncidentState, Labels, Timestamp},
    render::{
        Style,
        links::{
            explore::Range,
            logs,
            url::{self, Link, LinkKind},
        },
        places::{self, Places},
        text,
    },
};

/// Annotations in which an alert says what happened, in any case; the first one that says anything counts.
const TOLD_IN: [&str; 4] = ["summary", "title", "description", "message"];
/// Annotations that are links, or that the first line shows as a reason.
const NO_LINES: [&str; 6] = ["runbook", "dashboard", "panel", "logs", "grafana_state_reason", "error"];
/// Other annotations that a card shows, each on a line.
const MAX_OTHERS: usize = 5;
const MAX_OTHER_NAME: usize = 40;
const MAX_OTHER_VALUE: usize = 150;

/// One alert with its labels made fit to be shown.
pub(crate) struct Seen<'a> {
    pub(crate) alert: &'a Alert,
    pub(crate) labels: Labels,
    /// Those of the thing that it is about, without the exporter's.
    pub(crate) thing: Labels,
    /// Index into the severities; one past the end for none of them.
    pub(crate) rank: u32,
}

impl<'a> Seen<'a> {
    fn new(style: &Style, alert: &'a Alert) -> Self {
        let labels = clean_labels(&alert.doc.labels);
        let rank = style.display.rank(labels.get("severity").map(String::as_str));
        let mut seen = Self { alert, labels, thing: Labels::new(), rank };
        seen.thing = places::labels_of_thing(&seen.labels, &seen.words());
        seen
    }

    /// All that this alert says in sentences.
    fn words(&self) -> Vec<String> {
        TOLD_IN.iter().flat_map(|name| self.told(name)).collect()
    }

    /// Whether a label is the exporter's and not the thing's.
    pub(crate) fn is_exporters(&self, name: &str) -> bool {
        self.labels.contains_key(name)
            && (!self.thing.contains_key(name) || self.labels.contains_key(&format!("exported_{name}")))
            && !name.starts_with("exported_")
    }

    /// The name under which a label of the thing stands among the alert's labels.
    pub(crate) fn raw_name(&self, name: &str) -> String {
        let exported = format!("exported_{name}");
        if self.labels.contains_key(&exported) { exported } else { name.to_owned() }
    }

    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// The lines of an annotation; empty where it says nothing.
    pub(crate) fn told(&self, annotation: &str) -> Vec<String> {
        let lines = self.annotation(annotation).map(text::lines).unwrap_or_default();
        lines.into_iter().filter_map(tidy).collect()
    }

    /// An annotation, whatever the case of its name.
    fn annotation(&self, name: &str) -> Option<&str> {
        let annotations = &self.alert.doc.annotations;
        let other_case =
            || annotations.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, text)| text);
        annotations.get(name).or_else(other_case).map(String::as_str)
    }

    /// `impact: No mail leaves`: what annotations of other names say, by name.
    pub(crate) fn others(&self) -> BTreeMap<String, String> {
        let is_line = |name: &str, value: &str| {
            let name = name.to_lowercase();
            !TOLD_IN.contains(&name.as_str())
                && !NO_LINES.contains(&name.as_str())
                && !name.ends_with("url")
                && !name.starts_with("__")
                && !value.trim_start().starts_with("http")
        };
        let others = self.alert.doc.annotations.iter().filter(|(name, value)| is_line(name, value));
        let lines = others.filter_map(|(name, value)| {
            let (name, line) = (text::clean(name), text::lines(value).into_iter().next()?);
            let shown = format!("{}: {}", text::show(&name, MAX_OTHER_NAME), text::show(&line, MAX_OTHER_VALUE));
            (!name.is_empty()).then_some((name, shown))
        });
        lines.take(MAX_OTHERS).collect()
    }

    /// What is measured, where an annotation or a line of the description says it.
    pub(crate) fn value(&self) -> Option<String> {
        let annotated = self.annotation("value").map(text::clean).filter(|value| !value.is_empty());
        let in_line = || self.told("description").iter().find_map(|line| Some(line.strip_prefix("value ")?.to_owned()));
        annotated.or_else(in_line)
    }

    /// Why the state is what it is, where Grafana says more than that something fires or is resolved.
    pub(crate) fn reason(&self) -> Option<String> {
        let by_name = match self.label("alertname") {
            Some("DatasourceNoData") => Some("NoData"),
            Some("DatasourceError") => Some("Error"),
            _ => None,
        };
        let said = self.annotation("grafana_state_reason").map(text::clean).filter(|said| !said.is_empty());
        let reason = by_name.map(ToOwned::to_owned).or(said)?;
        Some(match reason.as_str() {
            "NoData" => "no data".to_owned(),
            "Error" => "query failed".to_owned(),
            "MissingSeries" => "the series is gone".to_owned(),
            "Paused" => "the rule is paused".to_owned(),
            "RuleDeleted" => "the rule is deleted".to_owned(),
            "Updated" => "the rule was changed".to_owned(),
            other => text::show(other, MAX_OTHER_NAME),
        })
    }

    /// The error that Grafana gives for a query that failed.
    fn query_error(&self) -> Vec<String> {
        if self.label("alertname") == Some("DatasourceError") { self.told("error") } else { Vec::new() }
    }

    /// What this alert says happened.
    pub(crate) fn what(&self) -> Vec<String> {
        let error = self.query_error();
        if !error.is_empty() {
            return error;
        }
        TOLD_IN.iter().map(|name| self.told(name)).find(|lines| !lines.is_empty()).unwrap_or_default()
    }
}

/// A line of a description. Popular rule collections end theirs with the value and with all labels; the labels are chips.
fn tidy(line: String) -> Option<String> {
    let after = |word: &str| Some(line.strip_prefix(word)?.trim_start().strip_prefix(['=', ':'])?.trim());
    if after("LABELS").is_some() {
        return None;
    }
    Some(after("VALUE").map(|value| format!("value {value}")).unwrap_or(line))
}

pub(crate) fn clean_labels(raw: &Labels) -> Labels {
    let mut labels = Labels::new();
    for (name, value) in raw {
        let (name, value) = (text::clean(name), text::clean(value));
        if !name.is_empty() && !value.is_empty() {
            labels.insert(name, value);
        }
    }
    labels
}

pub(crate) struct Group<'a> {
    pub(crate) incident: &'a Incident,
    /// Firing first and the newest change first among them, then resolved, then absent.
    pub(crate) alerts: Vec<Seen<'a>>,
    /// The state of the alerts that matter now: firing if any is, else absent, else resolved.
    pub(crate) focus: AlertState,
    /// Labels that all alerts carry with one value.
    pub(crate) common: Labels,
    /// The same of their things.
    pub(crate) thing: Labels,
    pub(crate) places: Places,
    /// What happened, where all alerts that matter now say the same; else empty, and each says it on its own line.
    pub(crate) what: Vec<String>,
    /// The description that all alerts that matter now share, unless it is `what` already.
    pub(crate) description: Vec<String>,
}

impl<'a> Group<'a> {
    pub(crate) fn new(style: &Style, incident: &'a Incident) -> Self {
        let mut alerts: Vec<Seen<'a>> = incident.alerts.iter().map(|a| Seen::new(style, a)).collect();
        let labels: Vec<(&Labels, &Labels)> = alerts.iter().map(|seen| (&seen.thing, &seen.labels)).collect();
        let places = Places::new(&labels, &style.display.places);
        // Alerts of one evaluation change at once; among those the worst leads, and a person finds the rest by place.
        alerts.sort_by_cached_key(|seen| {
            let alert = seen.alert;
            let newest_first = (Reverse(alert.changed_at), Reverse(alert.starts_at));
            (alert.state, newest_first, seen.rank, places.of(&seen.thing, &seen.labels), alert.fingerprint.clone())
        });
        let focus = [AlertState::Firing, AlertState::Absent]
            .into_iter()
            .find(|state| incident.count(*state) > 0)
            .unwrap_or(AlertState::Resolved);
        let common = common_labels(alerts.iter().map(|seen| &seen.labels));
        let thing = common_labels(alerts.iter().map(|seen| &seen.thing));
        let mut group =
            Self { incident, alerts, focus, common, thing, places, what: Vec::new(), description: Vec::new() };
        let source = TOLD_IN.into_iter().find(|name| group.focus().any(|seen| !seen.told(name).is_empty()));
        group.what = source.and_then(|name| same(group.focus().map(|seen| seen.told(name)))).unwrap_or_default();
        if matches!(source, Some("summary" | "title")) {
            group.description = same(group.focus().map(|seen| seen.told("description"))).unwrap_or_default();
        }
        if let Some(error) = same(group.focus().map(Seen::query_error)).filter(|error| !error.is_empty()) {
            let summary = std::mem::replace(&mut group.what, error);
            group.description.splice(0..0, summary);
        }
        group
    }

    /// Where an alert is among the others.
    pub(crate) fn place(&self, seen: &Seen<'_>) -> String {
        self.places.of(&seen.thing, &seen.labels)
    }

    /// The alerts that matter now.
    pub(crate) fn focus(&self) -> impl Iterator<Item = &Seen<'a>> {
        self.alerts.iter().filter(|seen| seen.alert.state == self.focus)
    }

    pub(crate) fn in_state(&self, state: AlertState) -> impl Iterator<Item = &Seen<'a>> {
        self.alerts.iter().filter(move |seen| seen.alert.state == state)
    }

    pub(crate) fn common(&self, name: &str) -> Option<&str> {
        self.common.get(name).map(String::as_str)
    }

    /// Whether the incident is told as a list. One alert of which nothing is left out needs none.
    pub(crate) fn is_list(&self) -> bool {
        let left_out = self.incident.doc.truncated > 0 && self.incident.state == IncidentState::Firing;
        self.incident.total() != 1 || left_out
    }

    /// The rank of the most severe alert that matters now. The incident's own rank counts absent alerts as well, and a
    /// card must not call critical what only warns.
    pub(crate) fn rank(&self) -> u32 {
        self.focus().map(|seen| seen.rank).min().unwrap_or(self.incident.severity)
    }

    /// Why the alerts that matter now are in their state, where they say so and agree.
    pub(crate) fn reason(&self) -> Option<String> {
        same(self.focus().map(Seen::reason)).flatten()
    }

    /// Lines of other annotations that all alerts that matter now share.
    pub(crate) fn others(&self) -> Vec<String> {
        let mut all = self.focus().map(Seen::others);
        let mut shared = all.next().unwrap_or_default();
        for others in all {
            shared.retain(|name, line| others.get(name) == Some(line));
        }
        shared.into_values().collect()
    }

    /// When it began: the earliest start of the alerts that matter now.
    pub(crate) fn since(&self) -> Timestamp {
        self.focus().map(|seen| self.start(seen)).min().unwrap_or(self.incident.opened_at)
    }

    /// When an alert began; one without a readable time began with its incident.
    pub(crate) fn start(&self, seen: &Seen<'_>) -> Timestamp {
        if seen.alert.starts_at.0 > 0 { seen.alert.starts_at } else { self.incident.opened_at }
    }

    /// From the first start to the last end of all alerts.
    pub(crate) fn span(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        let from = self.alerts.iter().map(|seen| self.start(seen)).min().unwrap_or(self.incident.opened_at);
        let to = self.alerts.iter().filter_map(|seen| seen.alert.ends_at).filter(|end| end.0 > 0).max();
        (from, to.or(self.incident.closed_at).unwrap_or(now).max(from))
    }

    /// The time that the logs of these alerts should show: until now, unless all of them are over.
    pub(crate) fn range_of<'s>(&self, alerts: impl Iterator<Item = &'s Seen<'s>>) -> Range {
        let (mut from, mut to) = (None, Some(Timestamp::default()));
        for seen in alerts {
            let start = self.start(seen);
            from = Some(from.map_or(start, |from: Timestamp| from.min(start)));
            let end = seen.alert.ends_at.filter(|end| end.0 > 0).or(self.incident.closed_at);
            let end = end.filter(|_| seen.alert.state == AlertState::Resolved);
            to = to.zip(end).map(|(to, end)| to.max(end));
        }
        Range::around(from.unwrap_or(self.incident.opened_at), to)
    }

    /// The links that all alerts that matter now share, and the form for a silence of them all.
    pub(crate) fn shared_links(&self, style: &Style) -> Vec<Link> {
        let of = |kind| same(self.focus().map(|seen| url::of_kind(style, self.incident, seen.alert, kind))).flatten();
        let range = self.range_of(self.focus());
        let kinds = LinkKind::all(style, self.incident).into_iter();
        let mut shared: Vec<Link> = kinds.filter_map(of).map(|link| logs::in_time(link, range)).collect();
        let silence = |seen: &Seen<'_>| url::of_kind(style, self.incident, seen.alert, LinkKind::Silence);
        if self.focus().all(|seen| silence(seen).is_none()) {
            let labels = common_labels(self.alerts.iter().map(|seen| &seen.alert.doc.labels));
            shared.extend(url::silence(style, &self.incident.doc.external_url, &labels));
        }
        shared
    }
}

/// The value that all of them have, if they all have the same.
pub(crate) fn same<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

pub(crate) fn common_labels<'l>(mut all: impl Iterator<Item = &'l Labels>) -> Labels {
    let mut common: BTreeMap<String, String> = all.next().cloned().unwrap_or_default();
    for labels in all {
        common.retain(|name, value| labels.get(name) == Some(value));
    }
    common
}
