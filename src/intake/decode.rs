//! Body -> [`Webhook`]. Strict about the envelope, lenient about each alert: one odd alert must not cost the others.
//!
//! Sources: Alertmanager `notify/webhook/webhook.go` and `template/template.go` (version "4"), Grafana
//! `receivers/webhook/v1/webhook.go` (version "1").

use jiff::Timestamp as Moment;
use serde_json::{Map, Value, value::RawValue};
use sha2::{Digest, Sha256};

use super::{
    bounded_json::{self, Fields, First},
    content_hash,
    scrub::{self, cut},
    webhook::{ListedAlert, NotificationReason, Webhook},
};
use crate::model::{AlertDoc, Labels, Timestamp};

/// More alerts than this in one payload are not read; they count as left out by Alertmanager (`truncatedAlerts`).
pub const MAX_ALERTS: usize = 10_000;
/// Alerts beyond this many labels and annotations in one payload are not read either: each takes some hundred bytes,
/// however short it is.
const MAX_ENTRIES: usize = 100_000;
/// The fields of the envelope that are read.
const FIELDS: [&str; 7] =
    ["receiver", "groupKey", "groupLabels", "externalURL", "truncatedAlerts", "notification_reason", "alerts"];
/// Longer names and values of labels and annotations are cut at this many bytes.
const MAX_VALUE: usize = 16 * 1024;
/// More labels (or annotations) of one alert than this are not kept.
const MAX_LABELS: usize = 128;
/// A fingerprint is 16 characters long; a longer text than this is hashed.
const MAX_FINGERPRINT: usize = 128;
/// Of Grafana's measured values so many are kept, and of each so many bytes of name and value.
const MAX_VALUES: usize = 8;
const MAX_VALUE_NAME: usize = 40;

/// Why a body is not a webhook payload, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("not JSON: {0}")]
    NotJson(String),
    #[error("not an Alertmanager webhook payload: {0}")]
    NotWebhook(String),
}

/// Reads a webhook body.
///
/// # Errors
/// When it is not JSON, or its envelope is not that of a webhook. The content of a single alert is never an error.
pub fn decode(body: &[u8]) -> Result<Webhook, DecodeError> {
    // Some clients on Windows begin with a byte order mark.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if let Some(kind) = foreign(body) {
        return Err(DecodeError::NotJson(kind.to_owned()));
    }
    let text = scrub::readable(body);
    let not_json = |error: serde_json::Error| DecodeError::NotJson(error.to_string());
    let wanted = |name: &str| FIELDS.contains(&name);
    let Some(fields) = Fields::of(&text, wanted, FIELDS.len()).map_err(not_json)? else {
        let found = serde_json::from_str::<&RawValue>(&text).map(bounded_json::scalar).map_err(not_json)?;
        return Err(DecodeError::NotWebhook(format!("expected an object at the top, found {}", kind(&found))));
    };
    bounded_json::check_depth(&text).map_err(not_json)?;
    let read = |name: &&str| {
        let raw = fields.get(name)?;
        let is_labels = *name == "groupLabels";
        let value =
            if is_labels { bounded_json::labels(raw, MAX_LABELS + 1, MAX_VALUE) } else { bounded_json::scalar(raw) };
        Some(((*name).to_owned(), value))
    };
    let envelope: Map<String, Value> = FIELDS.iter().filter_map(read).collect();
    let mut odd = 0;
    let alerts: First<'_, MAX_ALERTS> = match (envelope.get("alerts"), fields.get("alerts")) {
        (Some(Value::Array(_)), Some(alerts)) => serde_json::from_str(alerts.get()).map_err(not_json)?,
        (Some(other), _) => return Err(wrong("alerts", "a list", other)),
        (None, _) => return Err(DecodeError::NotWebhook("alerts is missing".to_owned())),
    };
    let group_labels = match envelope.get("groupLabels") {
        None | Some(Value::Null) => Labels::new(),
        Some(Value::Object(labels)) => read_labels(labels, &mut odd),
        Some(other) => return Err(wrong("groupLabels", "an object", other)),
    };
    let listed_truncated = match envelope.get("truncatedAlerts") {
        None | Some(Value::Null) => 0,
        Some(value) => value.as_u64().ok_or_else(|| wrong("truncatedAlerts", "a whole number", value))?,
    };
    // Reads one alert at a time until the bound is reached.
    let (mut listed, mut entries) = (Vec::new(), 0);
    for raw in &alerts.elements {
        let alert = read_alert(&bounded_json::alert(raw, MAX_LABELS + 1, MAX_VALUE), &mut odd);
        entries += alert.doc.labels.len() + alert.doc.annotations.len();
        if entries > MAX_ENTRIES {
            break;
        }
        listed.push(alert);
    }
    let unread = alerts.elements.len() - listed.len() + alerts.more;
    let mut webhook = Webhook {
        receiver: identity(&unquote_meta(required_text(&envelope, "receiver")?), MAX_VALUE, &mut odd),
        group_key: identity(required_text(&envelope, "groupKey")?, MAX_VALUE, &mut odd),
        group_labels,
        external_url: read_text(&envelope, "externalURL", &mut odd),
        truncated: listed_truncated.saturating_add(unread as u64),
        reason: read_reason(envelope.get("notification_reason")),
        alerts: one_each(listed),
        odd,
        content_hash: String::new(),
    };
    webhook.content_hash = content_hash::of(&webhook);
    Ok(webhook)
}

