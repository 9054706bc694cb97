//! What is known of alerts that do not notify, in every place that names it.

use super::rendered::{card, digest, reply};
use super::{
    check::assert_sound,
    samples::{absent, alert, at, crash_loop, disk_pressure, incident, note, resolved, style},
};
use crate::{
    model::{Alert, AlertState, Finding, Form, Incident, IncidentId, IncidentState, KnownSilence, NoteKind, Seen},
    render::status::summarize,
};

fn silenced(by: &str, comment: &str) -> Seen {
    let silence =
        KnownSilence { id: "s".to_owned(), by: by.to_owned(), until: at(14, 31), comment: comment.to_owned() };
    Finding::Silenced { silences: vec![silence] }.into()
}

fn inhibited() -> Seen {
    Finding::Inhibited { by: vec!["NodeDown".to_owned()] }.into()
}

fn muted() -> Seen {
    Finding::Muted { by: vec!["weekend".to_owned()] }.into()
}

fn unheard(seen: Seen) -> Seen {
    Seen { unheard_since: Some(at(12, 40)), ..seen }
}

fn seen(alert: Alert, seen: Seen) -> Alert {
    Alert { seen: Some(seen), ..absent(alert, at(12, 20)) }
}

fn gone(alert: Alert) -> Alert {
    Alert { state: AlertState::Gone, changed_at: at(12, 30), ..alert }
}

fn closed_as_gone(mut incident: Incident) -> Incident {
    (incident.state, incident.closed_at) = (IncidentState::Gone, Some(at(12, 30)));
    incident
}

fn body(incident: &Incident) -> String {
    let message = card(&style(), incident, Some(at(12, 3)), at(12, 50), Form::Full);
    assert_sound(&message);
    message.body
}

fn line(text: &str, start: &str) -> String {
    text.lines().find(|line| line.contains(start)).unwrap_or_else(|| panic!("no {start} in {text}")).to_owned()
}

/// A card of one alert: its first line up to the name, and what stands beside its start.
fn of_one(known: Seen) -> (String, String) {
    let mut one = crash_loop();
    one.alerts[0] = seen(one.alerts[0].clone(), known);
    one.state = IncidentState::Quiet;
    let body = body(&one);
    let head = body.lines().next().unwrap().split(" PodCrashLooping").next().unwrap().to_owned();
    (head, line(&body, "since 12:03 UTC"))
}

#[test]
fn the_first_word_and_the_start_say_what_holds_back() {
    for (known, head, start) in [
        (silenced("Bob", "disk"), "🔕 SILENCED", "since 12:03 UTC"),
        (inhibited(), "🔕 INHIBITED", "since 12:03 UTC, inhibited by NodeDown"),
        (Finding::Inhibited { by: Vec::new() }.into(), "🔕 INHIBITED", "since 12:03 UTC, inhibited"),
        (muted(), "🔕 MUTED", "since 12:03 UTC, muted (time interval)"),
        (Finding::Unknown.into(), "🔕 NO LONGER REPORTED", "since 12:03 UTC, perhaps silenced"),
        (
            unheard(Finding::Unknown.into()),
            "🔕 NO LONGER REPORTED",
            "since 12:03 UTC, perhaps silenced, not heard of since 12:40",
        ),
        (unheard(silenced("Bob", "")), "🔕 SILENCED", "since 12:03 UTC, not heard of since 12:40"),
        (unheard(muted()), "🔕 MUTED", "since 12:03 UTC, muted (time interval) · not heard of since 12:40"),
    ] {
        assert_eq!(of_one(known.clone()), (head.to_owned(), start.to_owned()), "{known:?}");
    }
}

