//! Alerts as the field's rules make them; each file in tests/fixtures/reports/ stands for a kind.

use std::collections::BTreeMap;

use super::{
    payloads::from_fixture,
    rendered::{card, reply, whole_card},
    samples::{alert, at, incident, note, resolved, style},
};
use crate::{
    model::{Form, Incident, NoteKind},
    render::{Message, links::url},
};

fn shown(incident: &Incident) -> Message {
    card(&style(), incident, Some(incident.opened_at), at(12, 40), Form::Full)
}

fn card_of(file: &str) -> Message {
    shown(&from_fixture(&format!("reports/{file}.json")))
}

/// The message that a payload gives, as text, without links and without when it began.
fn text_of(file: &str) -> Vec<String> {
    let message = card_of(file);
    let is_words = |line: &&str| !line.contains("://") && !line.starts_with("since ");
    message.body.lines().filter(is_words).map(ToOwned::to_owned).collect()
}

#[test]
fn the_first_line_names_the_thing() {
    for (file, expected) in [
        ("deployment-alone", "🟠 WARNING FewReplicas shop/cart — Fewer replicas than wanted"),
        ("device-alone", "🟠 WARNING DeviceOffline device=d-17 — A device is offline"),
        ("exported", "🟠 WARNING PodStuck shop/cart-abc-3 — A pod is stuck."),
        ("ksm-deployment", "🟠 WARNING KubeDeploymentReplicasMismatch shop/cart — Fewer replicas than wanted."),
        ("ksm-job", "🟠 WARNING KubeJobFailed backup/nightly-29401 — A job did not complete."),
        ("otel", "🟠 WARNING HighLatency shop/cart-1 — Latency above 1 s"),
        ("pvc", "🟠 WARNING KubePersistentVolumeFillingUp shop/cart-data — A volume fills up."),
        ("targets-alone", "🟠 WARNING TargetDown shop/cart — Targets do not answer."),
        ("word-node", "🟠 WARNING NoMaster master — No master answers"),
        ("value-labels-one", "🟠 WARNING MemoryLow — Memory of web-1:9100 is nearly used up"),
        ("reserved-labels", "⚪ FIRING High load h1 — Load is high"),
        ("capital-annotations", "🟠 WARNING QueueStuck queue=mail — The mail queue does not move"),
        ("other-annotations", "🟠 WARNING QueueStuck queue=mail — The mail queue does not move"),
        ("grafana-nodata", "⚪ FIRING DatasourceNoData Cart errors · no data — Error rate of the cart above 5 %"),
        ("grafana-nodata-two", "⚪ FIRING DatasourceNoData · 2 firing · no data"),
    ] {
        assert_eq!(text_of(file)[0], expected, "{file}");
    }
    let probe = card_of("probe-https");
    assert!(probe.body.starts_with("🔴 CRITICAL ProbeFailed https://shop.example.org — HTTPS probe failed\n"));
    let error = &text_of("grafana-error")[0];
    let expected =
        "⚪ FIRING DatasourceError Cart errors · query failed — failed to query data: dial tcp 10.0.0.9:9090…";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn chips_are_what_one_would_query() {
    for (file, expected) in [
        ("ksm-deployment", ""),
        ("exported", "exported_container=app"),
        ("pvc", "node=worker-3"),
        ("reserved-labels", "grafana_folder=Edge"),
        ("probe-https", "job=blackbox"),
        ("grafana-nodata", "grafana_folder=Shop"),
    ] {
        let body = card_of(file).body;
        let chips: Vec<&str> =
            body.lines().skip(1).filter(|line| line.contains('=') && !line.contains("://")).collect();
        assert_eq!(chips.join("|"), expected, "{file}");
    }
}

#[test]
fn what_alerts_say_elsewhere_is_shown_once() {
    let lines = text_of("other-annotations");
    assert_eq!(lines[1..], ["action: Restart the relay", "impact: No mail leaves", "value: 4312"], "{lines:?}");
    assert_eq!(text_of("capital-annotations")[1], "4312 mails wait");
    let one = text_of("value-labels-one");
    assert_eq!(one[1..3], ["Less than a tenth is left", "value 7.13"], "{one:?}");
    assert!(!one.join(" ").contains("LABELS"), "{one:?}");
    let two = text_of("value-labels");
    assert_eq!(
        two[2..4],
        [
            "- web-1:9100 — Memory of web-1:9100 is nearly used up (7.13)",
            "- web-2:9100 — Memory of web-2:9100 is nearly used up (7.23)",
        ]
    );
    let error = text_of("grafana-error");
    assert!(error.iter().any(|line| line == "Error rate of the cart above 5 %"), "{error:?}");
}

#[test]
fn link_annotations_give_what_works() {
    let incident = from_fixture("reports/runbook-text.json");
    let broken: Vec<_> = whole_card(&style(), &incident, at(12, 40))
        .broken_links
        .iter()
        .map(|broken| (broken.link, broken.reason))
        .collect();
    assert_eq!(broken, [("dashboard", "several")]);
    let body = card_of("runbook-text").body;
    assert!(body.contains("Runbook: https://wiki.example.org/disk\n"), "{body}");
    assert!(body.contains("Dashboard: https://grafana.example.org/d/a\n"), "{body}");
}

#[test]
fn a_resolved_alert_says_why_the_payload_thinks_so() {
    let mut alert = resolved(
        alert("1", &[("alertname", "High load"), ("host", "h1")], &[("grafana_state_reason", "MissingSeries")]),
        at(12, 25),
    );
    alert.doc.annotations.insert("summary".to_owned(), "Load is high".to_owned());
    let message = shown(&incident(vec![alert]));
    assert!(
        message.body.starts_with("🟢 RESOLVED High load h1 after 22 min · the series is gone — Load is high"),
        "{}",
        message.body
    );
}

#[test]
fn a_reminder_says_what_is_measured_now() {
    let mut alert = alert("1", &[("alertname", "High load"), ("host", "h1")], &[]);
    alert.doc.values = "A=97.1, C=1".to_owned();
    let incident = incident(vec![alert]);
    let note = note(NoteKind::Reminder, &[]);
    let said = reply(&style(), &incident, &[&note], Some(incident.opened_at), at(12, 40), Form::Full);
    assert_eq!(said.body.lines().next(), Some("🔁 High load: still firing on h1, since 12:03, now A=97.1, C=1"));
    assert!(shown(&incident).body.contains("values: A=97.1, C=1\n"));
}

#[test]
fn an_annotation_that_is_meant_as_a_link_is_no_line() {
    let links = [("wiki", "https://wiki.example.org"), ("bad", "javascript:alert(1)"), ("note", "ask: the team")];
    let body = shown(&incident(vec![alert("1", &[("alertname", "A"), ("pod", "p-1")], &links)])).body;
    assert!(body.contains("note: ask: the team\n") && !body.contains("wiki") && !body.contains("javascript"), "{body}");
}

#[test]
fn each_alert_of_a_list_says_its_value() {
    let host = |host: &str, value: &str| {
        let mut alert = alert(host, &[("alertname", "High load"), ("host", host)], &[("summary", "Load is high")]);
        alert.doc.values = value.to_owned();
        alert
    };
    let body = shown(&incident(vec![host("h1", "A=93"), host("h2", "A=71")])).body;
    assert!(body.contains("- h1 — value A=93\n") && body.contains("- h2 — value A=71\n"), "{body}");
}

#[test]
fn values_and_labels_are_found_however_the_rule_is_folded() {
    for text in ["Low memory VALUE = 7.1 LABELS = map[a:b]", "Low memory\\n  VALUE = 7.1\\n  LABELS = map[a:b]"] {
        let body =
            shown(&incident(vec![alert("1", &[("alertname", "A"), ("pod", "p-1")], &[("description", text)])])).body;
        assert!(body.starts_with("⚪ FIRING A p-1 — Low memory\nvalue 7.1\n") && !body.contains("map["), "{body}");
    }
    let odd = [("summary", "A sum"), ("description", "value of the counter is odd"), ("owner", "team:payments")];
    let body = shown(&incident(vec![alert("1", &[("alertname", "A"), ("pod", "p-1")], &odd)])).body;
    assert!(body.contains("value of the counter is odd\nowner: team:payments\n"), "{body}");
}

#[test]
fn of_several_links_the_first_is_found_and_a_query_stays_whole() {
    for (raw, first) in [
        ("https://a/x, https://b/y", "https://a/x"),
        ("https://a/x\n https://b", "https://a/x"),
        ("https://g/d?var=https://a,https://b", "https://g/d?var=https://a,https://b"),
        ("https://a/x http_requests_total", "https://a/x http_requests_total"),
        ("https://a/?u=1 https://b", "https://a/?u=1"),
    ] {
        assert_eq!(url::first_of(raw), first);
    }
}

#[test]
fn several_names_in_a_group_are_placed_by_the_thing() {
    let of = |name: &str| {
        let labels =
            [("alertname", name), ("namespace", "monitoring"), ("exported_namespace", "shop"), ("exported_pod", "p-1")];
        alert(name, &labels, &[])
    };
    let mut group = incident(vec![of("A"), of("B")]);
    group.doc.group_labels = BTreeMap::from([("namespace".to_owned(), "monitoring".to_owned())]);
    let line = shown(&group).body.lines().next().map(str::to_owned);
    assert_eq!(line.as_deref(), Some("⚪ FIRING 2 alerts shop · 2 firing"));
}
