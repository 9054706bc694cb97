//! Which labels of an alert are those of the thing, and which are those of what Prometheus scraped to know of it.

use crate::{model::Labels, render::text};

/// What Prometheus adds of a target. Where the measured thing has a label of that name, it is called `exported_…`.
const OF_TARGET: &[&str] = &["namespace", "pod", "container", "instance", "job", "service", "endpoint", "node"];

/// Objects of a cluster other than pods; an alert that names one is about that.
const OBJECTS: &[&str] = &[
    "persistentvolumeclaim",
    "job_name",
    "cronjob",
    "statefulset",
    "daemonset",
    "deployment",
    "replicaset",
    "horizontalpodautoscaler",
    "poddisruptionbudget",
    "ingress",
];

const STATE_METRICS: &str = "kube-state-metrics";

const EXPORTER: &str = "exporter";

const KUBELET: &str = "kubelet";

/// Characters of the longest name of a pod (RFC 1123).
const MAX_POD: usize = 253;

/// The labels of what an alert is about, under their own names. `words`: what the alert says, by which an alert about an
/// exporter's own pod is recognised.
pub(in crate::render) fn labels_of_thing(labels: &Labels, words: &[String]) -> Labels {
    let mut thing = labels.clone();
    if is_about_target(labels) {
        return thing;
    }
    if rename_exported(&mut thing) {
        return thing;
    }
    if labels.get("job").is_some_and(|job| job == KUBELET) && is_about_object(labels) {
        // The kubelet measures what runs on its node, and says of it where the kubelet itself is.
        for name in ["instance", "job", "service", "endpoint"] {
            thing.remove(name);
        }
        return thing;
    }
    let is = |name: &str, word: &str| labels.get(name).is_some_and(|value| value.contains(word));
    let any_is = |names: &[&str], word: &str| names.iter().any(|name| is(name, word));
    let state_metrics = any_is(&["pod", "container", "job", "service"], STATE_METRICS);
    // A workload may be called so as well: how it is scraped tells.
    let scraped = ["container", "job", "service"].iter().any(|name| labels.contains_key(*name));
    let exporter = any_is(&["container", "job", "service"], EXPORTER) || (!scraped && is("pod", EXPORTER));
    if !state_metrics && !exporter || is_about_pod(labels, words) {
        return thing;
    }
    let own = if state_metrics { STATE_METRICS } else { EXPORTER };
    for name in ["pod", "container"] {
        if is(name, own) {
            thing.remove(name);
        }
    }
    if state_metrics {
        // Its objects have their own namespace.
        for name in ["instance", "job", "service", "endpoint"] {
            thing.remove(name);
        }
    } else if labels.contains_key("pod") && !thing.contains_key("pod") {
        // An exporter speaks of the machine or service at `instance`; its namespace is where it runs itself.
        thing.remove("namespace");
    }
    thing
}

/// Gives labels `exported_…` their plain names in place of the target's. Whether one of them says which thing it is: then
/// the target's other labels are gone.
fn rename_exported(thing: &mut Labels) -> bool {
    let exported: Vec<&str> =
        OF_TARGET.iter().copied().filter(|name| thing.contains_key(&exported_name(name))).collect();
    let identifies = exported.iter().any(|name| !["container", "endpoint"].contains(name));
    if identifies {
        thing.retain(|name, _| !OF_TARGET.contains(&name.as_str()));
    }
    // A job keeps its long name: one that was pushed is a thing, and how something was scraped is none.
    for name in exported.into_iter().filter(|name| *name != "job") {
        if let Some(value) = thing.remove(&exported_name(name)) {
            thing.insert(name.to_owned(), value);
        }
    }
    identifies
}

/// What Prometheus calls a label of the measured thing whose name the target has as well.
pub(in crate::render) fn exported_name(name: &str) -> String {
    format!("exported_{name}")
}

/// Whether an alert is about being scraped, so that the target is the thing.
fn is_about_target(labels: &Labels) -> bool {
    let name = labels.get("alertname").map(|name| name.to_lowercase()).unwrap_or_default();
    ["target", "scrape", "exporterdown", "statemetricsdown"].iter().any(|word| name.contains(word))
}

fn names_object(labels: &Labels) -> bool {
    OBJECTS.iter().any(|name| labels.contains_key(*name))
}

/// Whether an alert is about a pod or another object of the cluster.
fn is_about_object(labels: &Labels) -> bool {
    labels.contains_key("pod") || names_object(labels)
}

/// Whether an alert is about the pod in its labels, be it an exporter's.
fn is_about_pod(labels: &Labels, words: &[String]) -> bool {
    let pod = labels.get("pod").map_or("", String::as_str);
    // Longer than any pod's name.
    if pod.is_empty() || pod.len() > MAX_POD || names_object(labels) {
        return false;
    }
    let name = labels.get("alertname").map(|name| name.to_lowercase()).unwrap_or_default();
    let is_exporter = [STATE_METRICS, EXPORTER].iter().any(|word| pod.contains(word));
    (is_exporter && ["pod", "container", "crash"].iter().any(|word| name.contains(word)))
        || words.iter().any(|line| text::names(line, pod))
}
