//! What holds for every sequence of payloads.

use super::*;

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
            let read = Known { incident: incident.clone(), cards: vec![card], repeated: false, taken: false };
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
