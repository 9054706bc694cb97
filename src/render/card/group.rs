//! One incident as the room should understand it: what its alerts share, which of them matter now, and in which order.

use std::cmp::Reverse;

use super::alert::{CleanAlert, SUMMARIES, common_labels, same};
use crate::{
    model::{AlertState, Incident, IncidentState, Labels, Timestamp},
    render::{
        links::{
            alert_links,
            explore::Range,
            link::{Link, LinkKind},
            logs,
        },
        places::Places,
        style::Style,
        text,
    },
};

/// Characters of what Grafana measured.
const MAX_VALUES: usize = 150;

pub(crate) struct Group<'a> {
    pub(crate) incident: &'a Incident,
    /// Firing alerts first (newest change first), then resolved, then absent ones.
    pub(crate) alerts: Vec<CleanAlert<'a>>,
    /// The state of the alerts that matter now: firing if any is, else absent, else resolved.
    pub(crate) focus: AlertState,
    /// Labels that all alerts carry with one value.
    pub(crate) common: Labels,
    /// The same of their things.
    pub(crate) thing: Labels,
    pub(crate) places: Places,
    /// What happened, if all alerts that matter now say the same; otherwise each line says its own.
    pub(crate) what: Vec<String>,
    /// The description that all alerts that matter now share, unless it is `what` already.
    pub(crate) description: Vec<String>,
}

impl<'a> Group<'a> {
    pub(crate) fn new(style: &Style, incident: &'a Incident) -> Self {
        let mut alerts: Vec<CleanAlert<'a>> = incident.alerts.iter().map(|a| CleanAlert::new(style, a)).collect();
        let labels: Vec<(&Labels, &Labels)> = alerts.iter().map(|seen| (&seen.thing, &seen.labels)).collect();
        let places = Places::new(&labels, &style.display.places);
        // Alerts of one evaluation change at once; the most severe of those leads, and the rest are sorted by place.
        alerts.sort_by_cached_key(|seen| {
            let alert = seen.alert;
            let newest_first = (Reverse(alert.changed_at), Reverse(alert.starts_at));
            (alert.state, newest_first, seen.rank, places.of(&seen.thing, &seen.labels), alert.fingerprint.clone())
        });
        let focus =
            AlertState::FOCUS.into_iter().find(|state| incident.count(*state) > 0).unwrap_or(AlertState::Resolved);
        let common = common_labels(alerts.iter().map(|seen| &seen.labels));
        let thing = common_labels(alerts.iter().map(|seen| &seen.thing));
        let mut group =
            Self { incident, alerts, focus, common, thing, places, what: Vec::new(), description: Vec::new() };
        let source = SUMMARIES.into_iter().find(|name| group.focus().any(|seen| !seen.annotation(name).is_empty()));
        group.what = source.and_then(|name| same(group.focus().map(|seen| seen.annotation(name)))).unwrap_or_default();
        if matches!(source, Some("summary" | "title")) {
            group.description = same(group.focus().map(|seen| seen.annotation("description"))).unwrap_or_default();
        }
        if let Some(error) = same(group.focus().map(CleanAlert::query_error)).filter(|error| !error.is_empty()) {
            let summary = std::mem::replace(&mut group.what, error);
            group.description.splice(0..0, summary);
        }
        group
    }

    /// Where an alert is among the others.
    pub(crate) fn place(&self, seen: &CleanAlert<'_>) -> String {
        self.places.of(&seen.thing, &seen.labels)
    }

