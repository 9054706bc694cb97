//! A heartbeat that is missing, as people read it.

use std::time::Duration;

use super::{
    check::{assert_sound, show},
    rendered::{card, digest_card, reply},
    samples::{alert, at, crash_loop, incident, note, resolved, style},
};
use crate::{
    model::{Form, HEARTBEATS, Incident, IncidentState, NoteKind},
    render::{
        answer,
        heartbeat::{annotations, is_back, is_unwatched},
    },
};

fn missing(labels: &[&str], is_over: bool) -> Incident {
    let said = annotations("prometheus", labels.iter().copied(), Duration::from_mins(15), is_over);
    let said: Vec<(&str, &str)> = said.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let own = [("alertname", "HeartbeatMissing"), ("heartbeat", "prometheus"), ("severity", "critical")];
    let by: Vec<(&str, &str)> = labels.iter().map(|value| ("cluster", *value)).collect();
    let mut incident = incident(vec![alert("heartbeat", &[&own[..], &by].concat(), &said)]);
    incident.key.receiver = HEARTBEATS.to_owned();
    incident.doc.external_url = String::new();
    incident
}

fn shown(incident: &Incident) -> String {
    let message = card(&style(), incident, Some(at(12, 18)), at(12, 40), Form::Full);
    assert_sound(&message);
    show(&message)
}

fn back() -> Incident {
    let mut incident = missing(&["the-cluster"], false);
    incident.alerts = incident.alerts.into_iter().map(|alert| resolved(alert, at(12, 26))).collect();
    incident.alerts[0].doc.annotations.extend(is_back());
    (incident.state, incident.closed_at) = (IncidentState::Resolved, Some(at(12, 26)));
    incident
}

