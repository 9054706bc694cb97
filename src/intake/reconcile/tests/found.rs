//! What polls change, and what webhooks make of it.

use super::*;
use crate::{
    intake::reconcile::found,
    model::{Conclusion, Finding, Found, KnownSilence, Seen},
};

fn silenced() -> Finding {
    let silence =
        KnownSilence { id: "s".to_owned(), by: "Bob".to_owned(), until: Timestamp(9), comment: "disk".to_owned() };
    Finding::Silenced { silences: vec![silence] }
}

/// Findings in short: `a:silenced a:inhibited a:active a:gone a:unheard`.
fn findings(words: &str) -> Vec<Found> {
    let one = |word: &str| {
        let (fingerprint, what) = word.split_once(':').expect("a:what");
        let conclusion = match what {
            "silenced" => Conclusion::Listed(silenced()),
            "inhibited" => Conclusion::Listed(Finding::Inhibited { by: vec!["NodeDown".to_owned()] }),
            "active" => Conclusion::Listed(Finding::Active),
            "gone" => Conclusion::Gone,
            "unheard" => Conclusion::Unheard(Timestamp(5)),
            other => panic!("what is {other}?"),
        };
        Found { fingerprint: fingerprint.to_owned(), conclusion, starts_at: Some(Timestamp(0)) }
    };
    words.split_whitespace().map(one).collect()
}

impl Scene {
    /// One poll; `None`: it changed nothing.
    fn poll(&mut self, words: &str) -> Option<Changes> {
        self.find(&findings(words))
    }

    fn find(&mut self, findings: &[Found]) -> Option<Changes> {
        let incident = self.incident.clone()?;
        let changes = found(&incident, findings, &self.display, 0, self.now)?;
        let heard_at = incident.last_notified_at;
        let after = apply(Some(&incident), &incident.key, &incident.id, &changes, &incident.notification, self.now)
            .expect("one");
        self.incident = Some(Incident { last_notified_at: heard_at, ..after });
        Some(changes)
    }

    fn polled(&mut self, words: &str) -> String {
        self.poll(words).map_or_else(|| "nothing".to_owned(), |changes| short(&changes))
    }

    fn state(&self) -> IncidentState {
        self.incident.as_ref().expect("an incident").state
    }

    /// The same payload, but each alert began then.
    fn begun(&mut self, alerts: &str, starts_at: Timestamp) -> Changes {
        let mut webhook = payload(alerts);
        for alert in &mut webhook.alerts {
            alert.starts_at = Some(starts_at);
        }
        self.get(&webhook)
    }
}

/// Payloads and polls (`?` before their findings) one minute apart, with what each must come to.
fn mixed(steps: &[(&str, &str)]) -> Scene {
    let mut scene = Scene::new();
    for (index, (words, expected)) in steps.iter().enumerate() {
        scene.after(MINUTE);
        let came = match words.strip_prefix('?') {
            Some(findings) => scene.polled(findings),
            None => scene.shown(words),
        };
        assert_eq!(came, *expected, "step {} of {steps:?}", index + 1);
    }
    scene
}

#[test]
fn silenced_while_webhooks_say_nothing_is_quiet_and_fires_again_by_edits() {
    let scene = mixed(&[
        ("a b", "opened firing"),
        ("?a:silenced", "changed firing"),
        ("?a:silenced b:inhibited", "changed quiet"),
        ("?a:silenced b:inhibited", "nothing"),
        ("?a:active", "changed firing"),
        ("?b:active", "changed firing"),
        ("a b", "unchanged firing"),
    ]);
    assert_eq!((scene.alert("a").seen.clone(), scene.alert("a").absent_since), (None, None), "a webhook lists it");
}

#[test]
fn a_poll_empties_the_content_hash_and_says_nothing() {
    let mut scene = Scene::new();
    let hashed = Webhook { content_hash: "h".to_owned(), ..payload("a") };
    scene.get(&hashed);
    let changes = scene.poll("a:silenced").expect("a change");
    assert_eq!(changes.doc.content_hash, "");
    assert_eq!((changes.notes, changes.reposts, changes.visible), (Vec::new(), Vec::new(), true));
    assert_eq!(scene.alert("a").seen, Some(Seen::from(silenced())));
    assert_eq!(scene.alert("a").absent_since, None, "webhooks still list it");
}

