//! Every kind of note.

use super::rendered::reply;
use super::{
    check::{assert_sound, show},
    samples::{absent, alert, api_down, at, crash_loop, disk_pressure, incident, note, resolved, style},
};
use crate::{
    model::{Alert, AlertState, Form, Incident, IncidentState, Note, NoteKind},
    render::Message,
};

fn said(incident: &Incident, notes: &[&Note]) -> Message {
    let message = reply(&style(), incident, notes, Some(at(12, 3)), at(14, 30), Form::Full);
    assert_sound(&message);
    message
}

fn first_line(incident: &Incident, kind: NoteKind, fingerprints: &[&str]) -> String {
    let message = said(incident, &[&note(kind, fingerprints)]);
    message.body.lines().next().unwrap().to_owned()
}

#[test]
fn new_firing() {
    let incident = disk_pressure();
    let one = said(&incident, &[&note(NoteKind::NewFiring, &["controlplane4"])]);
    insta::assert_snapshot!(show(&one), @r#"
    🟠 <strong>NodeDiskPressure</strong>: new on controlplane4 — disk usage above 90%, only 8.8% remaining<br>
    <a href="https://grafana.example.org/explore?node=controlplane4">Logs</a>
    --
    🟠 NodeDiskPressure: new on controlplane4 — disk usage above 90%, only 8.8% remaining
    Logs: https://grafana.example.org/explore?node=controlplane4
    "#);
    assert_eq!(
        first_line(&incident, NoteKind::NewFiring, &["controlplane1", "controlplane4"]),
        "🟠 NodeDiskPressure: 2 new, on controlplane1 and controlplane4"
    );
    assert_eq!(
        first_line(&crash_loop(), NoteKind::NewFiring, &["a1"]),
        "🔴 PodCrashLooping: new on media/jellyfin-0 — Pod media/jellyfin-0 is crash looping"
    );
}

#[test]
fn many_new_firing() {
    let one = |n: u32| {
        let labels = [("alertname", "X"), ("severity", "critical"), ("node", &*format!("n{n}"))];
        alert(&n.to_string(), &labels, &[("summary", "down"), ("logs_url", &format!("https://logs.example.org/{n}"))])
    };
    let incident = incident((0..9).map(one).collect());
    let all = said(&incident, &[&note(NoteKind::NewFiring, &[])]);
    insta::assert_snapshot!(show(&all), @r#"
    🔴 <strong>X</strong>: 9 new, on n0, n1, n2 and 6 more — down<br>
    <a href="https://logs.example.org/0">Logs n0</a> · <a href="https://logs.example.org/1">Logs n1</a> · <a href="https://logs.example.org/2">Logs n2</a>
    --
    🔴 X: 9 new, on n0, n1, n2 and 6 more — down
    Logs n0: https://logs.example.org/0
    Logs n1: https://logs.example.org/1
    Logs n2: https://logs.example.org/2
    "#);
}

#[test]
fn several_names() {
    let incident = incident(vec![
        alert("1", &[("alertname", "A"), ("severity", "info"), ("node", "n1")], &[]),
        alert("2", &[("alertname", "B"), ("severity", "critical"), ("node", "n2")], &[]),
        alert("3", &[("alertname", "B"), ("severity", "critical"), ("node", "n3")], &[]),
    ]);
    assert_eq!(first_line(&incident, NoteKind::NewFiring, &["3"]), "🔴 B: new on n3");
    assert_eq!(first_line(&incident, NoteKind::NewFiring, &["1"]), "🔵 A: new on n1");
    assert_eq!(first_line(&incident, NoteKind::NewFiring, &["1", "3"]), "🔴 3 alerts: 2 new, on B n3 and A n1");
}

#[test]
fn again_and_back() {
    let mut again = note(NoteKind::Again, &[]);
    again.args.flaps = 2;
    let message = said(&api_down_firing(), &[&again]);
    insta::assert_snapshot!(show(&message), @r#"
    🔴 <strong>KubeAPIDown</strong>: firing again (3rd time)<br>
    <a href="https://grafana.example.org/explore">Logs</a>
    --
    🔴 KubeAPIDown: firing again (3rd time)
    Logs: https://grafana.example.org/explore
    "#);
    again.args.fingerprints = vec!["controlplane1".to_owned()];
    again.args.flaps = 10;
    assert_eq!(
        said(&disk_pressure(), &[&again]).body.lines().next().unwrap(),
        "🟠 NodeDiskPressure: firing again on controlplane1 (11th time)"
    );

    let incident = disk_pressure();
    assert_eq!(
        first_line(&incident, NoteKind::Back, &["controlplane1"]),
        "🟠 NodeDiskPressure: firing again on controlplane1, was not reported for a while"
    );
    let mut back = note(NoteKind::Back, &["controlplane1"]);
    back.args.gap_ms = Some(2 * 3_600_000);
    assert_eq!(
        said(&incident, &[&back]).body.lines().next().unwrap(),
        "🟠 NodeDiskPressure: firing again on controlplane1, was not reported for 2 h"
    );
}

fn api_down_firing() -> Incident {
    let mut incident = api_down();
    incident.alerts[0].state = AlertState::Firing;
    incident.alerts[0].ends_at = None;
    incident.state = IncidentState::Firing;
    incident
}

#[test]
fn partly_resolved() {
    let mut incident = disk_pressure();
    assert_eq!(
        first_line(&incident, NoteKind::PartlyResolved, &["controlplane2"]),
        "🟢 NodeDiskPressure: controlplane2 resolved after 14 min"
    );
    incident.alerts[2] = resolved(incident.alerts[2].clone(), at(12, 40));
    assert_eq!(
        first_line(&incident, NoteKind::PartlyResolved, &["controlplane2", "controlplane3"]),
        "🟢 NodeDiskPressure: controlplane3 and controlplane2 resolved"
    );
}

#[test]
fn all_resolved() {
    insta::assert_snapshot!(show(&said(&api_down(), &[&note(NoteKind::Resolved, &[])])), @r#"
    🟢 <strong>KubeAPIDown</strong>: resolved after 22 min
    --
    🟢 KubeAPIDown: resolved after 22 min
    "#);
}

#[test]
fn reminders() {
    insta::assert_snapshot!(show(&said(&disk_pressure(), &[&note(NoteKind::Reminder, &[])])), @r#"
    🔁 <strong>NodeDiskPressure</strong>: still firing on 2, since 12:03<br>
    <a href="https://grafana.example.org/explore?node=controlplane1">Logs controlplane1</a> · <a href="https://grafana.example.org/explore?node=controlplane4">Logs controlplane4</a>
    --
    🔁 NodeDiskPressure: still firing on 2, since 12:03
    Logs controlplane1: https://grafana.example.org/explore?node=controlplane1
    Logs controlplane4: https://grafana.example.org/explore?node=controlplane4
    "#);
    assert_eq!(
        first_line(&crash_loop(), NoteKind::Reminder, &[]),
        "🔁 PodCrashLooping: still firing on media/jellyfin-0, since 12:03"
    );
    assert_eq!(first_line(&api_down_firing(), NoteKind::Reminder, &[]), "🔁 KubeAPIDown: still firing, since 12:03");
}

#[test]
fn several_notes_are_one_reply_the_most_urgent_first() {
    let (new, partly) =
        (note(NoteKind::NewFiring, &["controlplane4"]), note(NoteKind::PartlyResolved, &["controlplane2"]));
    insta::assert_snapshot!(show(&said(&disk_pressure(), &[&partly, &new])), @r#"
    🟠 <strong>NodeDiskPressure</strong>: new on controlplane4 — disk usage above 90%, only 8.8% remaining<br>
    🟢 <strong>NodeDiskPressure</strong>: controlplane2 resolved after 14 min<br>
    <a href="https://grafana.example.org/explore?node=controlplane4">Logs</a>
    --
    🟠 NodeDiskPressure: new on controlplane4 — disk usage above 90%, only 8.8% remaining
    🟢 NodeDiskPressure: controlplane2 resolved after 14 min
    Logs: https://grafana.example.org/explore?node=controlplane4
    "#);
}

#[test]
fn what_was_overtaken_is_not_told_as_if_it_were_so() {
    let new = note(NoteKind::NewFiring, &["k1"]);
    assert_eq!(said(&api_down(), &[&new]).body, "🟢 KubeAPIDown: resolved after 22 min");
    assert_eq!(
        said(&api_down(), &[&new, &note(NoteKind::Resolved, &[])]).body,
        "🟢 KubeAPIDown: resolved after 22 min"
    );
    let mut quiet = crash_loop();
    quiet.alerts[0] = absent(quiet.alerts[0].clone(), at(12, 20));
    quiet.state = IncidentState::Quiet;
    assert_eq!(said(&quiet, &[&note(NoteKind::Again, &["a1"])]).body, "🔕 PodCrashLooping: no longer reported");
}

#[test]
fn plainer() {
    let (new, partly) =
        (note(NoteKind::NewFiring, &["controlplane4"]), note(NoteKind::PartlyResolved, &["controlplane2"]));
    let plain = |form| reply(&style(), &disk_pressure(), &[&new, &partly], None, at(12, 30), form);
    assert_eq!(plain(Form::Counts).body.lines().count(), 2);
    assert!(!plain(Form::Counts).html.contains("<a "));
    assert_eq!(plain(Form::OneLine).body.lines().count(), 1);
    assert!(!plain(Form::OneLine).html.contains('<'));
}

#[test]
fn links_that_did_not_fit_are_not_left_out_twice() {
    let mut incident = disk_pressure();
    for (n, alert) in incident.alerts.iter_mut().enumerate() {
        *alert = Alert { state: AlertState::Firing, ends_at: None, absent_since: None, ..alert.clone() };
        let url = format!("https://grafana.example.org/explore?{n}={}", "x".repeat(4_000));
        alert.doc.annotations.insert("logs_url".to_owned(), url);
    }
    let fingerprints: Vec<String> = incident.alerts.iter().map(|alert| alert.fingerprint.clone()).collect();
    let names: Vec<&str> = fingerprints.iter().map(String::as_str).collect();
    let new = note(NoteKind::NewFiring, &names);
    let plain = |form| reply(&style(), &incident, &[&new], None, at(12, 30), form);
    assert!(!plain(Form::Full).html.contains("<a "), "they do not fit");
    assert_ne!(plain(Form::Counts), plain(Form::Full), "what was refused is not sent again");
}
