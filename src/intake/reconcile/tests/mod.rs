//! The rules of "Reading a payload", one by one. A scene is a sequence of payloads about one group.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    config::{Display, Route, Updates},
    model::{AlertDoc, CardId, Labels, LiveCard, NoteArgs, RouteName},
};

mod elsewhere;
mod found;
mod properties;
mod takings;

const MINUTE: Duration = Duration::from_mins(1);

/// The alerts of a payload in short: `a` fires, `-b` is resolved.
fn payload(alerts: &str) -> Webhook {
    let listed = |word: &str| {
        let (firing, name) = word.strip_prefix('-').map_or((true, word), |name| (false, name));
        ListedAlert {
            fingerprint: name.to_owned(),
            firing,
            starts_at: Some(Timestamp(0)),
            ends_at: (!firing).then_some(Timestamp(60_000)),
            doc: AlertDoc { labels: Labels::from([("pod".to_owned(), name.to_owned())]), ..AlertDoc::default() },
        }
    };
    let mut alerts: Vec<ListedAlert> = alerts.split_whitespace().map(listed).collect();
    alerts.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
    Webhook {
        receiver: "r".to_owned(),
        group_key: "g".to_owned(),
        group_labels: Labels::new(),
        external_url: String::new(),
        truncated: 0,
        reason: NotificationReason::Missing,
        alerts,
        odd: 0,
        content_hash: String::new(),
    }
}

struct Scene {
    display: Display,
    remind_after: Option<Duration>,
    repost_after: Option<Duration>,
    speaks: bool,
    taken: bool,
    now: Timestamp,
    incident: Option<Incident>,
    /// When the one card last spoke.
    spoke_at: Option<Timestamp>,
    /// When it was posted.
    posted_at: Option<Timestamp>,
    opened: u32,
}

impl Scene {
    fn new() -> Self {
        Self {
            display: Display::default(),
            remind_after: Some(30 * MINUTE),
            repost_after: Some(24 * 60 * MINUTE),
            speaks: true,
            taken: false,
            now: Timestamp(100_000),
            incident: None,
            spoke_at: None,
            posted_at: None,
            opened: 0,
        }
    }

    fn after(&mut self, wait: Duration) -> &mut Self {
        self.now = self.now.plus(wait);
        self
    }

    fn get(&mut self, webhook: &Webhook) -> Changes {
        let card = LiveCard {
            id: CardId("card".to_owned()),
            spoke_at: self.spoke_at,
            posted_at: self.posted_at,
            notes_waiting: false,
        };
        let known = self.incident.clone().map(|incident| Known {
            incident,
            cards: vec![card],
            repeated: false,
            taken: self.taken,
        });
        let rules = Rules {
            remind_after: self.remind_after,
            reopen_after: 15 * MINUTE,
            repost_after: self.repost_after,
            speaks: self.speaks,
            ahead: 0,
            display: &self.display,
        };
        let changes = reconcile(known.as_ref(), webhook, &rules, self.now);
        let key = IncidentKey {
            route: RouteName::parse("default").expect("a route name"),
            receiver: "r".to_owned(),
            group_key: "g".to_owned(),
        };
        self.opened += u32::from(changes.write == IncidentWrite::Insert);
        let id = IncidentId(format!("i{}", self.opened));
        let notification = NotificationId("n".to_owned());
        self.incident = apply(self.incident.as_ref(), &key, &id, &changes, &notification, self.now);
        if changes.write == IncidentWrite::Insert || !changes.reposts.is_empty() {
            self.posted_at = Some(self.now);
        }
        if changes.write == IncidentWrite::Insert || !changes.notes.is_empty() {
            self.spoke_at = Some(self.now);
        }
        changes
    }

    /// One payload, and in short what came of it: `outcome state notes`.
    fn shown(&mut self, alerts: &str) -> String {
        let changes = self.get(&payload(alerts));
        short(&changes)
    }

    fn alert(&self, fingerprint: &str) -> &Alert {
        let incident = self.incident.as_ref().expect("an incident");
        incident.alerts.iter().find(|alert| alert.fingerprint == fingerprint).expect("an alert")
    }
}