#[test]
fn back_is_said_by_the_webhook_after_a_long_silence_whoever_sees_its_end_first() {
    for poll_first in [true, false] {
        let mut scene = mixed(&[("a", "opened firing"), ("?a:silenced", "changed quiet")]);
        scene.after(30 * MINUTE);
        if poll_first {
            assert_eq!(scene.polled("a:active"), "changed firing");
            scene.after(MINUTE);
        }
        let back = scene.get(&payload("a"));
        assert_eq!(short(&back), "changed firing back(a)", "{poll_first}");
        let minutes = if poll_first { 31 } else { 30 };
        assert_eq!(back.notes[0].args.gap_ms, Some(minutes * 60_000));
        assert_eq!(scene.after(MINUTE).shown("a"), "unchanged firing", "said once");
    }
    // Left out of a webhook, silenced by a poll's word, and back by another's.
    let mut scene = mixed(&[("a b", "opened firing"), ("a", "changed firing"), ("?b:silenced", "changed firing")]);
    scene.after(30 * MINUTE);
    assert_eq!(scene.polled("b:active"), "changed firing");
    assert_eq!(scene.shown("a"), "changed firing", "silenced again, by the webhook's word");
    let back = scene.get(&payload("a b"));
    assert_eq!(short(&back), "changed firing back(b)");
    assert_eq!(back.notes[0].args.gap_ms, Some(31 * 60_000), "since the first webhook without it");
}

#[test]
fn all_gone_closes_without_calling_it_resolved() {
    let mut scene = mixed(&[
        ("a b c", "opened firing"),
        ("-c a b", "changed firing partly_resolved(c)"),
        ("?a:gone", "changed firing"),
        ("?b:gone", "changed gone"),
        ("?a:gone b:unheard", "nothing"),
    ]);
    let incident = scene.incident.clone().expect("an incident");
    assert!(incident.closed_at.is_some() && scene.alert("a").ends_at.is_none());
    // Days later the same card turns green, and nobody is notified.
    scene.after(72 * 60 * MINUTE);
    let green = scene.get(&payload("-a -b"));
    assert_eq!(short(&green), "resolved resolved");
    assert!(green.visible && green.write == IncidentWrite::Update);
    assert_eq!(scene.shown("-a -b"), "unchanged resolved");
}

#[test]
fn what_polls_called_gone_they_find_again_and_the_next_webhook_rings_only_for_another_outage() {
    for (later, expected) in [(false, "unchanged firing"), (true, "changed firing again(a)")] {
        let mut scene = mixed(&[("a", "opened firing"), ("?a:gone", "changed gone")]);
        let began = if later { scene.now.plus(MINUTE) } else { Timestamp(0) };
        let mut listed = findings("a:active");
        listed[0].starts_at = Some(began);
        scene.after(60 * MINUTE);
        let changes = scene.find(&listed).expect("a change");
        assert_eq!(short(&changes), "changed firing");
        assert_eq!((changes.closed_at, changes.flaps, scene.find(&listed)), (None, 0, None));
        scene.after(10 * 60 * MINUTE);
        let mut webhook = payload("a");
        webhook.alerts[0].starts_at = Some(began);
        webhook.reason = NotificationReason::Other;
        assert_eq!(short(&scene.get(&webhook)), expected);
        assert_eq!(short(&scene.get(&webhook)), "unchanged firing");
        assert_eq!(scene.opened, 1);
    }
    mixed(&[("a", "opened firing"), ("?a:gone", "changed gone"), ("?a:silenced", "changed quiet")]);
}

#[test]
fn what_is_gone_is_less_severe_than_what_fires() {
    let mut scene = Scene::new();
    let mut webhook = payload("a b");
    for (alert, severity) in webhook.alerts.iter_mut().zip(["critical", "warning"]) {
        alert.doc.labels.insert("severity".to_owned(), severity.to_owned());
    }
    assert_eq!(scene.get(&webhook).severity, 0);
    assert_eq!(scene.poll("a:gone").expect("a change").severity, 1);
    assert_eq!(scene.poll("b:gone").expect("a change").severity, 0, "of all, when all are over");
}

