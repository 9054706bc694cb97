//! Payloads that a real Alertmanager sent.

use serde_json::Value;

use super::rendered::card;
use super::{
    check::show,
    samples::{self, incident, style},
};
use crate::model::{Alert, AlertDoc, AlertState, Form, Incident, IncidentState, Labels, Timestamp};

fn time(value: &Value) -> Timestamp {
    Timestamp(value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn labels(value: &Value) -> Labels {
    serde_json::from_value(value.clone()).unwrap()
}

fn from_payload(name: &str) -> Incident {
    from_fixture(&format!("payloads/{name}.json"))
}

/// The incident that a file below tests/fixtures/ opens.
pub(super) fn from_fixture(name: &str) -> Incident {
    let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let payload: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let alerts = payload["alerts"].as_array().unwrap().iter().map(|alert| {
        let firing = alert["status"] == "firing";
        let starts_at = time(&alert["startsAt"]);
        Alert {
            fingerprint: alert["fingerprint"].as_str().unwrap().to_owned(),
            state: if firing { AlertState::Firing } else { AlertState::Resolved },
            starts_at,
            ends_at: (!firing).then(|| time(&alert["endsAt"])),
            absent_since: None,
            changed_at: starts_at,
            seen: None,
            doc: AlertDoc {
                labels: labels(&alert["labels"]),
                annotations: labels(&alert["annotations"]),
                generator_url: alert["generatorURL"].as_str().unwrap().to_owned(),
                ..AlertDoc::default()
            },
        }
    });
    let mut incident = incident(alerts.collect());
    incident.alerts.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
    incident.doc.group_labels = labels(&payload["groupLabels"]);
    incident.doc.external_url = payload["externalURL"].as_str().unwrap().to_owned();
    incident.doc.truncated = payload["truncatedAlerts"].as_u64().unwrap_or_default();
    if incident.doc.truncated > 0 && incident.state == IncidentState::Resolved {
        incident.state = IncidentState::Unlisted;
    }
    incident
}

macro_rules! payload {
    ($($test:ident: $name:literal)*) => {$(
        #[test]
        fn $test() {
            let incident = from_payload($name);
            let message = card(&style(), &incident, Some(samples::at(18, 20)), samples::at(18, 30), Form::Full);
            insta::assert_snapshot!(show(&message));
        }
    )*};
}

payload! {
    firing_single: "webhook-firing-single"
    resolved_single: "webhook-resolved-single"
    truncated: "webhook-max_alerts10-truncated20"
    mixed: "webhook-mixed-20firing-10resolved"
    prometheus_firing: "webhook-prom-firing30"
    prometheus_resolved: "webhook-prom-resolved30"
}
