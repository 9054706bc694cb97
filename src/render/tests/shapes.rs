//! Cards of every size, and how they step down.

use super::rendered::card;
use super::{
    check::{assert_sound, show},
    samples::{alert, at, incident, style},
};
use crate::{
    model::{Alert, Form, Incident},
    render::Message,
};

fn shown(incident: &Incident, form: Form) -> Message {
    let message = card(&style(), incident, Some(at(12, 3)), at(12, 30), form);
    assert_sound(&message);
    message
}

fn pods(count: usize) -> Incident {
    let pod = |number: usize| -> Alert {
        let name = format!("web-{number:03}");
        alert(
            &format!("{number:04}"),
            &[("alertname", "PodNotReady"), ("severity", "warning"), ("namespace", "shop"), ("pod", &name)],
            &[
                ("summary", &format!("Pod {name} has not been ready for 15 minutes")),
                ("logs_url", &format!("https://grafana.example.org/explore?pod={name}")),
            ],
        )
    };
    incident((0..count).map(pod).collect())
}

#[test]
fn five() {
    insta::assert_snapshot!(show(&shown(&pods(5), Form::Full)));
}

#[test]
fn fifty_all_have_a_line() {
    let message = shown(&pods(50), Form::Full);
    assert_eq!(message.html.matches("<li>").count(), 50);
    assert!(message.html.contains("web-049"));
}

#[test]
fn five_hundred_have_as_many_lines_as_fit() {
    let message = shown(&pods(500), Form::Full);
    let lines = message.html.matches("<li>").count() - 1;
    assert!(lines >= 50, "{lines} lines");
    assert!(message.html.contains(&format!("<li>+{} more firing</li>", 500 - lines)), "{}", message.html);
    assert!(message.html.starts_with("🟠"));
    assert!(message.body.contains("500 firing"));
}

#[test]
fn long_links_go_before_the_list_gets_short() {
    let mut incident = pods(30);
    for alert in &mut incident.alerts {
        let url = format!("https://grafana.example.org/explore?{}={}", alert.fingerprint, "x".repeat(3000));
        alert.doc.annotations.insert("logs_url".to_owned(), url);
    }
    let message = shown(&incident, Form::Full);
    assert_eq!(message.html.matches("<li>").count(), 30);
    assert!(!message.html.contains("Logs"));
}

#[test]
fn plainer() {
    insta::assert_snapshot!(show(&shown(&pods(5), Form::Counts)), @r##"
    🟠 <span data-mx-color="#bf5b04"><strong>WARNING</strong></span> <strong>PodNotReady</strong> · 5 firing<br>
    <code>namespace=shop</code><br>
    since 12:03 UTC
    --
    🟠 WARNING PodNotReady · 5 firing
    namespace=shop
    since 12:03 UTC
    "##);
    insta::assert_snapshot!(show(&shown(&pods(5), Form::OneLine)), @r"
    🟠 WARNING PodNotReady · 5 firing
    --
    🟠 WARNING PodNotReady · 5 firing
    ");
}

fn mixed_names() -> Incident {
    let mut alerts = vec![
        alert(
            "1",
            &[("alertname", "KubePodNotReady"), ("severity", "warning"), ("namespace", "media"), ("pod", "a-1")],
            &[("summary", "Pod is not ready")],
        ),
        alert(
            "2",
            &[
                ("alertname", "PVCFillingUp"),
                ("severity", "critical"),
                ("namespace", "media"),
                ("persistentvolumeclaim", "db"),
            ],
            &[("summary", "97% used"), ("runbook_url", "https://runbooks.example.org/pvc")],
        ),
        alert("3", &[("alertname", "Watchdog"), ("severity", "none"), ("namespace", "media")], &[]),
    ];
    alerts[0].changed_at = at(12, 10);
    let mut incident = incident(alerts);
    incident.doc.group_labels.insert("namespace".to_owned(), "media".to_owned());
    incident
}

#[test]
fn several_names() {
    insta::assert_snapshot!(show(&shown(&mixed_names(), Form::Full)));
}

#[test]
fn no_labels_at_all() {
    insta::assert_snapshot!(show(&shown(&incident(vec![alert("1", &[], &[])]), Form::Full)), @r"
    ⚪ <strong>FIRING</strong> <strong>Alert</strong><br>
    since 12:03 UTC
    --
    ⚪ FIRING Alert
    since 12:03 UTC
    ");
    insta::assert_snapshot!(show(&shown(&incident(vec![alert("1", &[], &[]), alert("2", &[], &[])]), Form::Full)));
    insta::assert_snapshot!(show(&shown(&incident(Vec::new()), Form::Full)));
}

fn long() -> Incident {
    let long = "a very long sentence about a disk that fills up ".repeat(30);
    let name = "KubernetesDeploymentReplicasMismatchForAVeryLongTimeInProduction";
    let labels: Vec<(String, String)> = (0..20).map(|n| (format!("label_{n:02}"), "v".repeat(200))).collect();
    let mut pairs = vec![("alertname", name), ("severity", "critical"), ("cluster", "production-europe-west-1")];
    pairs.extend(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let alert = alert("1", &pairs, &[("summary", &long), ("description", &format!("one\ntwo\n{long}\n4\n5\n6\n7\n8"))]);
    incident(vec![alert])
}

#[test]
fn long_values() {
    insta::assert_snapshot!(show(&shown(&long(), Form::Full)));
}

#[test]
fn an_exporter_speaks_of_the_machine() {
    let labels = [
        ("alertname", "NodeClockSkew"),
        ("instance", "10.0.0.1:9100"),
        ("namespace", "monitoring"),
        ("pod", "node-exporter-x2v"),
    ];
    let message = shown(&incident(vec![alert("1", &labels, &[("summary", "Clock is off by 2 s")])]), Form::Full);
    assert!(
        message.body.starts_with("⚪ FIRING NodeClockSkew 10.0.0.1:9100 — Clock is off by 2 s\n"),
        "{}",
        message.body
    );
    let message = shown(&incident(vec![alert("1", &labels, &[("summary", "Clock of 10.0.0.1 is off")])]), Form::Full);
    assert!(message.body.starts_with("⚪ FIRING NodeClockSkew — Clock of 10.0.0.1 is off\n"), "{}", message.body);
}
