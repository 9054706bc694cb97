//! Heartbeats: alerts that always fire, and whose absence is the alarm. They leave a payload before the rules of
//! incidents; the rules of the switches that they hold are in [`switch`].

mod alarm;
mod switch;

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

pub use self::{
    alarm::{ALERTNAME, Alarm, alarm, end, is_back},
    switch::{Gap, RESOLVED_FOR, Verdict, due, graced, judge},
};
use super::{
    content_hash,
    reconcile::{Rules, reconcile},
    webhook::{ListedAlert, Webhook},
};
use crate::{
    config::{Heartbeat, Route},
    model::{AlertState, Beat, Changes, Known, Labels, Outcome, SwitchKey, Timestamp},
};

/// Characters of a label's value by which switches differ; what follows does not make another one.
const MAX_VALUE: usize = 200;
/// Bytes of all values of a switch together, with what escapes them: they stand in an index, and one of PostgreSQL takes
/// no more than 2,704 bytes.
const MAX_KEY: usize = 1_200;
/// Characters of a value where all together are too long.
const SHORT: usize = 32;

/// The heartbeats of one payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beats {
    /// One for each switch.
    pub switches: Vec<Beat>,
    /// The alerts that left the payload, sorted by fingerprint.
    pub alerts: Vec<ListedAlert>,
}

/// Takes the heartbeats of the route out of the payload.
pub fn split(webhook: &mut Webhook, route: &Route) -> Beats {
    let matching = |alert: &ListedAlert| route.heartbeats.iter().any(|heartbeat| matches(heartbeat, alert));
    if !webhook.alerts.iter().any(matching) {
        return Beats::default();
    }
    let (alerts, rest) = std::mem::take(&mut webhook.alerts).into_iter().partition(matching);
    webhook.alerts = rest;
    // What a beat says changes nothing that incidents show, so that the rest can still be a repeat.
    webhook.content_hash = content_hash::of(webhook);
    Beats { switches: switches(&alerts, route), alerts }
}

fn matches(heartbeat: &Heartbeat, alert: &ListedAlert) -> bool {
    heartbeat.matches.iter().all(|(name, value)| alert.doc.labels.get(name).map_or("", String::as_str) == value)
}

/// Of two alerts of one switch the firing one counts: one Prometheus of several suffices.
fn switches(alerts: &[ListedAlert], route: &Route) -> Vec<Beat> {
    let mut found: BTreeMap<SwitchKey, bool> = BTreeMap::new();
    for alert in alerts {
        for heartbeat in route.heartbeats.iter().filter(|heartbeat| matches(heartbeat, alert)) {
            let (route, name) = (route.name.clone(), heartbeat.name.clone());
            let key = SwitchKey { route, name, labels: labels_of(heartbeat, &alert.doc.labels) };
            *found.entry(key).or_default() |= alert.firing;
        }
    }
    found.into_iter().map(|(key, firing)| Beat { key, firing }).collect()
}

fn labels_of(heartbeat: &Heartbeat, labels: &Labels) -> Labels {
    let value = |name: &String| labels.get(name).map(|value| value.chars().take(MAX_VALUE).collect());
    let labels: Labels = heartbeat.by.iter().map(|name| (name.clone(), value(name).unwrap_or_default())).collect();
    if labels.values().map(|value| value.escape_default().count()).sum::<usize>() <= MAX_KEY {
        return labels;
    }
    labels.into_iter().map(|(name, value)| (name, shortened(&value))).collect()
}

/// A value that ends in its hash, so that those with the same beginning stay distinct.
fn shortened(value: &str) -> String {
    if value.len() <= SHORT {
        return value.to_owned();
    }
    let start: String = value.chars().filter(char::is_ascii_alphanumeric).take(SHORT / 2).collect();
    format!("{start}…{}", hex::encode(&Sha256::digest(value)[..8]))
}

/// What `rest`, a payload that has lost its heartbeats, changes. An incident that one of them opened before it was one
/// ends: it is not listed any more, and would stay open as absent.
#[must_use]
pub fn reconcile_rest(
    known: Option<&Known>,
    rest: &Webhook,
    beats: &[ListedAlert],
    rules: &Rules<'_>,
    now: Timestamp,
) -> Changes {
    let is_held = |beat: &&ListedAlert| {
        let alerts = known.map_or(&[][..], |known| &known.incident.alerts);
        let at = alerts.binary_search_by(|alert| alert.fingerprint.cmp(&beat.fingerprint));
        at.is_ok_and(|at| matches!(alerts[at].state, AlertState::Firing | AlertState::Absent))
    };
    let held: Vec<&ListedAlert> = beats.iter().filter(is_held).collect();
    let is_open = known.is_some_and(|known| known.incident.state.is_open());
    let changes = if !held.is_empty() {
        reconcile(known, &with_ended(rest, held, now.moved(rules.ahead)), rules, now)
    } else if is_open || !rest.alerts.is_empty() {
        reconcile(known, rest, rules, now)
    } else {
        // Nothing is listed: a closed incident is not heard of by that, and none is opened.
        reconcile(None, rest, rules, now)
    };
    let is_beat = rest.alerts.is_empty() && changes.outcome == Outcome::Unchanged;
    Changes { outcome: if is_beat { Outcome::Beat } else { changes.outcome }, ..changes }
}

/// What other open incidents of the route learn from the payload: what is resolved, and that heartbeats are none of
/// theirs.
#[must_use]
pub fn resolving(rest: &Webhook, beats: &[ListedAlert]) -> Webhook {
    let resolved = rest.alerts.iter().filter(|alert| !alert.firing).cloned().collect();
    let rest = Webhook { alerts: resolved, ..rest.clone() };
    let beats = beats.iter().collect();
    ended(rest, beats, None)
}

fn with_ended(rest: &Webhook, beats: Vec<&ListedAlert>, at: Timestamp) -> Webhook {
    ended(rest.clone(), beats, Some(at))
}

fn ended(mut rest: Webhook, beats: Vec<&ListedAlert>, at: Option<Timestamp>) -> Webhook {
    rest.alerts.extend(beats.into_iter().map(|beat| ListedAlert { firing: false, ends_at: at, ..beat.clone() }));
    rest.alerts.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
    rest
}

#[cfg(test)]
mod tests;
