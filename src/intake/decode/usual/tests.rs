//! What is read in one pass, and that it is the same as read in parts.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{super::read_in_parts, *};

const CAPTURED: [&str; 6] = [
    include_str!("../../../../tests/fixtures/payloads/webhook-firing-single.json"),
    include_str!("../../../../tests/fixtures/payloads/webhook-max_alerts10-truncated20.json"),
    include_str!("../../../../tests/fixtures/payloads/webhook-mixed-20firing-10resolved.json"),
    include_str!("../../../../tests/fixtures/payloads/webhook-prom-firing30.json"),
    include_str!("../../../../tests/fixtures/payloads/webhook-prom-resolved30.json"),
    include_str!("../../../../tests/fixtures/payloads/webhook-resolved-single.json"),
];

/// As Grafana writes it.
fn grafana() -> Value {
    json!({
        "receiver": "grafana", "status": "firing", "orgId": 1, "version": "1", "groupKey": "{}:{}", "state": "alerting",
        "truncatedAlerts": 0, "title": "t", "message": "m\n", "externalURL": "https://g.example/", "appVersion": "12.1.0",
        "groupLabels": { "alertname": "A" }, "commonLabels": { "alertname": "A" }, "commonAnnotations": {},
        "alerts": [{
            "status": "firing", "labels": { "alertname": "A", "grafana_folder": "f" }, "annotations": { "summary": "é \"s\"" },
            "startsAt": "2026-11-22T18:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": "f",
            "silenceURL": "https://g.example/silence", "dashboardURL": "https://g.example/d", "panelURL": "",
            "values": { "A": 93.4, "C": 1 }, "valueString": "[ var='A' labels={host=h1} value=93.4 ]", "orgId": 1
        }]
    })
}

fn payload(number: usize) -> Value {
    CAPTURED.get(number).map_or_else(grafana, |text| serde_json::from_str(text).expect("a payload"))
}

/// Whether it was read in one pass; then it must be the same as in parts.
fn is_usual(body: &[u8]) -> bool {
    let usual = read(body);
    if let Some(usual) = &usual {
        assert_eq!(Ok(usual), read_in_parts(body).as_ref(), "{}", String::from_utf8_lossy(body));
    }
    usual.is_some()
}

#[test]
fn what_alertmanager_and_grafana_write_is_read_in_one_pass() {
    for (number, text) in CAPTURED.iter().enumerate() {
        assert!(is_usual(text.as_bytes()), "{number}");
    }
    assert!(is_usual(grafana().to_string().as_bytes()));
    let mut none = grafana();
    none["alerts"][0]["values"] = Value::Null;
    assert!(is_usual(none.to_string().as_bytes()));
    assert_eq!(read(grafana().to_string().as_bytes()).expect("a webhook").alerts[0].doc.values, "A=93.4, C=1");
}

