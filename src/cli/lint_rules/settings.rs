//! What is required of rules.

use std::collections::BTreeSet;

use url::Url;

use super::faults::Code;
use crate::config::Display;

/// Labels of alerts from Kubernetes and common exporters.
const LABELS: [&str; 28] = [
    "cluster",
    "code",
    "container",
    "cronjob",
    "daemonset",
    "deployment",
    "device",
    "endpoint",
    "exported_namespace",
    "exported_pod",
    "horizontalpodautoscaler",
    "hostname",
    "instance",
    "integration",
    "job",
    "job_name",
    "mountpoint",
    "name",
    "namespace",
    "node",
    "nodename",
    "persistentvolumeclaim",
    "pod",
    "replicaset",
    "rule_group",
    "service",
    "statefulset",
    "unit",
];

/// The severity of kube-prometheus' Watchdog, which is not routed to rooms.
const NO_SEVERITY: &str = "none";

/// The requirements for rules.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) grafana: Option<Url>,
    pub(super) datasource: Option<String>,
    /// The known labels, for rules whose expression does not say which labels exist.
    pub(super) labels: BTreeSet<String>,
    /// Compared without regard to case.
    pub(super) severities: Vec<String>,
    /// Codes of faults that are neither reported nor corrected.
    pub(super) ignored: BTreeSet<String>,
}

impl Settings {
    pub(super) fn ignores(&self, code: Code) -> bool {
        self.ignored.contains(code.as_str())
    }

    /// The built-in names and those of `display`, plus `labels` and `severities` of the command line.
    pub(super) fn new(display: Display, labels: &[String], severities: &[String]) -> Self {
        let names = display.severities.into_iter().flat_map(|severity| severity.names);
        Self {
            grafana: None,
            datasource: None,
            ignored: BTreeSet::new(),
            labels: LABELS.map(str::to_owned).into_iter().chain(labels.iter().cloned()).collect(),
            severities: names.chain([NO_SEVERITY.to_owned()]).chain(severities.iter().cloned()).collect(),
        }
    }
}
