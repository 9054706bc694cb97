//! The rules of "Reading a payload", one by one. A scene is a sequence of payloads about one group.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{AlertDoc, CardId, Labels, LiveCard, RouteName};

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
        let known = self.incident.clone().map(|incident| Known { incident, cards: vec![card], repeated: false });
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

fn any_payload() -> impl Strategy<Value = Webhook> {
    let alerts = prop::collection::btree_map("[a-e]", any::<bool>(), 0..5);
    let reason = prop::sample::select(vec![
        NotificationReason::Missing,
        NotificationReason::Other,
        NotificationReason::RepeatInterval,
        NotificationReason::AllResolved,
    ]);
    (alerts, prop::sample::select(vec![0_u64, 0, 0, 2]), reason).prop_map(|(alerts, truncated, reason)| {
        let words: Vec<String> =
            alerts.into_iter().map(|(name, firing)| if firing { name } else { format!("-{name}") }).collect();
        Webhook { truncated, reason, ..payload(&words.join(" ")) }
    })
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

/// What `alerts`, about another group, change in the incident of a scene; nothing: `-`.
fn settled(scene: &mut Scene, webhook: &Webhook) -> (String, Option<Changes>) {
    let known = Known { incident: scene.incident.clone().expect("an incident"), cards: Vec::new(), repeated: false };
    let rules = Rules {
        ahead: 0,
        remind_after: None,
        reopen_after: MINUTE,
        repost_after: None,
        speaks: scene.speaks,
        display: &scene.display,
    };
    let changes = settle(&known, webhook, &rules, scene.now);
    if let Some(changes) = &changes {
        let (incident, notification) = (&known.incident, NotificationId("n".to_owned()));
        scene.incident = apply(Some(incident), &incident.key, &incident.id, changes, &notification, scene.now);
    }
    (changes.as_ref().map_or_else(|| "-".to_owned(), short), changes)
}

#[test]
fn what_another_group_reports_as_resolved_is_resolved_here_too() {
    let mut scene = play(&[("a b c", "opened firing"), ("a b", "changed firing")]);
    scene.incident.as_mut().expect("an incident").doc.content_hash = "d".to_owned();
    for (alerts, expected) in [
        // That others fire, or that what nobody knows here is over, says nothing of this group.
        ("a", "-"),
        ("-x", "-"),
        ("-a x -y", "changed firing partly_resolved(a)"),
        ("-a", "-"),
        // Absent ones too.
        ("-c", "changed firing partly_resolved(c)"),
        ("-a -b -c", "resolved resolved resolved()"),
        ("-a -b -c", "-"),
    ] {
        assert_eq!(settled(&mut scene, &payload(alerts)).0, expected, "{alerts}");
    }
    let incident = scene.incident.as_ref().expect("an incident");
    assert_eq!((incident.closed_at, incident.doc.content_hash.as_str()), (Some(scene.now), ""));
    assert!(incident.alerts.iter().all(|alert| alert.ends_at == Some(Timestamp(60_000))));
    // The payload that left it firing does not repeat anything: what it says is taken as it is.
    assert_eq!(scene.shown("a"), "reopened firing again(a)");
}

#[test]
fn an_end_before_the_start_tells_of_an_earlier_firing() {
    let ended = |at| {
        let mut webhook = payload("-a");
        webhook.alerts[0].ends_at = at;
        webhook
    };
    let started = |at| {
        let mut webhook = payload("a");
        webhook.alerts[0].starts_at = Some(Timestamp(at));
        webhook
    };
    let mut scene = Scene::new();
    scene.get(&started(50_000));
    // It has ended and begun again since, of which this group was not notified: its own start stays the first one.
    scene.get(&started(70_000));
    assert_eq!(scene.alert("a").starts_at, Timestamp(50_000));
    for (at, expected) in [
        (Some(Timestamp(49_999)), "-"),
        (Some(Timestamp(69_999)), "-"),
        (Some(Timestamp(70_000)), "resolved resolved resolved()"),
    ] {
        assert_eq!(settled(&mut scene, &ended(at)).0, expected, "{at:?}");
    }
    let mut scene = Scene::new();
    scene.get(&started(50_000));
    assert_eq!(settled(&mut scene, &ended(None)).0, "resolved resolved resolved()", "ended now");
    // What says that it begins in an hour fires all the same, and is over when that is reported.
    let mut scene = Scene::new();
    scene.get(&started(3_600_000));
    let now = Some(scene.now);
    assert_eq!(settled(&mut scene, &ended(now)).0, "resolved resolved resolved()", "ended before it began");
}

#[test]
fn what_alertmanager_left_out_keeps_another_incident_open() {
    let mut scene = Scene::new();
    scene.speaks = false;
    scene.get(&Webhook { truncated: 2, ..payload("a") });
    assert_eq!(settled(&mut scene, &payload("-a")).0, "changed unlisted");
}

proptest! {
    /// A retry of the last payload never changes anything.
    #[test]
    fn reconciling_is_idempotent(payloads in prop::collection::vec(any_payload(), 1..12)) {
        let mut scene = Scene::new();
        for webhook in &payloads {
            scene.after(MINUTE).get(webhook);
            let before = scene.incident.clone();
            let again = scene.get(webhook);
            prop_assert!(!again.visible && again.notes.is_empty(), "{again:?}");
            prop_assert_eq!(&scene.incident, &before);
        }
    }

    /// A repeat that is known for one comes to the same as one whose alerts are read, whatever the clock says.
    #[test]
    fn a_known_repeat_comes_to_the_same(
        payloads in prop::collection::vec(any_payload(), 1..12),
        wait in prop::sample::select(vec![0, 10, 29, 30, 100]),
        spoke in any::<bool>(),
        speaks in any::<bool>(),
    ) {
        let mut scene = Scene { speaks, ..Scene::new() };
        for webhook in &payloads {
            scene.after(MINUTE).get(webhook);
            let Some(incident) = scene.incident.clone().filter(|incident| incident.state.is_open()) else { continue };
            let rules = Rules {
                remind_after: scene.remind_after,
                reopen_after: 15 * MINUTE,
                repost_after: scene.repost_after,
                speaks,
                ahead: 0,
                display: &scene.display,
            };
            let card = LiveCard {
                id: CardId("card".to_owned()),
                spoke_at: spoke.then_some(scene.now),
                posted_at: spoke.then_some(Timestamp(0)),
                notes_waiting: false,
            };
            let now = scene.now.plus(wait * MINUTE);
            let read = Known { incident: incident.clone(), cards: vec![card], repeated: false };
            let known = Known { incident: Incident { alerts: Vec::new(), ..incident }, repeated: true, ..read.clone() };
            prop_assert_eq!(
                reconcile(Some(&known), webhook, &rules, now),
                reconcile(Some(&read), webhook, &rules, now)
            );
        }
    }

    /// Two peers of one cluster send the same groups, each in order, the one behind the other by any number of
    /// payloads: once both have sent the last one, the incident stands where one peer alone would have brought it.
    #[test]
    fn twins_end_in_the_same_state(
        payloads in prop::collection::vec(any_payload(), 1..8),
        order in prop::collection::vec(any::<bool>(), 0..16),
    ) {
        let full: Vec<Webhook> =
            payloads.into_iter().map(|webhook| Webhook { truncated: 0, reason: NotificationReason::Other, ..webhook }).collect();
        // What is resolved may be missing from the one: a fingerprint first seen resolved is kept only by an open incident.
        let states = |scene: &Scene| -> Vec<(String, AlertState)> {
            let listed = &full.last().expect("at least one").alerts;
            scene.incident.iter().flat_map(|incident| &incident.alerts)
                .filter(|alert| alert.state != AlertState::Resolved)
                .filter(|alert| listed.iter().any(|l| l.fingerprint == alert.fingerprint))
                .map(|alert| (alert.fingerprint.clone(), alert.state)).collect()
        };
        let mut alone = Scene::new();
        for webhook in &full { alone.get(webhook); }
        let mut both = Scene::new();
        let (mut left, mut right) = (full.iter(), full.iter());
        for first in order {
            if let Some(webhook) = if first { left.next() } else { right.next() } {
                both.get(webhook);
            }
        }
        for webhook in left.chain(right) { both.get(webhook); }
        prop_assert_eq!(states(&both), states(&alone));
        let open = |scene: &Scene| scene.incident.as_ref().map(|incident| incident.state == IncidentState::Firing);
        prop_assert_eq!(open(&both).unwrap_or(false), open(&alone).unwrap_or(false));
    }

    /// What is stored is always consistent: an incident is open exactly while it has not been closed, and firing exactly
    /// while one of its alerts is.
    #[test]
    fn the_state_is_that_of_the_alerts(payloads in prop::collection::vec(any_payload(), 1..12)) {
        let mut scene = Scene::new();
        for webhook in &payloads {
            scene.after(7 * MINUTE).get(webhook);
            let Some(incident) = &scene.incident else { continue };
            prop_assert_eq!(incident.state.is_open(), incident.closed_at.is_none());
            prop_assert_eq!(incident.state == IncidentState::Firing, incident.count(AlertState::Firing) > 0);
            prop_assert!(incident.alerts.iter().all(|a| (a.state == AlertState::Resolved) == a.ends_at.is_some()));
            prop_assert!(incident.alerts.iter().all(|a| (a.state == AlertState::Absent) == a.absent_since.is_some()));
        }
    }
}
