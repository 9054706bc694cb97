//! Storms for tests: many incidents, each with its own id.

use super::samples::{alert, at, incident, resolved};
use crate::model::{Alert, Incident, IncidentId};

/// Incident `number` of these alerts, open since 12:31 or as long as its alerts say.
pub(super) fn nth(number: usize, alerts: Vec<Alert>) -> Incident {
    let mut incident = incident(alerts);
    incident.id = IncidentId(format!("01INCIDENT{number:04}"));
    incident.opened_at = at(12, 31);
    incident
}

/// An alert since 12:31.
pub(super) fn since(mut alert: Alert) -> Alert {
    (alert.starts_at, alert.changed_at) = (at(12, 31), at(12, 31));
    alert
}

fn one(number: usize, name: &str, severity: &str, place: &[(&str, &str)], what: &str) -> Incident {
    nth(number, vec![firing(&number.to_string(), name, severity, place, what)])
}

pub(super) fn firing(fingerprint: &str, name: &str, severity: &str, place: &[(&str, &str)], what: &str) -> Alert {
    let mut labels = vec![("alertname", name), ("severity", severity)];
    labels.extend(place);
    let logs = format!("https://grafana.example.org/explore?name={name}");
    since(alert(fingerprint, &labels, &[("summary", what), ("logs_url", &logs)]))
}

/// CARDS, a digest: nine incidents, of which the page shows three.
pub(super) fn nine() -> Vec<Incident> {
    let pod = |n: usize| {
        let pod = format!("jellyfin-{n}");
        let place = [("namespace", "media"), ("pod", &*pod)];
        firing(&pod, "PodCrashLooping", "critical", &place, "restarted 5 times in 15 min")
    };
    let gone = firing("9", "TargetDown", "info", &[("job", "node-exporter")], "");
    let mut gone = nth(8, vec![resolved(gone, at(12, 34))]);
    gone.closed_at = Some(at(12, 34));
    vec![
        one(5, "NodeClockSkew", "warning", &[("instance", "controlplane3:9100")], "clock is off by 2 s"),
        gone,
        one(2, "ArgoCDAppOutOfSync", "warning", &[("namespace", "cert-manager")], ""),
        nth(1, (0..12).map(pod).collect()),
        one(3, "PVCFillingUp", "warning", &[("namespace", "monitoring"), ("pod", "prometheus-0")], "97% used"),
        one(0, "KubeNodeNotReady", "critical", &[("node", "controlplane2")], "node has been unready for 15 min"),
        one(4, "CertificateExpiry", "warning", &[("namespace", "ingress")], "expires in 6 d"),
        one(6, "BackupLate", "info", &[("job", "restic")], "last backup is 26 h old"),
        one(7, "Unusual", "", &[("node", "worker1")], ""),
    ]
}

const NAMES: [&str; 8] = [
    "KubePodCrashLooping",
    "KubeDeploymentReplicasMismatch",
    "KubePodNotReady",
    "KubeStatefulSetReplicasMismatch",
    "TargetDown",
    "KubeJobFailed",
    "KubeContainerWaiting",
    "KubePersistentVolumeFillingUp",
];
const NAMESPACES: [&str; 10] = [
    "media",
    "monitoring",
    "cert-manager",
    "ingress-nginx",
    "argocd",
    "home-assistant",
    "databases",
    "kube-system",
    "observability",
    "longhorn-system",
];

/// `count` groups of `size` alerts each, as a failed node gives them: every twentieth is critical, each with a link to
/// its logs as Grafana writes them.
pub(super) fn storm(count: usize, size: usize) -> Vec<Incident> {
    (0..count).map(|number| group(number, size)).collect()
}

fn group(number: usize, size: usize) -> Incident {
    let (name, namespace) = (NAMES[number % 8], NAMESPACES[(number / 8) % 10]);
    let severity = if number % 20 == 7 { "critical" } else { "warning" };
    let alert = |n: usize| {
        let pod = format!("app{}-{n}", number / 4);
        let what = format!("{pod} has not been well for longer than 15 minutes");
        let mut alert =
            firing(&format!("{number}-{n}"), name, severity, &[("namespace", namespace), ("pod", &pod)], &what);
        let logs = format!(
            "https://grafana.example.org/explore?schemaVersion=1&panes=%7B%22a%22%3A%7B%22datasource%22%3A%22loki%22%2C\
             %22queries%22%3A%5B%7B%22expr%22%3A%22%7Bnamespace%3D%5C%22{namespace}%5C%22%2Cpod%3D%5C%22{pod}%5C%22%7D%22%7D\
             %5D%2C%22range%22%3A%7B%22from%22%3A%221795350000000%22%2C%22to%22%3A%22now%22%7D%7D%7D&orgId=1"
        );
        alert.doc.annotations.insert("logs_url".to_owned(), logs);
        alert.doc.labels.insert("app".to_owned(), format!("app{}", number / 4));
        alert
    };
    nth(number, (0..size).map(alert).collect())
}

/// The same incidents, resolved one after another.
pub(super) fn over(incidents: Vec<Incident>) -> Vec<Incident> {
    let end = |(number, one): (usize, Incident)| {
        let ended = at(12, 40 + i64::try_from(number % 14).unwrap());
        let alerts = one.alerts.into_iter().map(|alert| resolved(alert, ended)).collect();
        let mut over = nth(number, alerts);
        (over.id, over.closed_at) = (one.id, Some(ended));
        over
    };
    incidents.into_iter().enumerate().map(end).collect()
}
