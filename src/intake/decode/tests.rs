//! What webhooks are read as, and which are refused.

use serde_json::json;

use super::{alert::MAX_FINGERPRINT, *};
use crate::model::Timestamp;

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
        {"status": "firing", "labels": {}, "annotations": {"summary": "x".repeat(100_000)}, "fingerprint": "f3",
            "values": {"A": 1.5, "B": 2}},
        list,
    ])));
    let of = |fingerprint: &str| webhook.alerts.iter().find(|alert| alert.fingerprint == fingerprint).expect("read");
    assert!(of("f1").firing && of("f1").doc.labels["a"].starts_with("[1,1,1,"));
    assert_eq!((of("f1").doc.labels["a"].len(), of("f1").doc.labels["b"].as_str()), (MAX_VALUE, "c"));
    assert!(!of("f2").firing && of("f2").ends_at.is_some());
    assert_eq!((of("f2").doc.labels.len(), of("f2").doc.labels["l0127"].as_str()), (MAX_LABELS, "a value"));
    assert_eq!(of("f3").doc.annotations["summary"].len(), MAX_VALUE);
    assert_eq!(of("f3").doc.values, "A=1.5, B=2");
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
    let body = r#"{"receiver":"a","receiver":"b","groupKey":"k","alerts":7,"alerts":[{"labels":{"x":"1","x":"2"}}]}"#;
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
    let test =
        json!({ "status": "firing", "startsAt": start, "labels": { "alertname": "TestAlert", "instance": "Grafana" } });
    let test = one(test);
    assert!(!test.firing && test.ends_at.is_some() && test.ends_at == test.starts_at);
}
