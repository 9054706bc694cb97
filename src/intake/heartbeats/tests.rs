//! Beats leave a payload, and the rest is as if they had never been in it.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{
    config::Display,
    intake::{apply, decode, settle},
    model::{Incident, IncidentId, IncidentState, IncidentWrite, NotificationId, RouteName},
};

const NOW: Timestamp = Timestamp(1_000_000);

fn route() -> Route {
    let heartbeat = |name: &str, alertname: &str, by: &[&str]| Heartbeat {
        name: name.to_owned(),
        matches: [("alertname".to_owned(), alertname.to_owned())].into(),
        by: by.iter().map(ToString::to_string).collect(),
        timeout: Duration::from_mins(15),
        ping_url: None,
    };
    let mut route = Route::with_defaults(RouteName::parse("default").expect("a name"));
    route.heartbeats = vec![heartbeat("prometheus", "Watchdog", &["cluster", "prometheus"]), heartbeat("b", "B", &[])];
    route
}

fn alert(fingerprint: &str, status: &str, labels: &Value) -> Value {
    json!({ "fingerprint": fingerprint, "status": status, "labels": labels, "startsAt": "2026-11-22T12:00:00Z" })
}

fn watchdog(fingerprint: &str, status: &str, cluster: &str) -> Value {
    alert(fingerprint, status, &json!({ "alertname": "Watchdog", "cluster": cluster }))
}

fn payload(alerts: &[Value]) -> Webhook {
    let body = json!({ "receiver": "r", "groupKey": "g", "alerts": alerts });
    decode(body.to_string().as_bytes()).expect("a webhook")
}

fn splits(alerts: &[Value]) -> (Webhook, Beats) {
    let mut webhook = payload(alerts);
    let beats = split(&mut webhook, &route());
    (webhook, beats)
}

fn known(incident: Incident) -> Known {
    Known { incident, cards: Vec::new(), repeated: false, taken: false }
}

/// The incident after a payload that is taken as it is.
fn opened(webhook: &Webhook) -> Incident {
    let (display, route) = (Display::default(), route());
    let rules = Rules::of(&route, &display);
    let key = crate::model::IncidentKey {
        route: route.name.clone(),
        receiver: "r".to_owned(),
        group_key: webhook.group_key.clone(),
    };
    let changes = reconcile(None, webhook, &rules, NOW);
    let (id, notification) = (IncidentId("i".to_owned()), NotificationId("n".to_owned()));
    apply(None, &key, &id, &changes, &notification, NOW).expect("an incident")
}

fn rest_of(known: Option<&Known>, alerts: &[Value]) -> Changes {
    let (rest, beats) = splits(alerts);
    let (display, route) = (Display::default(), route());
    reconcile_rest(known, &rest, &beats.alerts, &Rules::of(&route, &display), NOW)
}