#[test]
fn beside_what_fires_each_line_says_why_it_does_not() {
    let mut several = disk_pressure();
    for (known, words) in [
        (silenced("Bob", "disk is replaced"), "silenced by Bob until 14:31: disk is replaced"),
        (silenced("Bob", ""), "silenced by Bob until 14:31"),
        (silenced("", "x"), "silenced until 14:31: x"),
        (Finding::Silenced { silences: Vec::new() }.into(), "silenced"),
        (inhibited(), "inhibited by NodeDown"),
        (muted(), "muted (time interval)"),
        (unheard(inhibited()), "inhibited by NodeDown · not heard of since 12:40"),
        (Finding::Unknown.into(), "no longer reported (silenced?)"),
        (unheard(Finding::Unknown.into()), "no longer reported (silenced?) · not heard of since 12:40"),
    ] {
        let at = several.alerts.iter().position(|alert| alert.fingerprint == "controlplane3").unwrap();
        several.alerts[at] = seen(several.alerts[at].clone(), known);
        assert_eq!(line(&body(&several), "controlplane3"), format!("- controlplane3 {words}"));
    }
    let at = several.alerts.iter().position(|alert| alert.fingerprint == "controlplane3").unwrap();
    several.alerts[at] = gone(several.alerts[at].clone());
    let body = body(&several);
    assert_eq!(line(&body, "controlplane3"), "- controlplane3 no longer in Alertmanager");
    assert!(body.lines().next().unwrap().ends_with("· 2 firing, 1 resolved, 1 no longer in Alertmanager"), "{body}");
}

#[test]
fn what_holds_back_all_is_not_repeated_on_each_line() {
    let all = |known: [Seen; 2]| {
        let nodes = disk_pressure();
        let alerts = nodes.alerts.iter().filter(|alert| alert.state == AlertState::Firing).cloned();
        let alerts: Vec<Alert> = alerts.zip(known).map(|(alert, known)| seen(alert, known)).collect();
        assert_eq!(alerts.len(), 2);
        body(&Incident { state: IncidentState::Quiet, alerts, ..nodes })
    };
    let same = all([inhibited(), inhibited()]);
    assert_eq!(same.matches("inhibited by NodeDown").count(), 1, "{same}");
    assert!(same.starts_with("🔕 INHIBITED NodeDiskPressure the-cluster · 2 alerts"), "{same}");
    let two = all([silenced("Bob", "a"), silenced("Eve", "b")]);
    assert!(two.starts_with("🔕 SILENCED "), "{two}");
    assert!(
        two.contains("· silenced by Bob until 14:31: a\n") && two.contains("· silenced by Eve until 14:31: b\n"),
        "{two}"
    );
    let mixed = all([silenced("Bob", "a"), muted()]);
    assert!(mixed.starts_with("🔕 NO LONGER REPORTED "), "{mixed}");
    assert!(mixed.contains("· muted (time interval)\n"), "{mixed}");
}

#[test]
fn all_gone_is_not_called_resolved() {
    let one = {
        let mut one = crash_loop();
        one.alerts[0] = gone(one.alerts[0].clone());
        closed_as_gone(one)
    };
    assert!(
        body(&one).starts_with(
            "⚪ NO LONGER IN ALERTMANAGER PodCrashLooping since 12:30 UTC — Pod media/jellyfin-0 is crash looping\n"
        ),
        "{}",
        body(&one)
    );
    let mut several = disk_pressure();
    several.alerts = several
        .alerts
        .into_iter()
        .map(|alert| if alert.state == AlertState::Resolved { alert } else { gone(alert) })
        .collect();
    let several = closed_as_gone(several);
    let text = body(&several);
    assert!(
        text.starts_with(
            "⚪ NO LONGER IN ALERTMANAGER NodeDiskPressure the-cluster since 12:30 UTC · 4 alerts, 1 resolved\n"
        ),
        "{text}"
    );
    assert!(line(&text, "controlplane1").starts_with("- controlplane1 — disk usage above 90%"), "{text}");
    assert!(text.contains("controlplane2 resolved"), "{text}");
}

