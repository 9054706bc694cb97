//! Where an alert is: the label values that distinguish the alerts of an incident, the most specific first.

use std::collections::HashSet;

use super::{
    card::alert::{CleanAlert, differing},
    text,
};
use crate::model::Labels;

/// Labels whose values need no name, the most specific first; others are shown as `name=value`.
const TELLING: [&str; 3] = ["instance", "node", "job"];
/// Labels that are shown elsewhere: in front of the place, and as emoji.
const ELSEWHERE: [&str; 2] = ["alertname", "severity"];
/// A place made of more labels is not readable.
const MAX_PARTS: usize = 4;
const MAX_VALUE: usize = 60;

/// Which labels make the places of an incident's alerts.
pub(super) struct Places {
    /// Groups of labels, in the order in which their values are shown.
    parts: Vec<Vec<String>>,
    /// Whether the alerts have several names, so that each place starts with one.
    pub(super) mixed: bool,
}

impl Places {
    pub(super) fn new(alerts: &[CleanAlert<'_>]) -> Self {
        let differing = differing(alerts);
        let mixed = differing.iter().any(|name| name == "alertname");
        let mut parts: Vec<Vec<String>> = Vec::new();
        let mut shown = alerts.iter().map(|_| String::new()).collect::<Vec<_>>();
        let mut apart = 1;
        for part in candidates(&differing, alerts.iter().any(|seen| is_exporter(&seen.labels))) {
            let tried: Vec<String> = alerts
                .iter()
                .zip(&shown)
                .map(|(seen, shown)| format!("{shown}\0{}", value_of(&part, &seen.labels)))
                .collect();
            let distinct = tried.iter().collect::<HashSet<_>>().len();
            // A cluster alone says too little, so another group of labels always follows it.
            let first = parts.iter().all(|taken| taken[0] == "cluster");
            if distinct > apart || first {
                (shown, apart) = (tried, distinct);
                parts.push(part);
            }
            if (apart == alerts.len() && parts.iter().any(|taken| taken[0] != "cluster")) || parts.len() == MAX_PARTS {
                break;
            }
        }
        Self { parts, mixed }
    }

    /// The place of one alert among the others; empty where no label distinguishes it.
    pub(super) fn of(&self, seen: &CleanAlert<'_>) -> String {
        join(self.parts.iter().map(|part| value_of(part, &seen.labels)))
    }
}

/// The place of a single alert and the labels it is made of: namespace and pod, else instance, else node.
pub(super) fn alone(labels: &Labels) -> (String, Vec<&'static str>) {
    let mut order: Vec<&[&'static str]> =
        vec![if labels.contains_key("pod") { &["namespace", "pod"] } else { &["namespace"] }];
    let machines: [&[&'static str]; 2] = [&["instance"], &["node"]];
    if is_exporter(labels) {
        order.splice(0..0, machines);
    } else {
        order.extend(machines);
    }
    for part in order {
        let owned: Vec<String> = part.iter().map(ToString::to_string).collect();
        let value = value_of(&owned, labels);
        if !value.is_empty() {
            return (value, part.to_vec());
        }
    }
    (String::new(), Vec::new())
}

/// The values of `labels` (of a group) as a place.
pub(super) fn all(labels: &Labels) -> String {
    let names: Vec<String> = labels.keys().cloned().collect();
    join(candidates(&names, false).into_iter().take(MAX_PARTS).map(|part| value_of(&part, labels)))
}

/// An exporter reports on another machine; namespace and pod are those of the exporter.
fn is_exporter(labels: &Labels) -> bool {
    labels.get("pod").is_some_and(|pod| pod.contains("exporter"))
        && (labels.contains_key("instance") || labels.contains_key("node"))
}

fn candidates(names: &[String], exporter: bool) -> Vec<Vec<String>> {
    let has = |name: &&str| names.iter().any(|n| n == name);
    let pick = |wanted: &[&str]| wanted.iter().filter(|n| has(n)).map(ToString::to_string).collect::<Vec<_>>();
    let pod = pick(&["namespace", "pod"]);
    let mut order = vec![pick(&["cluster"])];
    if !exporter {
        order.push(pod.clone());
    }
    order.extend(TELLING.iter().map(|name| pick(&[name])));
    if exporter {
        order.push(pod);
    }
    let known = |name: &str| {
        TELLING.contains(&name) || ELSEWHERE.contains(&name) || ["cluster", "namespace", "pod"].contains(&name)
    };
    order.extend(names.iter().filter(|name| !known(name)).map(|name| vec![name.clone()]));
    order.retain(|part| !part.is_empty());
    order
}

/// `media/jellyfin-0`, `controlplane1`, `mountpoint=/`.
fn value_of(part: &[String], labels: &Labels) -> String {
    let bare = |name: &str| TELLING.contains(&name) || ["cluster", "namespace", "pod"].contains(&name);
    let values = part.iter().filter_map(|name| {
        let value = text::show(labels.get(name)?, MAX_VALUE);
        Some(if bare(name) { value } else { format!("{}={value}", text::show(name, MAX_VALUE)) })
    });
    values.collect::<Vec<_>>().join("/")
}

fn join(values: impl Iterator<Item = String>) -> String {
    values.filter(|value| !value.is_empty()).collect::<Vec<_>>().join(" ")
}