#[test]
fn a_card_says_what_it_means_and_what_to_do() {
    insta::assert_snapshot!(shown(&missing(&["the-cluster"], false)), @r##"
    💔 <strong>No heartbeat from prometheus (the-cluster)</strong> for 15 min: alerts may not reach this room<br>
    Nothing was heard of this alert, which always fires: Alertmanager is down, cannot reach this receiver, or has the alert silenced.<br>
    Check whether Alertmanager and Prometheus run. Until the heartbeat is back, quiet in this room proves nothing.<br>
    <code>cluster=the-cluster</code><br>
    since 12:03 UTC
    --
    💔 No heartbeat from prometheus (the-cluster) for 15 min: alerts may not reach this room
    Nothing was heard of this alert, which always fires: Alertmanager is down, cannot reach this receiver, or has the alert silenced.
    Check whether Alertmanager and Prometheus run. Until the heartbeat is back, quiet in this room proves nothing.
    cluster=the-cluster
    since 12:03 UTC
    "##);
    insta::assert_snapshot!(shown(&missing(&[], true)), @r##"
    💔 <strong>No heartbeat from prometheus</strong> for 15 min: alerts may not reach this room<br>
    Alertmanager says that this alert has ended, which it does by itself only if Prometheus stops sending it: Prometheus is down, does not evaluate its rules, or cannot reach Alertmanager.<br>
    Check whether Prometheus runs. Until the heartbeat is back, nothing that it would find comes here.<br>
    since 12:03 UTC
    --
    💔 No heartbeat from prometheus for 15 min: alerts may not reach this room
    Alertmanager says that this alert has ended, which it does by itself only if Prometheus stops sending it: Prometheus is down, does not evaluate its rules, or cannot reach Alertmanager.
    Check whether Prometheus runs. Until the heartbeat is back, nothing that it would find comes here.
    since 12:03 UTC
    "##);
}

#[test]
fn it_is_green_when_beats_are_back_and_grey_when_nobody_watches() {
    insta::assert_snapshot!(shown(&back()), @r##"
    🟢 <strong>Heartbeat from prometheus (the-cluster) is back</strong> after 23 min<br>
    Beats come again. What fired and ended in between may not have come here: look at Alertmanager.<br>
    <code>cluster=the-cluster</code><br>
    12:03–12:26 UTC
    --
    🟢 Heartbeat from prometheus (the-cluster) is back after 23 min
    Beats come again. What fired and ended in between may not have come here: look at Alertmanager.
    cluster=the-cluster
    12:03–12:26 UTC
    "##);
    let mut gone = missing(&["the-cluster"], false);
    gone.alerts[0].state = crate::model::AlertState::Gone;
    gone.alerts[0].doc.annotations.extend(is_unwatched());
    (gone.state, gone.closed_at) = (IncidentState::Gone, Some(at(12, 30)));
    insta::assert_snapshot!(shown(&gone), @r##"
    ⚪ <strong>Heartbeat from prometheus (the-cluster) is not watched any more</strong> since 12:30 UTC<br>
    The config does not name it any more, or it was disarmed by command. The next beat arms what the config names.<br>
    <code>cluster=the-cluster</code><br>
    began 12:03 UTC
    --
    ⚪ Heartbeat from prometheus (the-cluster) is not watched any more since 12:30 UTC
    The config does not name it any more, or it was disarmed by command. The next beat arms what the config names.
    cluster=the-cluster
    began 12:03 UTC
    "##);
}

#[test]
fn its_reply_its_line_in_a_digest_and_the_answer_to_why() {
    let reply = reply(&style(), &back(), &[&note(NoteKind::Resolved, &[])], Some(at(12, 18)), at(12, 40), Form::Full);
    insta::assert_snapshot!(show(&reply), @r##"
    🟢 <strong>HeartbeatMissing prometheus (the-cluster)</strong>: resolved after 23 min
    --
    🟢 HeartbeatMissing prometheus (the-cluster): resolved after 23 min
    "##);
    let missing = missing(&["the-cluster"], false);
    let digest = digest_card(&style(), &[&missing, &crash_loop()], at(12, 40));
    insta::assert_snapshot!(show(&digest.message), @r##"
    🌩 <strong>2 incidents</strong>, all critical: HeartbeatMissing heartbeat=prometheus, PodCrashLooping media/jellyfin-0<ul>
    <li>🔴 <strong>HeartbeatMissing</strong> heartbeat=prometheus — No heartbeat from prometheus (the-cluster) for 15 min: alerts may not reach this room</li>
    <li>🔴 <strong>PodCrashLooping</strong> media/jellyfin-0 — Pod media/jellyfin-0 is crash looping · <a href="https://grafana.example.org/explore?left=%7B%22expr%22%3A%22%7Bpod%3D%5C%22jellyfin-0%5C%22%7D%22%2C%22range%22%3A%7B%22from%22%3A%221795348080000%22%2C%22to%22%3A%22now%22%7D%7D">Logs</a></li>
    </ul>
    since 12:03 UTC · <a href="https://alertmanager.example.org/">Alertmanager</a>
    --
    🌩 2 incidents, all critical: HeartbeatMissing heartbeat=prometheus, PodCrashLooping media/jellyfin-0
    - 🔴 HeartbeatMissing heartbeat=prometheus — No heartbeat from prometheus (the-cluster) for 15 min: alerts may not reach this room
    - 🔴 PodCrashLooping media/jellyfin-0 — Pod media/jellyfin-0 is crash looping
      Logs: https://grafana.example.org/explore?left=%7B%22expr%22%3A%22%7Bpod%3D%5C%22jellyfin-0%5C%22%7D%22%2C%22range%22%3A%7B%22from%22%3A%221795348080000%22%2C%22to%22%3A%22now%22%7D%7D
    since 12:03 UTC
    Alertmanager: https://alertmanager.example.org/
    "##);
    let why = answer::why(&style(), &missing, true, at(12, 40));
    insta::assert_snapshot!(show(&why.message()), @r##"
    ℹ️ HeartbeatMissing prometheus (the-cluster): 1 firing<br>
    Nobody has taken it.<br>
    HeartbeatMissing: firing since 12:03 UTC<br>
    Last beat: 12:03 UTC, 37 min ago.<br>
    This receiver watches the heartbeat itself; Alertmanager knows no such alert.
    --
    ℹ️ HeartbeatMissing prometheus (the-cluster): 1 firing
    Nobody has taken it.
    HeartbeatMissing: firing since 12:03 UTC
    Last beat: 12:03 UTC, 37 min ago.
    This receiver watches the heartbeat itself; Alertmanager knows no such alert.
    "##);
    let why = answer::why(&style(), &back(), true, at(12, 40));
    insta::assert_snapshot!(show(&why.message()), @r##"
    ℹ️ HeartbeatMissing prometheus (the-cluster): 1 resolved<br>
    HeartbeatMissing: resolved since 12:26 UTC<br>
    It beats again since 12:26 UTC, 14 min ago.<br>
    This receiver watches the heartbeat itself; Alertmanager knows no such alert.
    --
    ℹ️ HeartbeatMissing prometheus (the-cluster): 1 resolved
    HeartbeatMissing: resolved since 12:26 UTC
    It beats again since 12:26 UTC, 14 min ago.
    This receiver watches the heartbeat itself; Alertmanager knows no such alert.
    "##);
}

#[test]
fn hostile_labels_stay_in_their_place() {
    let hostile = missing(&["<b>\n](https://evil.example) @room \u{202e}x"], false);
    let first = card(&style(), &hostile, None, at(12, 40), Form::Full).first_line().body;
    assert!(first.starts_with("💔 No heartbeat from prometheus (<b> ](https://evil.example"), "{first}");
    shown(&hostile);
}
