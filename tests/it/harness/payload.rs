//! Webhook payloads as Alertmanager builds them, and captured ones.

use std::{collections::BTreeMap, sync::OnceLock};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

/// What Alertmanager writes as the end of a firing alert.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

type Labels = BTreeMap<String, String>;

/// A moment relative to one that is fixed for the test process (five minutes before its first payload), so that an alert
/// built twice has one `startsAt`.
pub fn at(seconds: i64) -> Timestamp {
    static EPOCH: OnceLock<Timestamp> = OnceLock::new();
    let epoch = *EPOCH.get_or_init(|| Timestamp::now() - SignedDuration::from_mins(5));
    epoch + SignedDuration::from_secs(seconds)
}

/// A captured payload: `tests/fixtures/payloads/NAME.json`.
pub fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/payloads/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// As Prometheus hashes labels: FNV-1a over names and values, each ended by the byte 255.
pub fn fingerprint(labels: &Labels) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in labels.iter().flat_map(|(name, value)| [name, value]) {
        for byte in part.bytes().chain([255]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

/// One alert of a payload.
#[derive(Debug, Clone)]
pub struct Alert {
    labels: Labels,
    annotations: Labels,
    starts_at: Timestamp,
    /// `None` while it fires.
    ends_at: Option<Timestamp>,
    generator_url: String,
}

impl Alert {
    /// Fires since `at(0)`, with severity "warning".
    pub fn firing(instance: &str) -> Self {
        let (labels, annotations) = (Labels::new(), Labels::new());
        let generator_url = "http://prometheus.example:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1".to_owned();
        let alert = Self { labels, annotations, starts_at: at(0), ends_at: None, generator_url };
        let summary = format!("summary of {instance}");
        alert.label("instance", instance).label("severity", "warning").annotation("summary", &summary)
    }

    /// Fired since `at(0)`, ended at `at(120)`.
    pub fn resolved(instance: &str) -> Self {
        Self { ends_at: Some(at(120)), ..Self::firing(instance) }
    }

    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn critical(self) -> Self {
        self.label("severity", "critical")
    }

    /// Where Prometheus would show the rule's expression.
    pub fn generator_url(mut self, url: &str) -> Self {
        url.clone_into(&mut self.generator_url);
        self
    }

    pub fn started(mut self, at: Timestamp) -> Self {
        self.starts_at = at;
        self
    }

    pub fn ended(mut self, at: Timestamp) -> Self {
        self.ends_at = Some(at);
        self
    }

    fn json(&self) -> Value {
        json!({
            "status": if self.ends_at.is_some() { "resolved" } else { "firing" },
            "labels": self.labels,
            "annotations": self.annotations,
            "startsAt": self.starts_at.to_string(),
            "endsAt": self.ends_at.map_or_else(|| ZERO_TIME.to_owned(), |at| at.to_string()),
            "generatorURL": self.generator_url,
            "fingerprint": fingerprint(&self.labels),
        })
    }
}

/// One webhook: a group and its alerts.
#[derive(Debug, Clone)]
pub struct Payload {
    receiver: String,
    group_labels: Labels,
    alerts: Vec<Alert>,
    truncated: u64,
    reason: Option<String>,
    route: String,
    external_url: String,
    extra: Map<String, Value>,
}

impl Payload {
    /// The group of all alerts of this name; they get the group's labels.
    pub fn group(alertname: &str) -> Self {
        Self {
            receiver: "matrix".to_owned(),
            group_labels: Labels::from([("alertname".to_owned(), alertname.to_owned())]),
            alerts: Vec::new(),
            truncated: 0,
            reason: None,
            route: "{}".to_owned(),
            external_url: "http://alertmanager.example:9093".to_owned(),
            extra: Map::new(),
        }
    }

    /// One more label that alerts are grouped by.
    pub fn group_label(mut self, name: &str, value: &str) -> Self {
        self.group_labels.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn alert(mut self, alert: Alert) -> Self {
        self.alerts.push(alert);
        self
    }

    /// A firing alert for each of these instances.
    pub fn firing(self, instances: &[&str]) -> Self {
        instances.iter().fold(self, |payload, instance| payload.alert(Alert::firing(instance)))
    }

    /// A resolved alert for each of these instances.
    pub fn resolved(self, instances: &[&str]) -> Self {
        instances.iter().fold(self, |payload, instance| payload.alert(Alert::resolved(instance)))
    }

    pub fn receiver(mut self, name: &str) -> Self {
        name.clone_into(&mut self.receiver);
        self
    }

    /// How many alerts `max_alerts` left out.
    pub fn truncated(mut self, alerts: u64) -> Self {
        self.truncated = alerts;
        self
    }

    /// `notification_reason`, which Alertmanager sends since 0.32 ("repeat interval elapsed").
    pub fn reason(mut self, reason: &str) -> Self {
        self.reason = Some(reason.to_owned());
        self
    }

    /// The matchers of the Alertmanager route, the group key's first half.
    pub fn alertmanager_route(mut self, matchers: &str) -> Self {
        matchers.clone_into(&mut self.route);
        self
    }

    /// As a peer of an Alertmanager cluster is called.
    pub fn external_url(mut self, url: &str) -> Self {
        url.clone_into(&mut self.external_url);
        self
    }

    /// Any other field of the envelope; replaces one that is there.
    pub fn field(mut self, name: &str, value: Value) -> Self {
        self.extra.insert(name.to_owned(), value);
        self
    }

    pub fn group_key(&self) -> String {
        let labels: Vec<_> = self.group_labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        format!("{}:{{{}}}", self.route, labels.join(", "))
    }

    pub fn json(&self) -> Value {
        let mut alerts = self.alerts.clone();
        for alert in &mut alerts {
            alert.labels.extend(self.group_labels.clone());
        }
        // Alertmanager's order: job, instance, then all labels.
        alerts.sort_by_cached_key(|alert| {
            let label = |name: &str| alert.labels.get(name).cloned().unwrap_or_default();
            (label("job"), label("instance"), alert.labels.clone())
        });
        let firing = alerts.iter().any(|alert| alert.ends_at.is_none());
        let mut json = json!({
            "receiver": self.receiver,
            "status": if firing { "firing" } else { "resolved" },
            "alerts": alerts.iter().map(Alert::json).collect::<Vec<_>>(),
            "groupLabels": self.group_labels,
            "commonLabels": common(alerts.iter().map(|alert| &alert.labels)),
            "commonAnnotations": common(alerts.iter().map(|alert| &alert.annotations)),
            "externalURL": self.external_url,
            "version": "4",
            "groupKey": self.group_key(),
            "truncatedAlerts": self.truncated,
        });
        if let Some(reason) = &self.reason {
            json["notification_reason"] = json!(reason);
        }
        json.as_object_mut().expect("an object").extend(self.extra.clone());
        json
    }
}

impl From<&Payload> for Value {
    fn from(payload: &Payload) -> Self {
        payload.json()
    }
}

impl From<Payload> for Value {
    fn from(payload: Payload) -> Self {
        payload.json()
    }
}

/// What all have alike.
fn common<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Labels {
    let mut common = sets.next().cloned().unwrap_or_default();
    for set in sets {
        common.retain(|name, value| set.get(name) == Some(value));
    }
    common
}
