//! What the fuzz targets drive: the pure half of the receiver, mounted from `../src`.
//!
//! Intake and rendering import nothing but the model and the config, which `tests/layers.rs` holds; so they build here
//! without matrix-sdk and SQLite, with a sanitizer, in about a minute. One input is up to [`MOST`] webhook bodies, one
//! after the other, with the byte 0x1E (no JSON text holds it) between them.

#![allow(dead_code, reason = "the mounted modules offer more than the targets use")]

pub mod alertmanager;
#[path = "../../src/config/mod.rs"]
pub mod config;
#[path = "../../src/intake/mod.rs"]
pub mod intake;
#[path = "../../src/model/mod.rs"]
pub mod model;
#[path = "../../src/render/mod.rs"]
pub mod render;

use std::{collections::HashMap, time::Duration};

use config::{Display, Route};
use intake::{Rules, Webhook, decode, reconcile};
use model::{
    AlertState, CardId, LiveCard, Changes, Incident, IncidentId, IncidentKey, Known, Note, NotificationId, Outcome,
    RouteName, Timestamp,
};

pub use render::check;

/// Bodies of one input that are looked at.
const MOST: usize = 8;
const BETWEEN: u8 = 0x1e;
/// 2026-11-22T18:20:00Z, the time of the captured payloads.
const START: Timestamp = Timestamp(1_795_371_600_000);
/// Between two webhooks: two of them are a reminder's time apart, and less than a flap's.
const STEP: Duration = Duration::from_mins(14);

/// Everything that a route's incidents have come to.
#[derive(Default)]
pub struct World {
    pub incidents: Vec<Incident>,
    pub notes: Vec<Note>,
    pub now: Option<Timestamp>,
}

/// Sends the bodies of `data` through decoding and reconciling, against a model of the store, and checks what must hold
/// after each.
///
/// # Panics
/// When something does not hold.
#[must_use]
pub fn play(data: &[u8]) -> World {
    let name = RouteName::parse("default").expect("a name");
    let (route, display) = (Route::with_defaults(name.clone()), Display::default());
    let rules = Rules::of(&route, &display);
    let mut newest: HashMap<IncidentKey, usize> = HashMap::new();
    let mut world = World::default();
    let mut now = START;
    for body in data.split(|byte| *byte == BETWEEN).take(MOST) {
        now = Timestamp(now.0 + i64::try_from(STEP.as_millis()).expect("a short time"));
        let Ok(webhook) = decode(body) else { continue };
        assert_eq!(decode(body).as_ref(), Ok(&webhook), "read twice, the same");
        let key = IncidentKey {
            route: name.clone(),
            receiver: webhook.receiver.clone(),
            group_key: webhook.group_key.clone(),
        };
        let at = newest.get(&key).copied();
        let known = at.map(|at| known(&world.incidents[at], &webhook));
        let changes = reconcile(known.as_ref(), &webhook, &rules, now);
        check_repeat(known, &webhook, &rules, now, &changes);
        let number = world.incidents.len();
        let id = IncidentId(format!("incident-{number:04}"));
        let notification = NotificationId("notification".to_owned());
        let before = at.map(|at| &world.incidents[at]);
        let Some(incident) = intake::apply(before, &key, &id, &changes, &notification, now) else { continue };
        check_incident(&incident, &changes);
        check_same_again(&incident, &webhook, &rules, now);
        world.notes.extend(changes.notes.iter().map(|note| Note {
            id: now.0,
            card: CardId("card".to_owned()),
            incident: incident.id.clone(),
            kind: note.kind,
            at: now,
            notification: notification.clone(),
            args: note.args.clone(),
        }));
        match at.filter(|at| world.incidents[*at].id == incident.id) {
            Some(at) => world.incidents[at] = incident,
            None => {
                newest.insert(key, number);
                world.incidents.push(incident);
            }
        }
    }
    world.now = Some(now);
    world
}

fn known(incident: &Incident, webhook: &Webhook) -> Known {
    let card = LiveCard { id: CardId("card".to_owned()), spoke_at: Some(START), notes_waiting: false };
    Known { incident: incident.clone(), cards: vec![card], repeated: incident.is_repeated_by(&webhook.content_hash) }
}

/// The short way for a repeat comes to what the long way does.
fn check_repeat(known: Option<Known>, webhook: &Webhook, rules: &Rules<'_>, now: Timestamp, changes: &Changes) {
    if let Some(known) = known.filter(|known| known.repeated) {
        let long = reconcile(Some(&Known { repeated: false, ..known }), webhook, rules, now);
        assert_eq!((long.outcome, &long.notes, long.visible), (changes.outcome, &changes.notes, changes.visible));
        assert!(long.alerts.is_empty() && long.forgotten.is_empty(), "a repeat changes no alert");
    }
}

fn check_incident(incident: &Incident, changes: &Changes) {
    assert_eq!(incident.state.is_open(), incident.closed_at.is_none(), "{:?}", incident.state);
    let mut names: Vec<&str> = incident.alerts.iter().map(|alert| alert.fingerprint.as_str()).collect();
    assert!(names.is_sorted(), "alerts are sorted");
    names.dedup();
    assert_eq!(names.len(), incident.alerts.len(), "one alert for each fingerprint");
    for alert in &incident.alerts {
        assert_eq!(alert.ends_at.is_some(), alert.state == AlertState::Resolved, "{alert:?}");
        assert_eq!(alert.absent_since.is_some(), alert.state == AlertState::Absent, "{alert:?}");
    }
    let reported = changes.notes.iter().flat_map(|note| &note.args.fingerprints);
    reported.for_each(|reported| assert!(names.binary_search(&reported.as_str()).is_ok(), "a note about an alert that is not kept"));
}

/// A retry or an HA twin: nothing changes in the room.
fn check_same_again(incident: &Incident, webhook: &Webhook, rules: &Rules<'_>, now: Timestamp) {
    for repeated in [true, false] {
        let known = Known { repeated: repeated && incident.is_repeated_by(&webhook.content_hash), ..known(incident, webhook) };
        let again = reconcile(Some(&known), webhook, rules, now);
        assert!(!again.visible && matches!(again.outcome, Outcome::Unchanged | Outcome::Reminded), "{:?}", again.outcome);
    }
}