/// Names the format of a body that is not UTF-8 text, if its first bytes show it.
fn foreign(body: &[u8]) -> Option<&'static str> {
    match body {
        [0x1f, 0x8b, ..] => Some("the body is compressed with gzip; send it as it is"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("the body is compressed with zstd; send it as it is"),
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => Some("the body is compressed (zlib, deflate); send it as it is"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => {
            Some("the body is UTF-16 or UTF-32 text; send it as UTF-8")
        }
        _ => None,
    }
}

fn required_text<'a>(envelope: &'a Map<String, Value>, key: &str) -> Result<&'a str, DecodeError> {
    match envelope.get(key) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong(key, "a string", other)),
        None => Err(DecodeError::NotWebhook(format!("{key} is missing"))),
    }
}

/// A text that identifies something. One that is too long ends in a hash of the whole text, so that texts with the same
/// beginning stay distinct.
fn identity(text: &str, max: usize, odd: &mut u32) -> String {
    if text.len() <= max {
        return text.replace('\0', "\u{fffd}");
    }
    *odd += 1;
    let hash = hex::encode(&Sha256::digest(text)[..16]);
    format!("{}…{hash}", cut(text, max - hash.len() - '…'.len_utf8()).replace('\0', "?"))
}

fn wrong(key: &str, expected: &str, found: &Value) -> DecodeError {
    DecodeError::NotWebhook(format!("{key}: expected {expected}, found {}", kind(found)))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn read_reason(value: Option<&Value>) -> NotificationReason {
    match value {
        None | Some(Value::Null) => NotificationReason::Missing,
        Some(Value::String(text)) => match text.as_str() {
            "" => NotificationReason::Missing,
            "repeat interval elapsed" => NotificationReason::RepeatInterval,
            "all alerts resolved" => NotificationReason::AllResolved,
            _ => NotificationReason::Other,
        },
        Some(_) => NotificationReason::Other,
    }
}

/// Undoes Go's `regexp.QuoteMeta`, which Alertmanager applies to the receiver's name: `a\.b` is the receiver `a.b`.
fn unquote_meta(quoted: &str) -> String {
    let mut out = String::with_capacity(quoted.len());
    let mut chars = quoted.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(next) if c == '\\' && r"\.+*?()|[]{}^$".contains(*next) => {
                out.push(*next);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    out
}

fn read_alert(value: &Value, odd: &mut u32) -> ListedAlert {
    let empty = Map::new();
    let alert = value.as_object().unwrap_or_else(|| {
        *odd += 1;
        &empty
    });
    let mut labels_of = |key: &str| match alert.get(key) {
        None | Some(Value::Null) => Labels::new(),
        Some(Value::Object(labels)) => read_labels(labels, odd),
        Some(_) => {
            *odd += 1;
            Labels::new()
        }
    };
    let (labels, annotations) = (labels_of("labels"), labels_of("annotations"));
    let starts_at = read_time(alert, "startsAt", odd);
    let ends_at = read_time(alert, "endsAt", odd);
    let firing = match alert.get("status").and_then(Value::as_str) {
        Some("firing") => true,
        Some("resolved") => false,
        _ => {
            // Alertmanager derives the status from endsAt; without it, firing is the safer guess.
            *odd += 1;
            ends_at.is_none()
        }
    };
    // The button that tests a contact point sends an alert that nothing ever resolves, so it counts as over at once.
    let is_test = labels.get("alertname").is_some_and(|name| name == "TestAlert")
        && labels.get("instance").is_some_and(|instance| instance == "Grafana");
    let (firing, ends_at) = if is_test { (false, starts_at) } else { (firing, ends_at) };
    let fingerprint = match alert.get("fingerprint") {
        Some(Value::String(text)) if !text.is_empty() => identity(text, MAX_FINGERPRINT, odd),
        None | Some(Value::Null | Value::String(_)) => fingerprint_of(&labels, value),
        Some(_) => {
            *odd += 1;
            fingerprint_of(&labels, value)
        }
    };
    ListedAlert {
        fingerprint,
        firing,
        starts_at,
        ends_at: if firing { None } else { ends_at },
        doc: AlertDoc {
            labels,
            annotations,
            generator_url: read_text(alert, "generatorURL", odd),
            starts_at: None,
            dashboard_url: read_text(alert, "dashboardURL", odd),
            panel_url: read_text(alert, "panelURL", odd),
            silence_url: read_text(alert, "silenceURL", odd),
            values: read_values(alert),
        },
    }
}

/// Grafana's `values` as `A=93.4, C=1`; where a payload has none, those of its `valueString`. Both only inform, so that
/// anything else in them is left out.
fn read_values(alert: &Map<String, Value>) -> String {
    let shown = |name: &str, value: &str| format!("{}={}", cut(name, MAX_VALUE_NAME), cut(value, MAX_VALUE_NAME));
    let values: Vec<String> = match (alert.get("values"), alert.get("valueString")) {
        (Some(Value::Object(values)), _) => {
            let number = |value: &Value| (value.is_number() || value.is_string()).then(|| plain(value));
            values.iter().filter_map(|(name, value)| Some(shown(name, &number(value)?))).take(MAX_VALUES).collect()
        }
        (_, Some(Value::String(text))) => {
            // [ var='A' labels={host=h1} value=93.4 ], …
            let read = |part: &str| {
                let name = part.split_once("='")?.1.split_once('\'')?.0;
                let value = part.rsplit_once("value=")?.1.split([' ', ']']).next()?;
                Some(shown(name, value))
            };
            text.split("[ ").filter_map(read).take(MAX_VALUES).collect()
        }
        _ => Vec::new(),
    };
    scrub_text(&values.join(", "))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn read_labels(labels: &Map<String, Value>, odd: &mut u32) -> Labels {
    if labels.len() > MAX_LABELS {
        *odd += 1;
    }
    let read = |(name, value): (&String, &Value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            other => {
                *odd += 1;
                if other.is_null() { String::new() } else { other.to_string() }
            }
        };
        *odd += u32::from(name.len() > MAX_VALUE || text.len() > MAX_VALUE);
        (scrub_text(name), scrub_text(&text))
    };
    labels.iter().take(MAX_LABELS).map(read).collect()
}

/// Replaces NUL, the one character that neither homeservers nor C libraries accept; the renderer handles the rest.
fn scrub_text(text: &str) -> String {
    cut(text, MAX_VALUE).replace('\0', "\u{fffd}")
}

fn read_text(object: &Map<String, Value>, key: &str, odd: &mut u32) -> String {
    match object.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => {
            *odd += u32::from(text.len() > MAX_VALUE);
            scrub_text(text)
        }
        Some(_) => {
            *odd += 1;
            String::new()
        }
    }
}

/// An RFC 3339 time; Go's zero time (`0001-01-01T00:00:00Z`) means "not set".
fn read_time(alert: &Map<String, Value>, key: &str, odd: &mut u32) -> Option<Timestamp> {
    let text = match alert.get(key) {
        None | Some(Value::Null) => return None,
        Some(Value::String(text)) if text.is_empty() => return None,
        Some(Value::String(text)) => text,
        Some(_) => {
            *odd += 1;
            return None;
        }
    };
    if let Ok(moment) = text.parse::<Moment>() {
        let millis = moment.as_millisecond();
        (millis > 0).then_some(Timestamp(millis))
    } else {
        *odd += 1;
        None
    }
}

/// The fingerprint of an alert without one: a hash of its sorted labels, or of the whole alert if it has no labels.
fn fingerprint_of(labels: &Labels, alert: &Value) -> String {
    let mut hash = Sha256::new();
    if labels.is_empty() {
        hash.update(alert.to_string());
    }
    for (name, value) in labels {
        hash.update(name);
        hash.update([0xff]);
        hash.update(value);
        hash.update([0xff]);
    }
    hex::encode(&hash.finalize()[..8])
}

/// Removes duplicates; of two alerts with one fingerprint, the firing one stays.
fn one_each(mut listed: Vec<ListedAlert>) -> Vec<ListedAlert> {
    listed.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint).then(b.firing.cmp(&a.firing)));
    listed.dedup_by(|later, first| later.fingerprint == first.fingerprint);
    listed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn envelope(alerts: &Value) -> Value {
        json!({"receiver": "team", "groupKey": "{}:{}", "alerts": alerts, "version": "4"})
    }

    #[test]
    fn a_body_that_is_not_utf_8_text_is_named() {
        let text = envelope(&json!([])).to_string();
        let utf_16 = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        let marked = |mark: &[u8], body: Vec<u8>| [mark, &body].concat();
        for (body, says) in [
            (b"\x1f\x8b\x08\0\0".to_vec(), "compressed with gzip"),
            (b"\x28\xb5\x2f\xfd\0".to_vec(), "compressed with zstd"),
            (b"\x78\x9c\xab\x56".to_vec(), "compressed (zlib"),
            (utf_16(u16::to_le_bytes), "UTF-16"),
            (utf_16(u16::to_be_bytes), "UTF-16"),
            (marked(b"\xff\xfe", utf_16(u16::to_le_bytes)), "UTF-16"),
            (marked(b"\xfe\xff", utf_16(u16::to_be_bytes)), "UTF-16"),
        ] {
            let error = decode(&body).expect_err(says).to_string();
            assert!(error.starts_with("not JSON: the body is ") && error.contains(says), "{error}");
        }
        let plain = decode(text.as_bytes()).expect("a webhook");
        assert_eq!(decode(&marked(b"\xef\xbb\xbf", text.clone().into_bytes())), Ok(plain), "a mark alone is fine");
        assert!(decode(b"\xef\xbb\xbf").is_err() && decode(b"").is_err());
    }

    fn decoded(value: &Value) -> Webhook {
        decode(value.to_string().as_bytes()).expect("a webhook")
    }

    #[test]
    fn faults_of_the_envelope_name_the_place() {
        for (body, expected) in [
            ("", "not JSON: EOF while parsing a value at line 1 column 0"),
            ("{\n\"alerts\": [}", "not JSON: expected value at line 2 column 12"),
            ("[]", "not an Alertmanager webhook payload: expected an object at the top, found a list"),
            ("{}", "not an Alertmanager webhook payload: alerts is missing"),
            (r#"{"alerts": {}}"#, "not an Alertmanager webhook payload: alerts: expected a list, found an object"),
            (r#"{"alerts": []}"#, "not an Alertmanager webhook payload: receiver is missing"),
            (
                r#"{"alerts": [], "receiver": 7}"#,
                "not an Alertmanager webhook payload: receiver: expected a string, found a number",
            ),
            (r#"{"alerts": [], "receiver": "a"}"#, "not an Alertmanager webhook payload: groupKey is missing"),
            (
                r#"{"alerts": [], "receiver": "a", "groupKey": "k", "truncatedAlerts": -1}"#,
                "not an Alertmanager webhook payload: truncatedAlerts: expected a whole number, found a number",
            ),
            (
                r#"{"alerts": [], "receiver": "a", "groupKey": "k", "groupLabels": "x"}"#,
                "not an Alertmanager webhook payload: groupLabels: expected an object, found a string",
            ),
        ] {
            assert_eq!(decode(body.as_bytes()).expect_err(body).to_string(), expected, "{body}");
        }
    }

    #[test]
    fn odd_alerts_are_read_as_far_as_possible_and_counted() {
        let webhook = decoded(&envelope(&json!([
            "not an alert",
            {"status": "firing", "labels": {"alertname": 5, "x": null}, "annotations": [], "startsAt": "yesterday"},
            {"status": 3, "labels": {"alertname": "B"}, "fingerprint": 9, "generatorURL": {}},
        ])));
        assert_eq!(webhook.alerts.len(), 3);
        assert!(webhook.alerts.iter().all(|alert| alert.firing));
        assert_eq!(webhook.odd, 10 - 1);
        let first = webhook.alerts.iter().find(|a| a.doc.labels.contains_key("x")).expect("the second alert");
        assert_eq!(first.doc.labels["alertname"], "5");
        assert_eq!(first.starts_at, None);
    }

    #[test]
    fn the_receiver_is_unescaped_and_the_zero_time_is_none() {
        let mut value = envelope(&json!([{
            "status": "firing", "labels": {"a": "b"}, "fingerprint": "f",
            "startsAt": "2026-11-22T18:19:58.059740119Z", "endsAt": "0001-01-01T00:00:00Z"
        }]));
        value["receiver"] = json!(r"ops\.eu\+x");
        let webhook = decoded(&value);
        assert_eq!(webhook.receiver, "ops.eu+x");
        assert_eq!(webhook.alerts[0].ends_at, None);
        assert_eq!(webhook.alerts[0].starts_at, Some(Timestamp(1_795_371_598_059)));
        assert_eq!(webhook.odd, 0);
    }

    #[test]
    fn of_two_with_one_fingerprint_firing_wins() {
        let webhook = decoded(&envelope(&json!([
            {"status": "resolved", "labels": {}, "fingerprint": "f", "endsAt": "2026-11-22T18:19:58Z"},
            {"status": "firing", "labels": {}, "fingerprint": "f"},
        ])));
        assert_eq!(webhook.alerts.len(), 1);
        assert!(webhook.alerts[0].firing);
    }

    #[test]
    fn a_missing_fingerprint_depends_on_the_labels_alone() {
        let of = |alert: Value| decoded(&envelope(&json!([alert]))).alerts[0].fingerprint.clone();
        let a = of(json!({"status": "firing", "labels": {"a": "1", "b": "2"}}));
        assert_eq!(a, of(json!({"status": "resolved", "labels": {"b": "2", "a": "1"}, "annotations": {"x": "y"}})));
        assert_ne!(a, of(json!({"status": "firing", "labels": {"a": "1", "b": "3"}})));
    }

    #[test]
    fn reasons_old_and_new() {
        for (reason, expected) in [
            (json!(null), NotificationReason::Missing),
            (json!("repeat interval elapsed"), NotificationReason::RepeatInterval),
            (json!("all alerts resolved"), NotificationReason::AllResolved),
            (json!("new alerts added"), NotificationReason::Other),
            (json!(5), NotificationReason::Other),
        ] {
            let mut value = envelope(&json!([]));
            value["notification_reason"] = reason.clone();
            assert_eq!(decoded(&value).reason, expected, "{reason}");
        }
        assert_eq!(decoded(&envelope(&json!([]))).reason, NotificationReason::Missing);
    }

    #[test]
    fn lone_surrogates_and_nul_are_replaced() {
        let body = r#"{"receiver":"r","groupKey":"k","alerts":[{"status":"firing","labels":{"a":"x\ud800y\u0000z"}}]}"#;
        let webhook = decode(body.as_bytes()).expect("a webhook");
        assert_eq!(webhook.alerts[0].doc.labels["a"], "x\u{fffd}y\u{fffd}z");
    }

    #[test]
    fn what_is_too_long_or_too_much_is_cut_and_counted() {
        let long = "x".repeat(MAX_VALUE + 1);
        let labels: Map<String, Value> = (0..=MAX_LABELS).map(|n| (format!("l{n:04}"), json!("v"))).collect();
        let webhook = decoded(&envelope(&json!([
            {"status": "firing", "labels": labels, "fingerprint": "a"},
            {"status": "firing", "labels": {"a": long}, "annotations": {long.clone(): "b"}, "fingerprint": "b"},
            {"status": "firing", "labels": {}, "generatorURL": long, "fingerprint": "c"},
        ])));
        assert_eq!(webhook.odd, 4);
        assert_eq!(webhook.alerts[0].doc.labels.len(), MAX_LABELS);
        assert_eq!(webhook.alerts[1].doc.labels["a"].len(), MAX_VALUE);
        assert_eq!(webhook.alerts[2].doc.generator_url.len(), MAX_VALUE);
        let many: Vec<Value> =
            (0..MAX_ALERTS + 3).map(|n| json!({"status": "firing", "fingerprint": n.to_string()})).collect();
        let webhook = decoded(&envelope(&json!(many)));
        assert_eq!((webhook.alerts.len(), webhook.truncated), (MAX_ALERTS, 3));
    }

    /// A large alert is read in parts, with the same result as a small one.
    #[test]
    fn what_is_large_is_read_without_being_built() {
        let list = vec![json!(1); 100_000];
        let labels: Map<String, Value> = (0..5_000).map(|n| (format!("l{n:04}"), json!("a value"))).collect();
        let webhook = decoded(&envelope(&json!([
            {"status": "firing", "labels": {"a": list, "b": "c"}, "fingerprint": "f1", "other": list},
            {"status": "resolved", "labels": labels, "fingerprint": "f2", "endsAt": "2026-11-22T18:19:58Z"},
            {"status": "firing", "labels": {}, "annotations": {"summary": "x".repeat(100_000)}, "fingerprint": "f3"},
            list,
        ])));
        let of =
            |fingerprint: &str| webhook.alerts.iter().find(|alert| alert.fingerprint == fingerprint).expect("read");
        assert!(of("f1").firing && of("f1").doc.labels["a"].starts_with("[1,1,1,"));
        assert_eq!((of("f1").doc.labels["a"].len(), of("f1").doc.labels["b"].as_str()), (MAX_VALUE, "c"));
        assert!(!of("f2").firing && of("f2").ends_at.is_some());
        assert_eq!((of("f2").doc.labels.len(), of("f2").doc.labels["l0127"].as_str()), (MAX_LABELS, "a value"));
        assert_eq!(of("f3").doc.annotations["summary"].len(), MAX_VALUE);
        assert_eq!((webhook.alerts.len(), webhook.odd), (4, 5));
    }

    #[test]
    fn labels_of_a_payload_have_a_bound() {
        let labels: Map<String, Value> = (0..100).map(|n| (format!("l{n}"), json!(""))).collect();
        let alerts: Vec<Value> =
            (0..1_003).map(|n| json!({"status": "firing", "labels": labels, "fingerprint": n.to_string()})).collect();
        let webhook = decoded(&envelope(&json!(alerts)));
        assert_eq!((webhook.alerts.len(), webhook.truncated), (1_000, 3));
    }

    #[test]
    fn what_is_nested_too_deep_is_not_read() {
        for depth in [120, 200, 1_000_000] {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            let body = format!(r#"{{"receiver": "r", "groupKey": "k", "alerts": [], "other": {open}{close}}}"#);
            assert_eq!(decode(body.as_bytes()).is_ok(), depth == 120, "{depth}");
        }
    }

    #[test]
    fn of_a_name_that_comes_twice_the_last_counts() {
        let body =
            r#"{"receiver":"a","receiver":"b","groupKey":"k","alerts":7,"alerts":[{"labels":{"x":"1","x":"2"}}]}"#;
        let webhook = decode(body.as_bytes()).expect("a webhook");
        assert_eq!((webhook.receiver.as_str(), webhook.alerts[0].doc.labels["x"].as_str()), ("b", "2"));
    }

    /// Identifying texts are bounded, and stay distinct.
    #[test]
    fn long_identities_stay_distinct() {
        let of = |end: &str| {
            let long = format!("{}{end}", "é".repeat(MAX_VALUE));
            let mut value = envelope(&json!([{"status": "firing", "labels": {}, "fingerprint": long}]));
            (value["groupKey"], value["receiver"]) = (json!(long), json!(long));
            decoded(&value)
        };
        let (a, b) = (of("a"), of("b"));
        assert_eq!(a.odd, 3);
        assert!(a.group_key.len() <= MAX_VALUE && a.receiver.len() <= MAX_VALUE);
        assert!(a.alerts[0].fingerprint.len() <= MAX_FINGERPRINT);
        assert!(a.group_key != b.group_key && a.receiver != b.receiver);
        assert_ne!(a.alerts[0].fingerprint, b.alerts[0].fingerprint);
        assert_eq!(a, of("a"));
    }

    #[test]
    fn a_grafana_payload_is_read() {
        let webhook = decoded(&json!({
            "receiver": "grafana", "status": "firing", "orgId": 1, "version": "1", "groupKey": "{}:{}", "state": "alerting",
            "truncatedAlerts": 0, "title": "t", "message": "m", "externalURL": "https://g.example/",
            "alerts": [{
                "status": "firing", "labels": {"alertname": "A"}, "annotations": {}, "startsAt": "2026-11-22T18:00:00Z",
                "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": "f", "values": null,
                "silenceURL": "https://g.example/silence", "dashboardURL": "https://g.example/d", "panelURL": ""
            }]
        }));
        assert_eq!(webhook.odd, 0);
        assert_eq!(webhook.alerts[0].doc.dashboard_url, "https://g.example/d");
        assert_eq!(webhook.alerts[0].doc.silence_url, "https://g.example/silence");
    }

    #[test]
    fn what_grafana_measured_is_kept_and_its_test_is_over_at_once() {
        let one = |alert: Value| {
            let body = json!({ "receiver": "r", "groupKey": "g", "alerts": [alert] });
            decode(body.to_string().as_bytes()).expect("a webhook").alerts.remove(0)
        };
        let start = "2026-11-28T01:30:00Z";
        let written = "[ var='A' labels={host=h1} value=93.4 ], [ var='C' labels={host=h1} value=1 ]";
        for (values, shown) in
            [(json!({ "A": 93.4, "C": 1, "odd": [1] }), "A=93.4, C=1"), (Value::Null, "A=93.4, C=1"), (json!({}), "")]
        {
            let alert = one(json!({ "status": "firing", "startsAt": start, "labels": { "alertname": "A" },
                "values": values, "valueString": written }));
            assert_eq!((alert.doc.values.as_str(), alert.firing), (shown, true), "{values}");
        }
        let test = json!({ "status": "firing", "startsAt": start, "labels": { "alertname": "TestAlert", "instance": "Grafana" } });
        let test = one(test);
        assert!(!test.firing && test.ends_at.is_some() && test.ends_at == test.starts_at);
    }
}