    /// The alerts that matter now.
    pub(crate) fn focus(&self) -> impl Iterator<Item = &CleanAlert<'a>> {
        self.alerts.iter().filter(|seen| seen.alert.state == self.focus)
    }

    pub(crate) fn in_state(&self, state: AlertState) -> impl Iterator<Item = &CleanAlert<'a>> {
        self.alerts.iter().filter(move |seen| seen.alert.state == state)
    }

    pub(crate) fn common(&self, name: &str) -> Option<&str> {
        self.common.get(name).map(String::as_str)
    }

    /// Whether the card lists its alerts. A single alert needs no list unless Alertmanager truncated others.
    pub(crate) fn is_list(&self) -> bool {
        let left_out = self.incident.doc.truncated > 0 && self.incident.state == IncidentState::Firing;
        self.incident.total() != 1 || left_out
    }

    /// The rank of the most severe alert that matters now. The incident's own rank includes absent alerts, and a card
    /// must not call a mere warning critical.
    pub(crate) fn rank(&self) -> u32 {
        self.focus().map(|seen| seen.rank).min().unwrap_or(self.incident.severity)
    }

    /// Why the alerts that matter now are in their state, where they say so and agree.
    pub(crate) fn reason(&self) -> Option<String> {
        same(self.focus().map(CleanAlert::reason)).flatten()
    }

    /// Lines of other annotations that all alerts that matter now share.
    ///
    /// What Grafana measured comes last.
    pub(crate) fn others(&self) -> Vec<String> {
        let mut all = self.focus().map(CleanAlert::others);
        let mut shared = all.next().unwrap_or_default();
        for others in all {
            shared.retain(|name, line| others.get(name) == Some(line));
        }
        let measured = same(self.focus().map(|seen| text::clean(&seen.alert.doc.values)));
        let measured = measured.filter(|values| !values.is_empty() && self.alerts.len() == 1);
        shared
            .into_values()
            .chain(measured.map(|values| format!("values: {}", text::show(&values, MAX_VALUES))))
            .collect()
    }

    /// The earliest start of the alerts that matter now.
    pub(crate) fn since(&self) -> Timestamp {
        self.focus().map(|seen| self.start(seen)).min().unwrap_or(self.incident.opened_at)
    }

    /// When an alert began; an alert without a readable time began with its incident.
    pub(crate) fn start(&self, seen: &CleanAlert<'_>) -> Timestamp {
        if seen.alert.starts_at.0 > 0 { seen.alert.starts_at } else { self.incident.opened_at }
    }

    /// From the first start to the last end of all alerts.
    pub(crate) fn span(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        let from = self.alerts.iter().map(|seen| self.start(seen)).min().unwrap_or(self.incident.opened_at);
        let to = self.alerts.iter().filter_map(|seen| seen.alert.ends_at).filter(|end| end.0 > 0).max();
        (from, to.or(self.incident.closed_at).unwrap_or(now).max(from))
    }

    /// The time range for the logs of these alerts: until now, unless all of them are resolved.
    pub(crate) fn range_of<'s>(&self, alerts: impl Iterator<Item = &'s CleanAlert<'s>>) -> Range {
        let (mut from, mut to) = (None, Some(Timestamp::default()));
        for seen in alerts {
            let start = self.start(seen);
            from = Some(from.map_or(start, |from: Timestamp| from.min(start)));
            let end = seen.alert.ends_at.filter(|end| end.0 > 0).or(self.incident.closed_at);
            let end = end.filter(|_| matches!(seen.alert.state, AlertState::Resolved | AlertState::Gone));
            to = to.zip(end).map(|(to, end)| to.max(end));
        }
        Range::around(from.unwrap_or(self.incident.opened_at), to)
    }

    /// The links that all alerts that matter now share, and the form that silences them all.
    pub(crate) fn shared_links(&self, style: &Style) -> Vec<Link> {
        let of = |kind| {
            same(self.focus().map(|seen| alert_links::of_kind(style, self.incident, seen.alert, kind))).flatten()
        };
        let range = self.range_of(self.focus());
        let kinds = LinkKind::all(style, self.incident).into_iter();
        let mut shared: Vec<Link> = kinds.filter_map(of).map(|link| logs::in_time(link, range)).collect();
        let silence = |seen: &CleanAlert<'_>| alert_links::of_kind(style, self.incident, seen.alert, LinkKind::Silence);
        if self.focus().all(|seen| silence(seen).is_none()) {
            let labels = common_labels(self.alerts.iter().map(|seen| &seen.alert.doc.labels));
            shared.extend(alert_links::silence(style, &self.incident.doc.external_url, &labels));
        }
        shared
    }
}
