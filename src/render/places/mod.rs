//! Which thing an alert is about, and where it is. Prometheus puts the labels of what it scrapes beside those of what was
//! measured, so an exporter's pod or address often stands where a person looks for the thing. [`labels_of_thing`] takes
//! away what belongs to the exporter, and [`KINDS`] says which of the rest names the thing. `docs/RENDERING.md` has the
//! table for operators.

mod exporter;

use std::collections::{BTreeMap, BTreeSet, HashSet};

pub(super) use self::exporter::{exported_name, labels_of_thing};
use super::text;
use crate::model::Labels;

/// Kinds of things, the most telling first. The last label of a kind names the thing, those before it say where it is;
/// a kind counts only where its last label is there.
pub(super) const KINDS: &[&[&str]] = &[
    &["namespace", "persistentvolumeclaim"],
    &["namespace", "pod"],
    &["k8s.namespace.name", "k8s.pod.name"],
    &["namespace", "job_name"],
    &["namespace", "cronjob"],
    &["namespace", "statefulset"],
    &["namespace", "daemonset"],
    &["namespace", "deployment"],
    &["namespace", "replicaset"],
    &["namespace", "horizontalpodautoscaler"],
    &["namespace", "poddisruptionbudget"],
    &["namespace", "ingress"],
    &["k8s.namespace.name", "k8s.deployment.name"],
    &["service.namespace", "service.name"],
    &["persistentvolume"],
    &["node"],
    &["k8s.node.name"],
    &["host.name"],
    &["nodename"],
    &["hostname"],
    &["host"],
    &["queue"],
    &["topic"],
    &["database"],
    &["datname"],
    &["target"],
    &["instance"],
    &["domain"],
    &["url"],
    &["device"],
    &["volume"],
    &["disk"],
    &["interface"],
    &["rulename"],
    &["namespace", "exported_job"],
    &["namespace", "job"],
    &["namespace", "service"],
    &["namespace", "container"],
];
/// The last resort: where the thing is.
const AREA: &[&str] = &["namespace"];
/// Labels of [`KINDS`] whose values need their names to be understood.
const NAMED: &[&str] =
    &["queue", "topic", "database", "datname", "target", "domain", "url", "device", "volume", "disk", "interface"];
/// Labels that never name a thing.
const PLUMBING: &[&str] = &[
    "alertname",
    "severity",
    "cluster",
    "prometheus",
    "prometheus_replica",
    "endpoint",
    "uid",
    "metrics_path",
    "grafana_folder",
    "datasource_uid",
    "ref_id",
    "job",
    "exported_job",
    "exported_instance",
];
/// So many labels stand in for a thing that no kind names.
const MAX_UNKNOWN: usize = 2;
/// So that they leave room for a sentence.
const MAX_UNKNOWN_CHARS: usize = 40;
/// More labels than this in one place are no longer read.
pub(super) const MAX_PARTS: usize = 4;
const MAX_VALUE: usize = 60;

/// Labels that name a thing together, and which of them name it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Thing {
    pub name: String,
    /// The last one is the most telling.
    pub labels: Vec<String>,
    /// Whether a kind names it, as opposed to labels that nothing is known of.
    pub is_known: bool,
}

/// The thing of an alert that stands alone; `None` where its labels name none. `rules`: the operator's kinds, which come
/// first.
pub(super) fn alone(thing: &Labels, rules: &[Vec<String>]) -> Option<Thing> {
    let kinds = kinds(rules).chain(std::iter::once(strings(AREA)));
    for kind in kinds {
        // A job alone is how something was scraped; in a namespace it is a service there.
        let is_job =
            |kind: &[String]| kind.last().is_some_and(|last| last == "job") && !thing.contains_key("namespace");
        if kind.last().is_some_and(|last| thing.contains_key(last)) && !is_job(&kind) {
            return Some(of(&kind, thing, rules));
        }
    }
    let unknown = thing.keys().filter(|name| !is_plumbing(name)).take(MAX_UNKNOWN).cloned().collect::<Vec<_>>();
    (!unknown.is_empty()).then(|| {
        let each = unknown.iter().map(|name| value_of(std::slice::from_ref(name), thing, rules));
        let name = text::cut(&each.collect::<Vec<_>>().join(" "), MAX_UNKNOWN_CHARS);
        Thing { name, labels: unknown.clone(), is_known: false }
    })
}

fn of(kind: &[String], thing: &Labels, rules: &[Vec<String>]) -> Thing {
    let labels: Vec<String> = kind.iter().filter(|name| thing.contains_key(*name)).cloned().collect();
    Thing { name: value_of(&labels, thing, rules), labels, is_known: true }
}

/// How the alerts of an incident are distinguished.
pub(super) struct Places {
    /// Groups of labels, in the order in which their values are shown.
    parts: Vec<Vec<String>>,
    /// The alerts have several names, so that each place starts with one.
    pub(super) mixed: bool,
    rules: Vec<Vec<String>>,
}

