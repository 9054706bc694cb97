//! A hash of a webhook's content, so that a repeat is recognised without comparing every stored alert.

use sha2::{Digest as _, Sha256};

use super::webhook::{ListedAlert, NotificationReason, Webhook};
use crate::model::{AlertDoc, Labels, Timestamp};

/// Two webhooks have the same hash if reconciling them would change and store the same, and practically only then.
pub fn of(webhook: &Webhook) -> String {
    let mut hash = Sha256::new();
    text(&mut hash, &webhook.external_url);
    labels(&mut hash, &webhook.group_labels);
    hash.update(webhook.truncated.to_le_bytes());
    hash.update([u8::from(webhook.reason == NotificationReason::AllResolved)]);
    hash.update(webhook.alerts.len().to_le_bytes());
    for alert in &webhook.alerts {
        listed(&mut hash, alert);
    }
    hex::encode(&hash.finalize()[..16])
}

fn listed(hash: &mut Sha256, alert: &ListedAlert) {
    // The rules fill in `starts_at` of the doc. All fields are named, so that a new one cannot be forgotten here.
    let ListedAlert { fingerprint, firing, starts_at, ends_at, doc } = alert;
    let AlertDoc {
        labels: own,
        annotations,
        generator_url,
        starts_at: _,
        dashboard_url,
        panel_url,
        silence_url,
        values,
    } = doc;
    hash.update([u8::from(*firing)]);
    for at in [starts_at, ends_at] {
        hash.update(at.unwrap_or(Timestamp(i64::MIN)).0.to_le_bytes());
    }
    for part in [fingerprint, generator_url, dashboard_url, panel_url, silence_url, values] {
        text(hash, part);
    }
    labels(hash, own);
    labels(hash, annotations);
}

fn labels(hash: &mut Sha256, labels: &Labels) {
    hash.update(labels.len().to_le_bytes());
    for (name, value) in labels {
        text(hash, name);
        text(hash, value);
    }
}

/// Hashes the length as well, so that different lists of texts never look alike.
fn text(hash: &mut Sha256, text: &str) {
    hash.update(text.len().to_le_bytes());
    hash.update(text);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::intake::decode::decode;

    fn hash_of(change: impl FnOnce(&mut Value)) -> String {
        let mut body = json!({
            "receiver": "r", "groupKey": "g", "externalURL": "http://a", "groupLabels": { "alertname": "A" },
            "truncatedAlerts": 0, "notification_reason": "first notification",
            "alerts": [{
                "status": "firing", "fingerprint": "f", "labels": { "pod": "p" }, "annotations": { "summary": "s" },
                "startsAt": "2026-11-22T12:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://g"
            }, { "status": "resolved", "fingerprint": "h", "endsAt": "2026-11-22T12:00:00Z" }]
        });
        change(&mut body);
        decode(body.to_string().as_bytes()).expect("a webhook").content_hash
    }

    #[test]
    fn a_repeat_has_the_same_hash() {
        let first = hash_of(|_| {});
        assert_eq!(first, hash_of(|body| body["notification_reason"] = json!("repeat interval elapsed")));
        assert_eq!(first, hash_of(|body| body["status"] = json!("resolved")));
        assert_eq!(first, hash_of(|body| body["alerts"].as_array_mut().expect("alerts").reverse()));
    }

    #[test]
    fn all_that_is_stored_or_decides_changes_it() {
        let first = hash_of(|_| {});
        for (path, value) in [
            ("/externalURL", json!("http://b")),
            ("/groupLabels/alertname", json!("B")),
            ("/truncatedAlerts", json!(1)),
            ("/notification_reason", json!("all alerts resolved")),
            ("/alerts/0/status", json!("resolved")),
            ("/alerts/0/fingerprint", json!("e")),
            ("/alerts/0/labels/pod", json!("q")),
            ("/alerts/0/labels", json!({ "pod": "p", "x": "" })),
            ("/alerts/0/annotations/summary", json!("t")),
            ("/alerts/0/startsAt", json!("2026-11-22T12:00:01Z")),
            ("/alerts/0/generatorURL", json!("http://h")),
            ("/alerts/1/endsAt", json!("2026-11-22T12:00:01Z")),
            ("/alerts/1", json!({ "status": "firing", "fingerprint": "i" })),
        ] {
            let changed = hash_of(|body| *body.pointer_mut(path).expect("a place") = value);
            assert_ne!(first, changed, "{path}");
        }
    }
}
