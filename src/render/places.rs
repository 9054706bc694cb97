//! Which thing an alert is about, and where it is. Prometheus puts the labels of what it scrapes beside those of what was measured, so an
//! exporter's pod or address often stands where a person looks for the thing. [`labels_of_thing`] takes away what belongs
//! to the exporter, and [`KINDS`] says which of the rest names the thing. `docs/RENDERING.md` has the table for operators.

use std::collections::{BTreeMap, BTreeSet, HashSet};

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
/// What Prometheus adds of a target. Where the measured thing has a label of that name, it is called `exported_…`.
const OF_TARGET: &[&str] = &["namespace", "pod", "container", "instance", "job", "service", "endpoint", "node"];
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
/// Characters of the longest name of a pod (RFC 1123).
const MAX_POD: usize = 253;
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

/// The labels of what an alert is about, under their own names. `words`: what the alert says, by which an alert about an
/// exporter's own pod is recognised.
pub(super) fn labels_of_thing(labels: &Labels, words: &[String]) -> Labels {
    let mut thing = labels.clone();
    if is_about_target(labels) {
        return thing;
    }
    if rename_exported(&mut thing) {
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
pub(super) fn exported_name(name: &str) -> String {
    format!("exported_{name}")
}

/// Whether an alert is about being scraped, so that the target is the thing.
fn is_about_target(labels: &Labels) -> bool {
    let name = labels.get("alertname").map(|name| name.to_lowercase()).unwrap_or_default();
    ["target", "scrape", "exporterdown", "statemetricsdown"].iter().any(|word| name.contains(word))
}

/// Whether an alert is about the pod in its labels, be it an exporter's.
fn is_about_pod(labels: &Labels, words: &[String]) -> bool {
    let pod = labels.get("pod").map_or("", String::as_str);
    // Longer than any pod's name.
    if pod.is_empty() || pod.len() > MAX_POD || OBJECTS.iter().any(|name| labels.contains_key(*name)) {
        return false;
    }
    let name = labels.get("alertname").map(|name| name.to_lowercase()).unwrap_or_default();
    let is_exporter = [STATE_METRICS, EXPORTER].iter().any(|word| pod.contains(word));
    (is_exporter && ["pod", "container", "crash"].iter().any(|word| name.contains(word)))
        || words.iter().any(|line| text::names(line, pod))
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
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    const STATE_METRICS: [(&str, &str); 7] = [
        ("container", "kube-state-metrics"),
        ("endpoint", "http"),
        ("instance", "10.0.0.7:8080"),
        ("job", "kube-state-metrics"),
        ("pod", "mon-kube-state-metrics-abc-1"),
        ("service", "mon-kube-state-metrics"),
        ("prometheus", "monitoring/mon-prometheus"),
    ];

    fn name(own: &[(&str, &str)], exporter: &[(&str, &str)]) -> String {
        let all = labels(&[exporter, own].concat());
        alone(&labels_of_thing(&all, &[]), &[]).map(|thing| thing.name).unwrap_or_default()
    }

    #[test]
    fn an_alert_names_its_thing_and_not_its_exporter() {
        let shop = ("namespace", "shop");
        for (own, expected) in [
            (vec![shop, ("deployment", "cart")], "shop/cart"),
            (vec![shop, ("statefulset", "db")], "shop/db"),
            (vec![shop, ("daemonset", "log")], "shop/log"),
            (vec![shop, ("job_name", "nightly-29401")], "shop/nightly-29401"),
            (vec![shop, ("cronjob", "nightly")], "shop/nightly"),
            (vec![shop, ("persistentvolumeclaim", "data")], "shop/data"),
            (vec![shop, ("horizontalpodautoscaler", "cart")], "shop/cart"),
            (vec![shop, ("ingress", "web")], "shop/web"),
            (vec![shop, ("pod", "cart-1"), ("container", "app")], "shop/cart-1"),
            (vec![("node", "worker-3")], "worker-3"),
            (vec![shop], "shop"),
            (
                vec![("exported_namespace", "shop"), ("exported_pod", "cart-1"), ("namespace", "monitoring")],
                "shop/cart-1",
            ),
        ] {
            assert_eq!(name(&own, &STATE_METRICS), expected, "{own:?}");
        }
        let own = [("alertname", "KubePodCrashLooping"), ("namespace", "monitoring")];
        assert_eq!(name(&own, &STATE_METRICS), "monitoring/mon-kube-state-metrics-abc-1", "its own crash loop");
    }

    #[test]
    fn an_exporter_speaks_of_the_machine_it_looks_at() {
        let exporter = [("namespace", "monitoring"), ("pod", "node-exporter-x"), ("job", "node-exporter")];
        assert_eq!(name(&[("instance", "10.0.0.4:9100")], &exporter), "10.0.0.4:9100");
        assert_eq!(name(&[("instance", "10.0.0.4:9100"), ("node", "worker-1")], &exporter), "worker-1");
        let app = [("namespace", "shop"), ("pod", "csv-exporter-1"), ("container", "app"), ("job", "kubelet")];
        assert_eq!(name(&[], &app), "shop/csv-exporter-1", "a workload may be called so");
        let kubelet = [("job", "kubelet"), ("instance", "10.0.0.4:10250"), ("service", "mon-kubelet")];
        let claim = [("namespace", "shop"), ("persistentvolumeclaim", "cart-data"), ("node", "worker-3")];
        assert_eq!(name(&claim, &kubelet), "shop/cart-data");
    }

    #[test]
    fn labels_of_the_target_give_way_only_to_what_says_which_thing_it_is() {
        let app = [("namespace", "shop"), ("pod", "cart-1"), ("container", "app"), ("job", "cart")];
        for (own, expected) in [
            (("exported_endpoint", "/pay"), "shop/cart-1"),
            (("exported_bytes", "7"), "shop/cart-1"),
            (("exported_container", "main"), "shop/cart-1"),
            (("exported_service", "shop-web"), "shop-web"),
            (("exported_pod", "db-0"), "db-0"),
            (("exported_job", "nightly"), "nightly"),
        ] {
            assert_eq!(name(&[own], &app), expected, "{own:?}");
        }
        let down = [("alertname", "TargetDown"), ("namespace", "monitoring")];
        let scraped = [("job", "kube-state-metrics"), ("service", "mon-kube-state-metrics")];
        assert_eq!(name(&down, &scraped), "monitoring/kube-state-metrics", "the target is the thing");
    }

    #[test]
    fn long_names_differ_where_they_are_shown() {
        let pod = |end: &str| {
            let pod = format!("opentelemetry-collector-gateway-production-eu-west-6c9f7d8b5c-{end}");
            labels(&[("namespace", "shop"), ("pod", &pod)])
        };
        let (one, other) = (pod("x2k4p"), pod("q9z7m"));
        let places = Places::new(&[(&one, &one), (&other, &other)], &[]);
        assert_eq!(places.parts.len(), 1);
        assert!(places.of(&one, &one).ends_with("-x2k4p") && places.of(&other, &other).ends_with("-q9z7m"));
    }

    /// Beyond what anybody sends, and far from a minute: each label is looked at a few times.
    #[test]
    fn many_labels_cost_no_square() {
        let many: Labels = (0..50_000).map(|n| (format!("label_{n}"), "x".to_owned())).collect();
        let few = labels(&[("alertname", "A")]);
        assert_eq!(Places::new(&[(&few, &many), (&few, &few)], &[]).parts.len(), 1);
    }

    #[test]
    fn one_alert_alone_names_its_thing() {
        for (own, expected) in [
            (vec![("device", "d-17"), ("site", "north")], "device=d-17"),
            (vec![("queue", "mail"), ("instance", "mq:9419")], "queue=mail"),
            (vec![("host", "h1"), ("grafana_folder", "Edge")], "h1"),
            (vec![("namespace", "shop"), ("job", "cart"), ("service", "cart")], "shop/cart"),
            (vec![("service.name", "cart"), ("service.namespace", "shop"), ("host.name", "worker-1")], "shop/cart"),
            (vec![("host.name", "worker-1")], "worker-1"),
            (vec![("vehicle", "v1"), ("wheel", "left"), ("zone", "a")], "vehicle=v1 wheel=left"),
            (vec![("alertname", "A"), ("__uid__", "x")], ""),
        ] {
            assert_eq!(name(&own, &[]), expected, "{own:?}");
        }
        let rules = [vec!["site".to_owned(), "device".to_owned()]];
        let thing = alone(&labels(&[("device", "d-17"), ("site", "north"), ("pod", "p")]), &rules).expect("a thing");
        assert_eq!(thing, Thing { name: "north/d-17".to_owned(), labels: rules[0].clone(), is_known: true });
    }

    #[test]
    fn only_what_is_surely_named_is_said_already() {
        for (text, value, said) in [
            ("Pod media/jellyfin-0 is crash looping", "jellyfin-0", true),
            ("Memory of web-1:9100 is nearly used up", "web-1:9100", true),
            ("Memory of web-1 is nearly used up.", "web-1:9100", true),
            ("Memory of web-1.", "web-1", true),
            ("Memory of web-10 is nearly used up", "web-1:9100", false),
            ("Memory of my-web-1 is nearly used up", "web-1", false),
            ("web-1.example.org is down", "web-1", false),
            ("HTTPS probe failed", "https://shop.example.org", false),
            ("shop.example.org does not answer", "https://shop.example.org/health", true),
            ("No master answers", "master", false),
            ("A node is down", "node", false),
            ("3 replicas are missing", "3", false),
        ] {
            assert_eq!(is_said(text, "node", value), said, "{text} {value}");
        }
        assert!(is_said("checkout is slow", "service", "checkout") && !is_said("out", "service", "checkout"));
    }
}