#[test]
fn an_alert_that_was_gone_and_fires_pings_only_if_it_began_after() {
    // Closed, and soon after.
    for (later, expected) in [(false, "reopened firing"), (true, "reopened firing again(a)")] {
        let mut scene = mixed(&[("a", "opened firing"), ("?a:gone", "changed gone")]);
        let starts_at = if later { scene.now.plus(MINUTE) } else { scene.now };
        scene.after(2 * MINUTE);
        let changes = scene.begun("a", starts_at);
        assert_eq!(short(&changes), expected);
        assert_eq!(changes.flaps, u32::from(later));
        assert_eq!(scene.opened, 1);
    }
    // Closed, and long after: a new card, which rings only for what its room does not know.
    for (alerts, later, quiet) in [("a", false, true), ("a", true, false), ("a b", false, false)] {
        let mut scene = mixed(&[("a", "opened firing"), ("?a:gone", "changed gone")]);
        let starts_at = if later { scene.now.plus(MINUTE) } else { scene.now };
        scene.after(15 * MINUTE);
        let changes = scene.begun(alerts, starts_at);
        assert_eq!(short(&changes), "opened firing");
        assert_eq!(changes.doc.quiet, quiet, "{alerts} {later}");
        assert_eq!(scene.opened, 2);
        // It stays so until something begins to fire.
        assert_eq!(scene.begun(alerts, starts_at).doc.quiet, quiet);
        assert!(!scene.begun("a b c", starts_at).doc.quiet);
    }
    // In an open incident.
    for (later, expected) in [(false, "changed firing"), (true, "changed firing again(a)")] {
        let mut scene = mixed(&[("a b", "opened firing"), ("?a:gone", "changed firing")]);
        let starts_at = if later { scene.now.plus(MINUTE) } else { scene.now };
        scene.after(60 * MINUTE);
        assert_eq!(short(&scene.begun("a b", starts_at)), expected);
    }
}

#[test]
fn gone_and_then_reported_resolved_in_an_open_incident_is_an_edit() {
    mixed(&[
        ("a b", "opened firing"),
        ("?a:gone", "changed firing"),
        ("-a b", "changed firing"),
        ("-a -b", "resolved resolved resolved()"),
    ]);
    mixed(&[
        ("a b", "opened firing"),
        ("?a:gone", "changed firing"),
        ("-b", "resolved gone partly_resolved(b)"),
        ("-a -b", "resolved resolved"),
    ]);
}

#[test]
fn a_new_alert_in_a_group_that_was_gone_rings() {
    mixed(&[("a", "opened firing"), ("?a:gone", "changed gone"), ("b", "reopened firing again(b)")]);
}

#[test]
fn unheard_of_keeps_what_was_known() {
    let mut scene = mixed(&[
        ("a b c", "opened firing"),
        ("?a:silenced", "changed firing"),
        ("a c", "changed firing"),
        ("?a:silenced", "changed firing"),
        ("?a:unheard b:unheard c:unheard", "changed firing"),
    ]);
    let unheard = |finding| Some(Seen { finding, unheard_since: Some(Timestamp(5)) });
    assert_eq!(scene.alert("a").seen, unheard(silenced()));
    assert_eq!(scene.alert("b").seen, unheard(Finding::Unknown));
    assert_eq!(scene.alert("c").seen, None, "it fires, and webhooks say so");
    scene.poll("a:silenced b:active").expect("a change");
    assert_eq!(scene.alert("a").seen, Some(silenced().into()));
    assert_eq!(scene.alert("b").state, AlertState::Firing);
}

#[test]
fn of_what_came_without_a_fingerprint_nothing_is_concluded() {
    let body = |status: &str| {
        format!(
            r#"{{"receiver":"r","status":"{status}","groupKey":"g","alerts":[
                {{"status":"{status}","labels":{{"alertname":"A","pod":"p"}},"startsAt":"1970-01-01T00:01:00Z"}}]}}"#
        )
    };
    let mut scene = Scene::new();
    scene.get(&crate::intake::decode(body("firing").as_bytes()).expect("a webhook"));
    let own = scene.incident.as_ref().expect("open").alerts[0].fingerprint.clone();
    assert_eq!(own.len(), 16, "as long as one of Alertmanager's");
    for what in ["gone", "unheard"] {
        assert_eq!(scene.polled(&format!("{own}:{what}")), "nothing");
    }
    scene.incident.as_mut().expect("open").alerts[0].state = AlertState::Absent;
    for what in ["gone", "unheard"] {
        assert_eq!(scene.polled(&format!("{own}:{what}")), "nothing");
    }
}