fn short(changes: &Changes) -> String {
    let mut words = vec![changes.outcome.as_str().to_owned(), changes.state.as_str().to_owned()];
    for note in &changes.notes {
        words.push(format!("{}({})", note.kind.as_str(), note.args.fingerprints.join(",")));
    }
    words.join(" ")
}

/// Payloads one minute apart, with what each must come to.
fn play(steps: &[(&str, &str)]) -> Scene {
    let mut scene = Scene::new();
    for (index, (alerts, expected)) in steps.iter().enumerate() {
        scene.after(MINUTE);
        assert_eq!(scene.shown(alerts), *expected, "step {} of {steps:?}", index + 1);
    }
    scene
}

#[test]
fn the_life_of_an_incident() {
    play(&[
        ("a", "opened firing"),
        ("a", "unchanged firing"),
        ("a b", "changed firing new_firing(b)"),
        ("b a", "unchanged firing"),
        ("-a b", "changed firing partly_resolved(a)"),
        ("b", "unchanged firing"),
        ("-b", "resolved resolved resolved()"),
        ("-b", "unchanged resolved"),
        ("-a -b", "unchanged resolved"),
    ]);
}

#[test]
fn missing_is_absent_and_back_soon_is_only_an_edit() {
    let scene = play(&[
        ("a b", "opened firing"),
        ("a", "changed firing"),
        ("a", "unchanged firing"),
        ("a b", "changed firing"),
        ("", "changed quiet"),
        ("", "unchanged quiet"),
        ("a", "changed firing"),
        ("-a", "changed quiet partly_resolved(a)"),
        ("-b", "resolved resolved resolved()"),
    ]);
    assert_eq!(scene.alert("b").absent_since, None);
}

#[test]
fn back_after_long_is_said() {
    let mut scene = play(&[("a b", "opened firing"), ("a", "changed firing")]);
    scene.after(30 * MINUTE);
    let back = scene.get(&payload("a b"));
    assert_eq!(short(&back), "changed firing back(b)");
    assert_eq!(back.notes[0].args.gap_ms, Some(30 * 60_000));
    scene.remind_after = None;
    scene.shown("a");
    scene.after(29 * MINUTE);
    assert_eq!(scene.shown("a b"), "changed firing");
    scene.shown("a");
    scene.after(30 * MINUTE);
    assert_eq!(scene.shown("a b"), "changed firing back(b)", "without reminders, long is half an hour");
}

#[test]
fn an_old_card_is_posted_anew_for_what_begins_to_fire() {
    const DAY: Duration = Duration::from_hours(24);
    let reposted = |scene: &mut Scene, alerts: &str| !scene.get(&payload(alerts)).reposts.is_empty();
    let mut scene = play(&[("a", "opened firing")]);
    scene.after(DAY.checked_sub(3 * MINUTE).expect("longer"));
    assert!(!reposted(&mut scene, "a b"), "young enough");
    scene.after(DAY);
    assert!(!reposted(&mut scene, "a b"), "a reminder");
    assert!(!reposted(&mut scene, "a -b"), "partly resolved");
    assert!(!reposted(&mut scene, ""), "silenced");
    assert!(!reposted(&mut scene, "a"), "back");
    assert!(reposted(&mut scene, "a c"));
    assert!(!reposted(&mut scene, "a c d"), "the new card is young");
    scene.after(DAY);
    scene.shown("a -c");
    assert!(reposted(&mut scene, "a c"), "again");
    scene.after(DAY);
    scene.repost_after = None;
    assert!(!reposted(&mut scene, "a c e"), "never");
    scene.repost_after = Some(DAY);
    assert_eq!(scene.shown("-a -b -c -d -e"), "resolved resolved resolved()");
    assert!(!reposted(&mut scene, "a"), "reopened: it was green, and so nobody looks for it there");
}

#[test]
fn with_edits_alone_and_with_messages_of_their_own_nothing_is_posted_anew() {
    let display = Display::default();
    let mut route = Route::with_defaults(RouteName::parse("default").expect("a name"));
    for (updates, expected) in
        [(Updates::Thread, true), (Updates::Reply, true), (Updates::Edit, false), (Updates::Post, false)]
    {
        route.updates = updates;
        assert_eq!(Rules::of(&route, &display).repost_after.is_some(), expected, "{updates:?}");
    }
}