#[test]
fn beats_leave_the_payload_one_for_each_set_of_labels() {
    let a = alert("a", "firing", &json!({ "alertname": "Watchdogs" }));
    let (rest, beats) = splits(&[
        a.clone(),
        watchdog("w1", "firing", "one"),
        watchdog("w2", "resolved", "one"),
        watchdog("w3", "resolved", "two"),
        alert("w4", "firing", &json!({ "alertname": "B", "cluster": "one" })),
    ]);
    assert_eq!(rest.alerts.iter().map(|alert| alert.fingerprint.as_str()).collect::<Vec<_>>(), ["a"]);
    let switches: Vec<(String, bool)> = beats.switches.iter().map(|beat| (beat.key.identity(), beat.firing)).collect();
    let expected = [
        (r#"["b",{}]"#, true),
        (r#"["prometheus",{"cluster":"one","prometheus":""}]"#, true),
        (r#"["prometheus",{"cluster":"two","prometheus":""}]"#, false),
    ];
    assert_eq!(switches, expected.map(|(key, firing)| (key.to_owned(), firing)));
    // The rest is a repeat of what it would have been without them.
    assert_eq!(rest.content_hash, payload(&[a]).content_hash);
}

#[test]
fn a_payload_without_beats_stays_as_it_is() {
    let all = [alert("a", "firing", &json!({ "alertname": "A" })), alert("b", "firing", &json!({ "x": "Watchdog" }))];
    let (rest, beats) = splits(&all);
    assert_eq!((rest, beats), (payload(&all), Beats::default()));
}

#[test]
fn hostile_labels_make_bounded_keys() {
    let long = "x".repeat(16_000);
    let (_, beats) = splits(&[watchdog("w", "firing", &long), watchdog("v", "firing", &format!("{long}y"))]);
    let [beat] = beats.switches.as_slice() else { panic!("one switch: {:?}", beats.switches.len()) };
    assert!(beat.key.identity().len() < 300);
}

#[test]
fn many_long_values_make_a_key_that_fits_into_an_index_and_stay_distinct() {
    let names: Vec<String> = (0..16).map(|n| format!("label_{n}")).collect();
    let key = |last: &str| -> Labels {
        let heartbeat = Heartbeat {
            name: "prometheus".to_owned(),
            matches: BTreeMap::new(),
            by: names.clone(),
            timeout: Duration::from_mins(1),
            ping_url: None,
        };
        let value = |name: &String| format!("{}{name}{last}", "\u{1}ä".repeat(60));
        labels_of(&heartbeat, &names.iter().map(|name| (name.clone(), value(name))).collect())
    };
    let (one, two) = (key("1"), key("2"));
    assert!(serde_json::to_string(&one).expect("JSON").len() < 2_000, "{one:?}");
    assert_eq!(one.len(), 16);
    assert_ne!(one, two);
}

#[test]
fn a_group_of_beats_alone_makes_nothing() {
    for status in ["firing", "resolved"] {
        let changes = rest_of(None, &[watchdog("w", status, "one")]);
        assert_eq!((changes.outcome, changes.write), (Outcome::Beat, IncidentWrite::None));
    }
    // Nor does it touch an incident that is over.
    let over = opened(&payload(&[alert("a", "resolved", &json!({}))]));
    assert_eq!(over.state, IncidentState::Resolved);
    let changes = rest_of(Some(&known(over)), &[watchdog("w", "firing", "one")]);
    assert_eq!((changes.outcome, changes.write), (Outcome::Beat, IncidentWrite::None));
}

#[test]
fn what_was_an_incident_before_it_was_a_heartbeat_is_resolved() {
    let a = alert("a", "firing", &json!({ "alertname": "A" }));
    let alone = opened(&payload(&[watchdog("w", "firing", "one")]));
    let changes = rest_of(Some(&known(alone)), &[watchdog("w", "firing", "one")]);
    assert_eq!((changes.outcome, changes.state), (Outcome::Resolved, IncidentState::Resolved));
    let with_others = opened(&payload(&[a.clone(), watchdog("w", "firing", "one")]));
    let changes = rest_of(Some(&known(with_others.clone())), &[a.clone(), watchdog("w", "firing", "one")]);
    assert_eq!((changes.outcome, changes.state), (Outcome::Changed, IncidentState::Firing));
    assert_eq!(changes.alerts.iter().map(|alert| alert.fingerprint.as_str()).collect::<Vec<_>>(), ["w"]);
    // In another group of the route as well.
    let (rest, beats) = splits(&[watchdog("w", "firing", "one")]);
    let (display, route) = (Display::default(), route());
    let webhook = resolving(&rest, &beats.alerts);
    let settled = settle(&known(with_others), &webhook, &Rules::of(&route, &display), NOW).expect("a change");
    assert_eq!(settled.state, IncidentState::Firing);
}

#[test]
fn the_rest_of_a_mixed_group_follows_its_usual_rules() {
    let a = alert("a", "firing", &json!({ "alertname": "A" }));
    let changes = rest_of(None, &[a.clone(), watchdog("w", "firing", "one")]);
    assert_eq!((changes.outcome, changes.alerts.len()), (Outcome::Opened, 1));
    // No longer listed: absent, as without a heartbeat.
    let open = opened(&payload(&[a]));
    let changes = rest_of(Some(&known(open)), &[watchdog("w", "firing", "one")]);
    assert_eq!((changes.outcome, changes.state), (Outcome::Changed, IncidentState::Quiet));
}

#[test]
fn no_payload_speaks_of_an_alarm() {
    let body = json!({ "receiver": crate::model::HEARTBEATS, "groupKey": "g", "alerts": [] });
    let webhook = decode(body.to_string().as_bytes()).expect("a webhook");
    assert_ne!(webhook.receiver, crate::model::HEARTBEATS);
    let mut alarm = opened(&payload(&[alert("heartbeat", "firing", &json!({}))]));
    alarm.key.receiver = crate::model::HEARTBEATS.to_owned();
    let (display, route) = (Display::default(), route());
    let resolved = payload(&[alert("heartbeat", "resolved", &json!({}))]);
    assert_eq!(settle(&known(alarm), &resolved, &Rules::of(&route, &display), NOW), None);
}