#[test]
fn resolved_elsewhere_turns_what_is_gone_green_without_a_word() {
    let mut scene = mixed(&[("a b", "opened firing"), ("?a:gone", "changed firing")]);
    let known =
        Known { incident: scene.incident.take().expect("open"), cards: Vec::new(), repeated: false, taken: false };
    let rules = Rules {
        remind_after: None,
        reopen_after: 15 * MINUTE,
        repost_after: None,
        speaks: true,
        ahead: 0,
        display: &scene.display,
    };
    let mut elsewhere = payload("-a");
    elsewhere.alerts[0].ends_at = Some(scene.now);
    let changes = settle(&known, &elsewhere, &rules, scene.now).expect("a change");
    assert_eq!(short(&changes), "changed firing");
}

#[derive(Clone, Debug)]
enum Step {
    Payload(String),
    Poll(String),
}

fn any_step() -> impl Strategy<Value = Step> {
    let alerts = prop::collection::btree_map("[a-d]", any::<bool>(), 0..5).prop_map(|alerts| {
        let words: Vec<String> =
            alerts.into_iter().map(|(name, firing)| if firing { name } else { format!("-{name}") }).collect();
        Step::Payload(words.join(" "))
    });
    let what = prop::sample::select(vec!["silenced", "inhibited", "active", "gone", "unheard"]);
    let polls = prop::collection::btree_map("[a-e]", what, 0..5).prop_map(|found| {
        Step::Poll(found.into_iter().map(|(name, what)| format!("{name}:{what}")).collect::<Vec<_>>().join(" "))
    });
    prop_oneof![alerts, polls]
}

proptest! {
    /// Whatever polls find in between: they say nothing and open nothing, a second look finds nothing more, the state is
    /// that of the alerts, and a retry of a webhook changes nothing.
    #[test]
    fn polls_are_silent_and_leave_a_consistent_incident(steps in prop::collection::vec(any_step(), 1..16)) {
        let mut scene = Scene { remind_after: None, ..Scene::new() };
        for step in &steps {
            scene.after(7 * MINUTE);
            match step {
                Step::Payload(alerts) => {
                    scene.shown(alerts);
                    let before = scene.incident.clone();
                    let again = scene.get(&payload(alerts));
                    prop_assert!(!again.visible && again.notes.is_empty(), "{:?}", again);
                    prop_assert_eq!(&scene.incident, &before);
                }
                Step::Poll(words) => {
                    let could = |incident: &Incident| incident.state.is_open() || incident.state == IncidentState::Gone;
                    let was_open = scene.incident.as_ref().is_some_and(could);
                    if let Some(changes) = scene.poll(words) {
                        prop_assert!(was_open && changes.notes.is_empty() && changes.reposts.is_empty());
                        prop_assert_eq!(changes.write, IncidentWrite::Update);
                        prop_assert!(changes.alerts.iter().all(|alert| alert.state != AlertState::Resolved));
                        prop_assert_eq!(scene.poll(words), None);
                    }
                }
            }
            let Some(incident) = &scene.incident else { continue };
            let count = |state| incident.count(state);
            prop_assert_eq!(incident.state.is_open(), incident.closed_at.is_none());
            prop_assert_eq!(incident.state == IncidentState::Firing, count(AlertState::Firing) > 0);
            prop_assert_eq!(
                incident.state == IncidentState::Gone,
                count(AlertState::Firing) + count(AlertState::Absent) == 0 && count(AlertState::Gone) > 0
            );
            for alert in &incident.alerts {
                prop_assert_eq!(alert.state == AlertState::Resolved, alert.ends_at.is_some());
                let is_suppressed = alert.seen.as_ref().is_some_and(|seen| seen.finding.is_suppressed());
                prop_assert!(!is_suppressed || alert.state == AlertState::Absent);
                prop_assert!(alert.absent_since.is_none() || matches!(alert.state, AlertState::Firing | AlertState::Absent));
            }
        }
    }

    /// A webhook that lists everything as firing ends in the same states, whatever polls found before it.
    #[test]
    fn a_webhook_overrules_polls(polls in prop::collection::vec(any_step(), 1..6)) {
        let mut scene = Scene::new();
        scene.shown("a b c d");
        for step in &polls {
            if let Step::Poll(words) = step {
                scene.after(MINUTE).poll(words);
            }
        }
        scene.after(MINUTE).shown("a b c d");
        let incident = scene.incident.as_ref().expect("open");
        prop_assert_eq!(incident.count(AlertState::Firing), 4);
        prop_assert!(incident.alerts.iter().all(|alert| alert.seen.is_none() && alert.absent_since.is_none()));
        prop_assert_eq!(scene.opened, 1);
        prop_assert_eq!(scene.state(), IncidentState::Firing);
    }
}
