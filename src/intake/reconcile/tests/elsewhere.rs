//! What one group reports and another incident of its route holds.

use super::*;

/// What `alerts`, about another group, change in the incident of a scene; nothing: `-`.
fn settled(scene: &mut Scene, webhook: &Webhook) -> (String, Option<Changes>) {
    let known = Known {
        incident: scene.incident.clone().expect("an incident"),
        cards: Vec::new(),
        repeated: false,
        taken: false,
    };
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