impl Places {
    /// `alerts`: the labels of each alert's thing, and all of its labels.
    pub(super) fn new(alerts: &[(&Labels, &Labels)], rules: &[Vec<String>]) -> Self {
        let of_things = differing(alerts.iter().map(|(thing, _)| *thing));
        let merged: Vec<Labels> = alerts.iter().map(|(thing, all)| merged(thing, all)).collect();
        let of_all = differing(merged.iter());
        let mixed = of_all.iter().any(|name| name == "alertname");
        let mut order = ranked(&of_things, rules);
        // Exporters tell alerts apart only where their things do not.
        let known: HashSet<&String> = of_things.iter().collect();
        let others: Vec<String> = of_all.into_iter().filter(|name| !known.contains(name)).collect();
        order.extend(ranked(&others, rules));
        let mut parts: Vec<Vec<String>> = Vec::new();
        let mut shown = vec![String::new(); alerts.len()];
        let mut apart = 1;
        for part in order {
            let tried: Vec<String> = merged
                .iter()
                .zip(&shown)
                .map(|(labels, shown)| format!("{shown}\0{}", whole_value(&part, labels)))
                .collect();
            let distinct = tried.iter().collect::<HashSet<_>>().len();
            // A cluster alone tells too little, so one more is taken after it in any case.
            let first = parts.iter().all(|taken| taken[0] == "cluster");
            if distinct > apart || first {
                (shown, apart) = (tried, distinct);
                parts.push(part);
            }
            if (apart == alerts.len() && parts.iter().any(|taken| taken[0] != "cluster")) || parts.len() == MAX_PARTS {
                break;
            }
        }
        Self { parts, mixed, rules: rules.to_vec() }
    }

    /// The place of one alert among the others; empty where nothing tells it apart.
    pub(super) fn of(&self, thing: &Labels, all: &Labels) -> String {
        let labels = merged(thing, all);
        join(self.parts.iter().map(|part| value_of(part, &labels, &self.rules)))
    }
}

/// The labels of the thing, and the others under names that it does not use.
fn merged(thing: &Labels, all: &Labels) -> Labels {
    let mut labels = all.clone();
    labels.extend(thing.clone());
    labels
}

/// The values of `labels` (of a group) as a place.
pub(super) fn all(labels: &Labels, rules: &[Vec<String>]) -> String {
    let names: Vec<String> = labels.keys().cloned().collect();
    join(ranked(&names, rules).into_iter().take(MAX_PARTS).map(|part| value_of(&part, labels, rules)))
}

fn join(values: impl Iterator<Item = String>) -> String {
    values.filter(|value| !value.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Every label that at least two alerts have different values of, or that some lack.
fn differing<'l>(alerts: impl Iterator<Item = &'l Labels> + Clone) -> Vec<String> {
    let total = alerts.clone().count();
    let mut known: BTreeMap<&str, (usize, BTreeSet<&str>)> = BTreeMap::new();
    for (name, value) in alerts.flatten() {
        let (count, values) = known.entry(name).or_default();
        *count += 1;
        // Two are enough to differ.
        if values.len() < 2 {
            values.insert(value);
        }
    }
    let differs = |(_, (count, values)): &(&str, (usize, BTreeSet<&str>))| values.len() > 1 || *count < total;
    known.into_iter().filter(differs).map(|(name, _)| name.to_owned()).collect()
}

/// Groups of labels by which alerts are distinguished, the most telling first, of those in `names`.
pub(super) fn ranked(names: &[String], rules: &[Vec<String>]) -> Vec<Vec<String>> {
    let has = |name: &String| names.contains(name);
    let mut order: Vec<Vec<String>> = vec![strings(&["cluster"])];
    order.extend(kinds(rules).filter(|kind| kind.last().is_some_and(has)));
    order.push(strings(AREA));
    for kind in &mut order {
        kind.retain(has);
    }
    let known: Vec<String> = order.iter().flatten().cloned().collect();
    let rest = names.iter().filter(|name| !known.contains(name) && !["alertname", "severity"].contains(&name.as_str()));
    order.extend(rest.map(|name| vec![name.clone()]));
    order.retain(|kind| !kind.is_empty());
    order
}

/// `media/jellyfin-0`, `controlplane1`, `mountpoint=/`.
pub(super) fn value_of(kind: &[String], labels: &Labels, rules: &[Vec<String>]) -> String {
    let bare = |name: &String| {
        name == "cluster"
            || rules.iter().any(|rule| rule.contains(name))
            || !NAMED.contains(&name.as_str()) && KINDS.iter().any(|kind| kind.contains(&name.as_str()))
    };
    let values = kind.iter().filter_map(|name| {
        let value = text::show_ends(labels.get(name)?, MAX_VALUE);
        Some(if bare(name) { value } else { format!("{}={value}", text::show(name, MAX_VALUE)) })
    });
    values.collect::<Vec<_>>().join("/")
}

/// The same for comparing, where nothing is cut.
fn whole_value(kind: &[String], labels: &Labels) -> String {
    kind.iter().map(|name| labels.get(name).map_or("", String::as_str)).collect::<Vec<_>>().join("\0")
}

fn kinds(rules: &[Vec<String>]) -> impl Iterator<Item = Vec<String>> {
    rules.iter().cloned().chain(KINDS.iter().map(|kind| strings(kind)))
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn is_plumbing(name: &str) -> bool {
    PLUMBING.contains(&name) || name.starts_with("__")
}

/// Whether `text` says already which thing `value` is. An everyday word such as `master` says nothing for sure: only what
/// has a digit or a separator in it can be recognised, or the name of a service, which people choose to be one. A machine
/// may be named without its port, a URL by its host.
pub(super) fn is_said(text: &str, label: &str, value: &str) -> bool {
    // A number may count anything.
    let is_number = |value: &str| value.parse::<f64>().is_ok();
    let distinct = |value: &str| {
        label == "service" || (!is_number(value) && value.chars().any(|c| c.is_ascii_digit() || "-._:/".contains(c)))
    };
    if !distinct(value) {
        return false;
    }
    let host = match url::Url::parse(value) {
        Ok(url) if url.has_host() => url.host_str().unwrap_or_default().to_owned(),
        _ => match value.rsplit_once(':') {
            Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host.to_owned(),
            _ => value.to_owned(),
        },
    };
    text::names(text, value) || (distinct(&host) && text::names(text, &host))
}

#[cfg(test)]
mod tests;