#[test]
fn whatever_is_odd_is_left_to_who_reads_in_parts() {
    let long = "x".repeat(MAX_VALUE + 1);
    let many: Map<String, Value> = (0..=MAX_LABELS).map(|n| (n.to_string(), json!(""))).collect();
    let deep = json!({ "a": { "b": [] } });
    for (path, odd) in [
        ("/alerts/0/status", json!("pending")),
        ("/alerts/0/status", json!(1)),
        ("/alerts/0/labels/alertname", json!(5)),
        ("/alerts/0/labels/alertname", json!("a\0b")),
        ("/alerts/0/labels", json!({ "a\0b": "c" })),
        ("/alerts/0/labels", json!(many)),
        ("/alerts/0/labels", json!([])),
        ("/alerts/0/annotations/summary", json!(long)),
        ("/alerts/0/annotations", json!({ long.as_str(): "a" })),
        ("/alerts/0/startsAt", json!("yesterday")),
        ("/alerts/0/endsAt", json!(0)),
        ("/alerts/0/fingerprint", json!("")),
        ("/alerts/0/fingerprint", json!("f".repeat(MAX_FINGERPRINT + 1))),
        ("/alerts/0/fingerprint", json!(7)),
        ("/alerts/0/generatorURL", json!(long)),
        ("/alerts/0/generatorURL", json!({})),
        ("/alerts/0/values", deep.clone()),
        ("/alerts/0/values", json!(many)),
        ("/alerts/0/orgId", deep.clone()),
        ("/alerts/0", json!("not an alert")),
        ("/alerts", json!({})),
        ("/receiver", json!(long)),
        ("/groupKey", json!("a\0")),
        ("/groupLabels", json!("x")),
        ("/externalURL", json!(1)),
        ("/truncatedAlerts", json!(-1)),
        ("/orgId", json!([[1]])),
        ("/commonLabels", deep),
    ] {
        let mut body = grafana();
        *body.pointer_mut(path).expect("a place") = odd;
        assert!(!is_usual(body.to_string().as_bytes()), "{path}");
    }
    for name in ["receiver", "groupKey", "alerts"] {
        let mut body = grafana();
        body.as_object_mut().expect("an object").shift_remove(name);
        assert!(!is_usual(body.to_string().as_bytes()), "{name}");
    }
    let text = grafana().to_string();
    for (before, after) in [
        (r#"{"receiver":"#, r#"{"receiver":"twice","receiver":"#),
        (r#"{"status":"firing","labels":"#, r#"{"status":"resolved","status":"firing","labels":"#),
        (r#""grafana_folder":"#, r#""alertname":"B","grafana_folder":"#),
        (r#""summary":"é"#, r#""summary":"\ud800"#),
    ] {
        assert!(text.contains(before), "{before}");
        assert!(!is_usual(text.replacen(before, after, 1).as_bytes()), "{after}");
    }
    for (before, after) in [(&b"\xc3\xa9"[..], &b"\xc3"[..]), (b"}]}", b"}]}}"), (b"}]}", b"}]")] {
        let at = text.as_bytes().windows(before.len()).rposition(|bytes| bytes == before).expect("there");
        let body = [&text.as_bytes()[..at], after, &text.as_bytes()[at + before.len()..]].concat();
        assert!(!is_usual(&body), "{}", String::from_utf8_lossy(after));
    }
}

/// What a place of a payload may become.
fn odd(number: usize) -> Value {
    let some = [
        json!(null),
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(1.5e300),
        json!(""),
        json!("firing"),
        json!("resolved"),
        json!("2026-11-22T18:00:00.5+01:00"),
        json!("0001-01-01T00:00:00Z"),
        json!("\u{0}é\"\\"),
        json!("TestAlert"),
        json!([]),
        json!([1, "a", null]),
        json!({}),
        json!({ "b": "1", "a": "2" }),
        json!({ "A": 1, "B": 2.5, "C": "x", "D": true, "E": null }),
        json!([[]]),
        json!({ "a": { "b": 1 } }),
        json!("x".repeat(MAX_VALUE + 1)),
    ];
    some[number % some.len()].clone()
}

/// Puts `new` somewhere, and says so under another name if `name` is there; which place is up to `way`.
fn change(value: &mut Value, way: &[usize], new: Value, name: Option<&str>) {
    let Some((first, rest)) = way.split_first() else { return *value = new };
    match value {
        Value::Object(map) if !map.is_empty() => {
            let at = first % map.len();
            match (rest.is_empty(), name) {
                (true, Some(name)) => drop(map.insert(name.to_owned(), new)),
                (true, None) if new.is_null() => {
                    let key = map.keys().nth(at).expect("there").clone();
                    map.shift_remove(&key);
                }
                _ => change(map.values_mut().nth(at).expect("there"), rest, new, name),
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = first % list.len();
            change(&mut list[at], rest, new, name);
        }
        _ => *value = new,
    }
}

fn name(number: usize) -> Option<&'static str> {
    let names =
        ["status", "labels", "values", "valueString", "panelURL", "alerts", "receiver", "startsAt", "instance", "new"];
    names.get(number).copied()
}

proptest! {
    // Most change nothing that is read.
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn read_in_one_pass_or_in_parts_is_the_same(
        number in 0..=CAPTURED.len(),
        changes in prop::collection::vec(
            (prop::option::weighted(0.8, 0..30_usize), prop::collection::vec(0..100_usize, 1..4), 0..20_usize, 0..40_usize),
            0..4,
        ),
        bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2),
    ) {
        let mut body = payload(number);
        for (alert, way, new, named) in changes {
            let alerts = body.get("alerts").and_then(Value::as_array).map_or(0, Vec::len);
            let place = match alert.filter(|_| alerts > 0) {
                Some(alert) => &mut body["alerts"][alert % alerts],
                None => &mut body,
            };
            change(place, &way, odd(new), name(named));
        }
        let mut body = body.to_string().into_bytes();
        is_usual(&body);
        for (at, byte) in bytes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        is_usual(&body);
    }
}
