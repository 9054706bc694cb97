//! Incidents for tests.

use crate::{
    config,
    model::{
        Alert, AlertDoc, AlertState, CardId, Incident, IncidentDoc, IncidentId, IncidentKey, IncidentState, Labels,
        LeftOut, Note, NoteArgs, NoteKind, NotificationId, RouteName, Timestamp,
    },
    render::Style,
};

/// 2026-11-22 00:00 UTC.
const DAY: i64 = 1_795_305_600_000;

/// A time of 22 November 2026.
pub(super) fn at(hour: i64, minute: i64) -> Timestamp {
    Timestamp(DAY + (hour * 60 + minute) * 60_000)
}

pub(super) fn style() -> Style {
    Style::new(&config::Display::default(), &config::Links::default()).unwrap()
}

pub(super) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A firing alert since 12:03.
pub(super) fn alert(fingerprint: &str, pairs: &[(&str, &str)], annotations: &[(&str, &str)]) -> Alert {
    Alert {
        fingerprint: fingerprint.to_owned(),
        state: AlertState::Firing,
        starts_at: at(12, 3),
        ends_at: None,
        absent_since: None,
        changed_at: at(12, 3),
        seen: None,
        doc: AlertDoc { labels: labels(pairs), annotations: labels(annotations), ..AlertDoc::default() },
    }
}

pub(super) fn resolved(mut alert: Alert, ends_at: Timestamp) -> Alert {
    alert.state = AlertState::Resolved;
    alert.ends_at = Some(ends_at);
    alert.changed_at = ends_at;
    alert
}

pub(super) fn absent(mut alert: Alert, since: Timestamp) -> Alert {
    alert.state = AlertState::Absent;
    alert.absent_since = Some(since);
    alert.changed_at = since;
    alert
}

/// The open incident of these alerts, or the resolved one if all of them are.
pub(super) fn incident(alerts: Vec<Alert>) -> Incident {
    let any = |state| alerts.iter().any(|alert| alert.state == state);
    let state = if any(AlertState::Firing) {
        IncidentState::Firing
    } else if any(AlertState::Absent) {
        IncidentState::Quiet
    } else {
        IncidentState::Resolved
    };
    let rank = |alert: &Alert| config::Display::default().rank(alert.doc.labels.get("severity").map(String::as_str));
    Incident {
        id: IncidentId("01INCIDENT".to_owned()),
        key: IncidentKey {
            route: RouteName::parse("default").unwrap(),
            receiver: "matrix".to_owned(),
            group_key: "{}:{}".to_owned(),
        },
        state,
        severity: alerts.iter().map(rank).min().unwrap_or(3),
        opened_at: at(12, 3),
        last_notified_at: at(12, 25),
        closed_at: (state == IncidentState::Resolved).then(|| at(12, 25)),
        flaps: 0,
        rev: 1,
        notification: NotificationId("01NOTIFICATION".to_owned()),
        doc: IncidentDoc { external_url: "https://alertmanager.example.org".to_owned(), ..IncidentDoc::default() },
        alerts,
        left_out: LeftOut::default(),
        taken: Vec::new(),
    }
}

pub(super) fn note(kind: NoteKind, fingerprints: &[&str]) -> Note {
    Note {
        id: 1,
        card: CardId("01CARD".to_owned()),
        incident: IncidentId("01INCIDENT".to_owned()),
        kind,
        at: at(14, 25),
        notification: NotificationId("01NOTIFICATION".to_owned()),
        args: NoteArgs {
            fingerprints: fingerprints.iter().map(ToString::to_string).collect(),
            flaps: 0,
            gap_ms: None,
            step: None,
        },
    }
}

/// CARDS, one alert firing.
pub(super) fn crash_loop() -> Incident {
    let mut alert = alert(
        "a1",
        &[
            ("alertname", "PodCrashLooping"),
            ("severity", "critical"),
            ("namespace", "media"),
            ("pod", "jellyfin-0"),
            ("container", "jellyfin"),
        ],
        &[
            ("summary", "Pod media/jellyfin-0 is crash looping"),
            ("description", "Restarted 5 times in the last 15 minutes."),
            ("runbook_url", "https://runbooks.example.org/crash"),
            ("logs_url", "https://grafana.example.org/explore?left={\"expr\":\"{pod=\\\"jellyfin-0\\\"}\"}"),
        ],
    );
    alert.doc.generator_url = "https://prometheus.example.org/graph?g0.expr=x".to_owned();
    incident(vec![alert])
}

/// CARDS, several alerts.
pub(super) fn disk_pressure() -> Incident {
    let node = |number: u32, left: &str| {
        let name = format!("controlplane{number}");
        let mut alert = alert(
            &name,
            &[
                ("alertname", "NodeDiskPressure"),
                ("severity", "warning"),
                ("cluster", "the-cluster"),
                ("mountpoint", "/"),
                ("job", "node-exporter"),
                ("instance", &name),
            ],
            &[
                ("summary", &format!("disk usage above 90%, only {left} remaining")),
                ("runbook_url", "https://runbooks.example.org/disk"),
                ("logs_url", &format!("https://grafana.example.org/explore?node={name}")),
            ],
        );
        alert.doc.generator_url = "https://prometheus.example.org/graph?g0.expr=x".to_owned();
        alert
    };
    let mut first = node(1, "7.1%");
    first.changed_at = at(12, 24);
    let mut fourth = node(4, "8.8%");
    (fourth.starts_at, fourth.changed_at) = (at(12, 20), at(12, 20));
    incident(vec![first, resolved(node(2, "5%"), at(12, 17)), absent(node(3, "5%"), at(12, 20)), fourth])
}

/// CARDS, resolved.
pub(super) fn api_down() -> Incident {
    let mut alert = alert(
        "k1",
        &[("alertname", "KubeAPIDown"), ("severity", "critical"), ("job", "apiserver")],
        &[
            ("summary", "KubeAPI has disappeared from Prometheus target discovery"),
            ("description", "KubeAPI has disappeared from Prometheus target discovery."),
            ("logs_url", "https://grafana.example.org/explore"),
        ],
    );
    alert.doc.generator_url = "https://prometheus.example.org/graph?g0.expr=x".to_owned();
    incident(vec![resolved(alert, at(12, 25))])
}
