//! The alarm of a switch as a notification that the rules of incidents take like any other.

use crate::{
    config::Display,
    intake::{
        reconcile::{Rules, found, reconcile},
        webhook::{ListedAlert, NotificationReason, Webhook},
    },
    model::{
        AlertDoc, AlertState, Changes, Conclusion, Found, HEARTBEATS, IncidentWrite, Known, Labels, Switch, Timestamp,
    },
};

/// The `alertname` of the alert that a missing heartbeat is.
pub const ALERTNAME: &str = "HeartbeatMissing";
const FINGERPRINT: &str = "heartbeat";

/// What a missing heartbeat is shown with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarm {
    /// What the card says of it.
    pub annotations: Labels,
}

/// What it changes that the heartbeat is missing; the same again reminds like any notification that repeats.
#[must_use]
pub fn alarm(switch: &Switch, known: Option<&Known>, alarm: Alarm, rules: &Rules<'_>, now: Timestamp) -> Changes {
    let open = known.filter(|known| known.incident.state.is_open());
    let doc = match open.and_then(|known| known.incident.alerts.first()) {
        Some(alert) => alert.doc.clone(),
        None => {
            AlertDoc { labels: labels_of(switch, rules.display), annotations: alarm.annotations, ..AlertDoc::default() }
        }
    };
    // After the last beat: this silence is not the one that ended with it.
    let starts_at = Some(switch.beat_at.moved(rules.ahead).moved(1));
    reconcile(known, &webhook(switch, rules, ListedAlert { starts_at, ..listed(true, doc) }), rules, now)
}

/// What it changes that beats are back, which `said` describes; `None`: there is nothing to end.
#[must_use]
pub fn is_back(
    switch: &Switch,
    known: Option<&Known>,
    said: Labels,
    rules: &Rules<'_>,
    now: Timestamp,
) -> Option<Changes> {
    let known = known?;
    let alert = known.incident.alerts.first().filter(|alert| alert.state != AlertState::Resolved)?;
    let ends_at = Some(switch.beat_at.moved(rules.ahead));
    let mut doc = alert.doc.clone();
    doc.annotations.extend(said);
    let listed = ListedAlert { starts_at: Some(alert.starts_at), ends_at, ..listed(false, doc) };
    let changes = reconcile(Some(known), &webhook(switch, rules, listed), rules, now);
    (changes.write == IncidentWrite::Update).then_some(changes)
}

/// What it changes that the heartbeat is not watched any more, which `said` describes; `None`: there is nothing to end.
#[must_use]
pub fn end(known: Option<&Known>, said: &Labels, rules: &Rules<'_>, now: Timestamp) -> Option<Changes> {
    let incident = known.map(|known| &known.incident).filter(|incident| incident.state.is_open())?;
    let gone = |fingerprint: &String| Found {
        fingerprint: fingerprint.clone(),
        conclusion: Conclusion::Gone,
        starts_at: None,
    };
    let all: Vec<Found> = incident.alerts.iter().map(|alert| gone(&alert.fingerprint)).collect();
    let mut changes = found(incident, &all, rules.display, rules.ahead, now)?;
    for alert in &mut changes.alerts {
        alert.doc.annotations.extend(said.clone());
    }
    Some(changes)
}

fn labels_of(switch: &Switch, display: &Display) -> Labels {
    let mut labels = switch.key.labels.clone();
    labels.retain(|_, value| !value.is_empty());
    labels.insert("alertname".to_owned(), ALERTNAME.to_owned());
    labels.insert("heartbeat".to_owned(), switch.key.name.clone());
    // The most severe one: until it beats again, nobody hears of anything else.
    if let Some(severity) = display.severities.first().and_then(|severity| severity.names.first()) {
        labels.insert("severity".to_owned(), severity.clone());
    }
    labels
}

fn listed(firing: bool, doc: AlertDoc) -> ListedAlert {
    ListedAlert { fingerprint: FINGERPRINT.to_owned(), firing, starts_at: None, ends_at: None, doc }
}

fn webhook(switch: &Switch, rules: &Rules<'_>, alert: ListedAlert) -> Webhook {
    Webhook {
        receiver: HEARTBEATS.to_owned(),
        group_key: switch.key.identity(),
        group_labels: labels_of(switch, rules.display),
        external_url: String::new(),
        truncated: 0,
        reason: NotificationReason::RepeatInterval,
        alerts: vec![alert],
        odd: 0,
        // Never taken for a repeat: what it repeats is known by its state.
        content_hash: String::new(),
    }
}