#[test]
fn of_several_that_are_back_the_longest_absence_is_told() {
    let mut scene = play(&[("a b c", "opened firing"), ("b c", "changed firing"), ("c", "changed firing")]);
    scene.after(30 * MINUTE);
    let back = scene.get(&payload("a b c"));
    assert_eq!(short(&back), "changed firing back(a,b)");
    assert_eq!(back.notes[0].args.gap_ms, Some(31 * 60_000));
    let old =
        serde_json::from_str::<NoteArgs>(r#"{"fingerprints":["a"],"flaps":0}"#).expect("a note of an older receiver");
    assert_eq!(old.gap_ms, None);
}

#[test]
fn firing_again_soon_reopens_and_later_is_new() {
    let mut scene = play(&[("a", "opened firing"), ("-a", "resolved resolved resolved()")]);
    assert_eq!(scene.after(14 * MINUTE).shown("a"), "reopened firing again(a)");
    assert_eq!(scene.incident.as_ref().expect("open").flaps, 1);
    assert_eq!(scene.incident.as_ref().expect("open").closed_at, None);
    scene.shown("-a");
    assert_eq!(scene.after(15 * MINUTE).shown("a"), "opened firing");
    assert_eq!(scene.opened, 2);
}

#[test]
fn another_alert_of_a_green_group_reopens_it_too() {
    play(&[
        ("a", "opened firing"),
        ("-a", "resolved resolved resolved()"),
        ("b", "reopened firing again(b)"),
        ("-b", "resolved resolved resolved()"),
    ]);
}

#[test]
fn a_flap_within_a_live_incident_is_counted_and_said() {
    let scene = play(&[
        ("a b", "opened firing"),
        ("-a b", "changed firing partly_resolved(a)"),
        ("a b", "changed firing again(a)"),
    ]);
    assert_eq!(scene.incident.as_ref().expect("open").flaps, 1);
    assert_eq!(scene.alert("a").ends_at, None);
}

#[test]
fn first_seen_resolved_is_shown_but_not_announced() {
    let mut scene = play(&[("a", "opened firing"), ("a -b", "changed firing")]);
    let changes = scene.get(&payload("a -b"));
    assert!(!changes.visible);
}

#[test]
fn resolved_without_an_incident_is_a_closed_one() {
    let mut scene = Scene::new();
    let changes = scene.get(&payload("-a"));
    assert_eq!((short(&changes).as_str(), changes.write), ("resolved resolved", IncidentWrite::Insert));
    assert_eq!(changes.closed_at, Some(scene.now));
    assert_eq!(scene.shown("-a"), "unchanged resolved");
    assert_eq!(scene.opened, 1);
}

#[test]
fn an_outage_that_nobody_told_us_of_is_shown_resolved() {
    let mut scene = play(&[("a", "opened firing"), ("-a", "resolved resolved resolved()")]);
    let mut later = payload("-a");
    later.alerts[0].starts_at = Some(Timestamp(61_000));
    later.alerts[0].ends_at = Some(Timestamp(90_000));
    assert_eq!(short(&scene.after(MINUTE).get(&later)), "resolved resolved");
    assert_eq!(scene.opened, 2);
    assert_eq!(short(&scene.get(&later)), "unchanged resolved");
}

#[test]
fn a_list_of_nothing_about_nobody_is_nothing() {
    let mut scene = Scene::new();
    assert_eq!(scene.get(&payload("")).write, IncidentWrite::None);
    assert!(scene.incident.is_none());
}

#[test]
fn truncated_payloads_keep_what_they_do_not_list() {
    let mut scene = play(&[("a b c", "opened firing")]);
    let truncated = |alerts: &str, reason| Webhook { truncated: 2, reason, ..payload(alerts) };
    assert_eq!(
        short(&scene.get(&truncated("a", NotificationReason::Other))),
        "changed firing",
        "how many are not listed is on the card"
    );
    assert_eq!(short(&scene.get(&truncated("-a", NotificationReason::Other))), "changed firing partly_resolved(a)");
    assert_eq!(
        short(&scene.get(&truncated("-b -c", NotificationReason::Other))),
        "changed unlisted partly_resolved(b,c)"
    );
    assert!(scene.incident.as_ref().expect("open").closed_at.is_none());
    assert_eq!(short(&scene.get(&truncated("-b", NotificationReason::AllResolved))), "resolved resolved resolved()");
}

#[test]
fn all_resolved_resolves_the_unlisted_too() {
    let mut scene = play(&[("a b", "opened firing")]);
    let all = Webhook { truncated: 1, reason: NotificationReason::AllResolved, ..payload("-a") };
    assert_eq!(short(&scene.get(&all)), "resolved resolved resolved()");
    assert_eq!(scene.alert("b").ends_at, Some(Timestamp(60_000)));
}

#[test]
fn reminders_need_time_and_a_reason() {
    for (reason, wait, expected) in [
        (NotificationReason::Missing, 29, "unchanged firing"),
        (NotificationReason::Missing, 30, "reminded firing reminder()"),
        (NotificationReason::RepeatInterval, 30, "reminded firing reminder()"),
        (NotificationReason::Other, 30, "unchanged firing"),
        (NotificationReason::AllResolved, 30, "unchanged firing"),
    ] {
        let mut scene = play(&[("a", "opened firing")]);
        scene.after(wait * MINUTE);
        assert_eq!(short(&scene.get(&Webhook { reason, ..payload("a") })), expected, "{reason:?} {wait}");
    }
    let mut never = play(&[("a", "opened firing")]);
    never.remind_after = None;
    assert_eq!(never.after(600 * MINUTE).shown("a"), "unchanged firing");
    let mut unposted = play(&[("a", "opened firing")]);
    unposted.spoke_at = None;
    assert_eq!(unposted.after(600 * MINUTE).shown("a"), "unchanged firing");
    let mut quiet = play(&[("a", "opened firing"), ("", "changed quiet")]);
    assert_eq!(quiet.after(600 * MINUTE).shown(""), "unchanged quiet");
}

#[test]
fn with_updates_edit_nothing_is_ever_said() {
    let mut scene = Scene::new();
    scene.speaks = false;
    scene.shown("a");
    assert_eq!(scene.shown("a b"), "changed firing");
    assert_eq!(scene.after(600 * MINUTE).shown("a b"), "unchanged firing");
    assert_eq!(scene.shown("-a -b"), "resolved resolved");
}

#[test]
fn a_stale_incident_turns_green_or_makes_way() {
    let stale = || {
        let mut scene = play(&[("a", "opened firing")]);
        let incident = scene.incident.as_mut().expect("open");
        incident.state = IncidentState::Stale;
        incident.closed_at = Some(scene.now);
        scene
    };
    assert_eq!(stale().shown("-a"), "resolved resolved resolved()");
    assert_eq!(stale().shown("a"), "opened firing");
    assert_eq!(stale().shown(""), "unchanged stale");
}

#[test]
fn the_earliest_start_of_one_outage_is_kept() {
    let at = |alerts: &str, starts_at| {
        let mut webhook = payload(alerts);
        webhook.alerts[0].starts_at = Some(Timestamp(starts_at));
        webhook
    };
    let mut scene = Scene::new();
    scene.get(&at("a", 5_000));
    assert_eq!(short(&scene.get(&at("a", 3_000))), "unchanged firing");
    assert_eq!(scene.alert("a").starts_at, Timestamp(3_000));
    scene.get(&at("a", 9_000));
    assert_eq!(scene.alert("a").starts_at, Timestamp(3_000));
    scene.get(&at("-a", 3_000));
    // A new outage after the end of the last (60,000) has a start of its own; a late retry of the old one has not.
    scene.get(&at("a", 70_000));
    assert_eq!(scene.alert("a").starts_at, Timestamp(70_000));
    scene.get(&at("-a", 70_000));
    scene.get(&at("a", 70_000));
    assert_eq!(scene.alert("a").starts_at, Timestamp(70_000));
}

#[test]
fn severity_is_that_of_what_is_not_over() {
    let with = |alerts: &str, severities: &[(&str, &str)]| {
        let mut webhook = payload(alerts);
        for alert in &mut webhook.alerts {
            if let Some((_, severity)) = severities.iter().find(|(name, _)| *name == alert.fingerprint) {
                alert.doc.labels.insert("severity".to_owned(), (*severity).to_owned());
            }
        }
        webhook
    };
    let severities = [("a", "critical"), ("b", "warning"), ("c", "odd")];
    let mut scene = Scene::new();
    for (alerts, expected) in [("c", 3), ("b c", 1), ("a b", 0), ("-a b", 1), ("-a -b -c", 0)] {
        assert_eq!(scene.get(&with(alerts, &severities)).severity, expected, "{alerts}");
    }
}

#[test]
fn only_changed_rows_are_written() {
    let mut scene = play(&[("a b c", "opened firing")]);
    let changes = scene.get(&payload("a -b c"));
    assert_eq!(changes.alerts.iter().map(|a| a.fingerprint.as_str()).collect::<Vec<_>>(), ["b"]);
    let mut annotated = payload("a -b c");
    annotated.alerts[2].doc.annotations.insert("summary".to_owned(), "new words".to_owned());
    let changes = scene.get(&annotated);
    assert_eq!(changes.alerts.iter().map(|a| a.fingerprint.as_str()).collect::<Vec<_>>(), ["c"]);
    assert_eq!((changes.visible, changes.outcome), (false, Outcome::Unchanged));
}

#[test]
fn what_resolved_longest_ago_is_forgotten_beyond_the_bound() {
    let mut scene = Scene::new();
    scene.shown("live");
    let many: Vec<String> = (0..MAX_RESOLVED + 3).map(|n| format!("-p{n:04}")).collect();
    scene.get(&payload(&format!("live {}", many[..3].join(" "))));
    scene.after(MINUTE).get(&payload(&format!("live {}", many[3..].join(" "))));
    let changes = scene.after(MINUTE).get(&payload("live new"));
    assert_eq!(changes.forgotten, ["p0000", "p0001", "p0002"]);
    assert_eq!(scene.incident.as_ref().expect("open").alerts.len(), MAX_RESOLVED + 2);
}

/// A clock that was wrong, or a hand-made webhook: sent twice it is one incident.
#[test]
fn resolved_before_it_began_is_told_once() {
    let mut scene = Scene::new();
    let mut odd = payload("-a");
    odd.alerts[0].starts_at = Some(Timestamp(70_000));
    assert_eq!(short(&scene.get(&odd)), "resolved resolved");
    assert_eq!(short(&scene.get(&odd)), "unchanged resolved");
    assert_eq!(scene.opened, 1);
    // The same of one that was seen firing before, and without any end.
    for ends_at in [odd.alerts[0].ends_at, None] {
        let mut scene = Scene::new();
        scene.shown("a");
        odd.alerts[0].ends_at = ends_at;
        odd.alerts[0].starts_at = Some(Timestamp(9_000_000));
        assert_eq!(short(&scene.get(&odd)), "resolved resolved resolved()");
        assert_eq!(short(&scene.get(&odd)), "unchanged resolved", "{ends_at:?}");
        assert_eq!(scene.opened, 1);
    }
}

/// Silenced alerts are remembered, but not without end; those that fire are forgotten last.
#[test]
fn absent_alerts_are_bounded() {
    let mut scene = Scene::new();
    let many = |from: usize, to: usize| (from..to).map(|n| format!("p{n:06}")).collect::<Vec<_>>().join(" ");
    scene.shown(&many(0, 9_000));
    scene.after(MINUTE).shown(&many(9_000, 18_000));
    let changes = scene.after(MINUTE).get(&payload("z"));
    assert_eq!(changes.forgotten.len(), 18_000 - MAX_UNLISTED);
    assert_eq!((changes.forgotten[0].as_str(), changes.forgotten[7_999].as_str()), ("p000000", "p007999"));
    assert_eq!(scene.incident.as_ref().expect("open").alerts.len(), MAX_UNLISTED + 1);
    // Left out by Alertmanager, and so still firing as far as anybody knows.
    let mut cut = payload(&many(20_000, 20_000 + MAX_UNLISTED));
    cut.truncated = 1;
    scene.after(MINUTE).get(&cut);
    let mut next = payload("y");
    next.truncated = 1;
    scene.after(MINUTE).get(&next);
    let incident = scene.incident.as_ref().expect("open");
    assert_eq!(incident.count(AlertState::Absent), 0);
    assert_eq!(incident.count(AlertState::Firing), MAX_UNLISTED + 1, "z went with the absent ones, y is listed");
}