#[test]
fn many_share_a_line() {
    let mut alerts = disk_pressure().alerts;
    alerts.truncate(1);
    let node = alerts[0].clone();
    for n in 0..6 {
        let mut one = node.clone();
        one.fingerprint = format!("other{n}");
        one.doc.labels.insert("instance".to_owned(), format!("other{n}"));
        one.doc.labels.insert("node".to_owned(), format!("other{n}"));
        alerts.push(one);
    }
    let many = |change: &dyn Fn(Alert) -> Alert| {
        let alerts = alerts.iter().enumerate().map(|(n, one)| if n == 0 { one.clone() } else { change(one.clone()) });
        body(&incident(alerts.collect()))
    };
    let text = many(&|alert| seen(alert, silenced("Bob", "disk")));
    assert!(line(&text, "other5").ends_with("silenced by Bob until 14:31: disk"), "{text}");
    assert!(line(&many(&gone), "other5").ends_with("no longer in Alertmanager"));
    assert!(line(&many(&|alert| absent(alert, at(12, 20))), "other5").ends_with("no longer reported (silenced?)"));
}

#[test]
fn digest_rows_and_their_head_name_it() {
    let quiet = |id: &str, name: &str, known: Option<Seen>| {
        let alert =
            absent(alert(id, &[("alertname", name), ("severity", "critical")], &[("summary", "x")]), at(12, 20));
        Incident { id: IncidentId(id.to_owned()), ..incident(vec![Alert { seen: known, ..alert }]) }
    };
    let rows = |all: &[Incident]| {
        let digest = digest(&style(), &all.iter().collect::<Vec<_>>(), Some(at(12, 3)), at(12, 50), Form::Full, false);
        assert_sound(&digest.message);
        digest.message.body
    };
    let text = rows(&[quiet("1", "A", Some(silenced("Bob", "disk"))), quiet("2", "B", Some(silenced("Eve", "")))]);
    assert!(text.starts_with("🔕 2 incidents, all silenced: A, B\n"), "{text}");
    assert!(text.contains("- 🔕 A silenced by Bob until 14:31: disk\n"), "{text}");
    let over = closed_as_gone(Incident {
        id: IncidentId("4".to_owned()),
        ..incident(vec![gone(alert("4", &[("alertname", "D")], &[]))])
    });
    let text = rows(&[quiet("1", "A", Some(muted())), quiet("2", "B", None), over]);
    assert!(text.starts_with("🔕 3 incidents, all no longer reported: "), "{text}");
    for expected in
        ["- 🔕 A muted (time interval)\n", "- 🔕 B no longer reported\n", "- ⚪ D no longer in Alertmanager since"]
    {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn a_reply_whose_note_is_no_longer_true_says_it() {
    let mut one = crash_loop();
    one.alerts[0] = seen(one.alerts[0].clone(), silenced("Bob", "disk"));
    one.state = IncidentState::Quiet;
    let note = note(NoteKind::NewFiring, &[&one.alerts[0].fingerprint]);
    let message = reply(&style(), &one, &[&note], Some(at(12, 3)), at(12, 50), Form::Full);
    assert_eq!(message.body, "🔕 PodCrashLooping: silenced by Bob until 14:31: disk");
}

#[test]
fn the_status_page_says_it() {
    let mut one = crash_loop();
    one.alerts[0] = seen(one.alerts[0].clone(), inhibited());
    one.state = IncidentState::Quiet;
    let summary = summarize(&style(), &one, &[(AlertState::Absent, 1), (AlertState::Gone, 2)], false);
    assert_eq!((summary.emoji.as_str(), summary.word.as_str()), ("🔕", "inhibited"));
    assert_eq!(summary.counts, "1 no longer reported, 2 no longer in Alertmanager");
}

#[test]
fn what_people_write_into_a_silence_is_harmless_and_short() {
    let hostile = "</li><b>@room</b>\n\u{202e}evil ".repeat(50);
    let mut several = disk_pressure();
    let at = several.alerts.iter().position(|alert| alert.fingerprint == "controlplane3").unwrap();
    several.alerts[at] = seen(several.alerts[at].clone(), silenced(&hostile, &hostile));
    let message = card(&style(), &several, Some(super::samples::at(12, 3)), super::samples::at(12, 50), Form::Full);
    assert_sound(&message);
    assert!(!message.html.contains("<b>"), "{}", message.html);
    assert!(line(&message.body, "controlplane3").chars().count() < 300);
    let mut back = resolved(several.alerts[at].clone(), super::samples::at(12, 45));
    back.seen = None;
    several.alerts[at] = back;
    assert!(!body(&several).contains("evil"));
}
