//! What a notification changes. The rules of "Reading a payload" in the design, as pure functions.

mod found;
mod notes;
mod rules;
mod state;
mod step;

use std::collections::BTreeMap;

pub use self::{found::found, rules::Rules};
use self::{
    notes::{notes_of, reminder, reposts},
    state::{severity_of, state_of, unchanged},
    step::{Transitions, find, first_seen, step, step_unlisted},
};
use super::webhook::{ListedAlert, NotificationReason, Webhook};
use crate::model::{
    Alert, AlertState, Changes, Incident, IncidentDoc, IncidentId, IncidentKey, IncidentState, IncidentWrite, Known,
    LeftOut, NewNote, NotificationId, Outcome, Timestamp,
};

/// The most resolved alerts that an open incident keeps for its card; beyond it the oldest are dropped.
const MAX_RESOLVED: usize = 500;
/// The most alerts that an open incident keeps although its last payload does not list them and they are not resolved:
/// absent, or left out by Alertmanager. Beyond it the longest unchanged are dropped, absent ones first.
const MAX_UNLISTED: usize = 10_000;

/// Decides what `webhook` changes. `known` is the newest incident of its group, if there is one.
#[must_use]
pub fn reconcile(known: Option<&Known>, webhook: &Webhook, rules: &Rules<'_>, now: Timestamp) -> Changes {
    let firing = webhook.alerts.iter().any(|alert| alert.firing);
    let Some(known) = known else {
        return open_new(webhook, rules, now);
    };
    let incident = &known.incident;
    if known.repeated {
        return repeated(known, webhook, rules, now);
    }
    match incident.state {
        IncidentState::Firing | IncidentState::Quiet | IncidentState::Unlisted => update(known, webhook, rules, now),
        IncidentState::Resolved | IncidentState::Gone if firing => {
            let closed_at = incident.closed_at.unwrap_or(incident.last_notified_at);
            if now.since(closed_at) < rules.reopen_after {
                update(known, webhook, rules, now)
            } else {
                let mut changes = open_new(webhook, rules, now);
                changes.doc.quiet = is_known_of_gone(incident, webhook, rules);
                changes
            }
        }
        IncidentState::Stale if firing => open_new(webhook, rules, now),
        IncidentState::Stale | IncidentState::Gone if !webhook.alerts.is_empty() => update(known, webhook, rules, now),
        IncidentState::Resolved if webhook.alerts.iter().any(|alert| is_unseen(incident, alert, rules)) => {
            open_new(webhook, rules, now)
        }
        IncidentState::Resolved | IncidentState::Stale | IncidentState::Gone => unchanged(incident),
    }
}

/// Whether all that fires was firing before the incident was closed as gone, so that its room knows of it.
fn is_known_of_gone(incident: &Incident, webhook: &Webhook, rules: &Rules<'_>) -> bool {
    let closed_at = rules.wall(incident.closed_at.unwrap_or(incident.last_notified_at));
    incident.state == IncidentState::Gone
        && webhook.alerts.iter().filter(|listed| listed.firing).all(|listed| {
            find(&incident.alerts, &listed.fingerprint).is_some_and(|alert| alert.state == AlertState::Gone)
                && listed.starts_at.is_some_and(|starts_at| starts_at <= closed_at)
        })
}

/// Whether a resolved alert reports an outage that began after the incident closed, and so was never shown.
fn is_unseen(incident: &Incident, listed: &ListedAlert, rules: &Rules<'_>) -> bool {
    let stored = find(&incident.alerts, &listed.fingerprint);
    let closed_at = rules.wall(incident.closed_at.unwrap_or(incident.last_notified_at));
    let over = stored.and_then(|alert| alert.ends_at).unwrap_or(closed_at);
    // It must have ended later as well: an alert that claims to begin after its end would be unseen in every payload.
    listed.starts_at.is_some_and(|starts_at| starts_at > over) && listed.ends_at.is_some_and(|ends_at| ends_at > over)
}

/// What `webhook` changes in another open incident of its route: an alert that it reports as resolved is resolved there
/// as well. A firing alert changes nothing there, since the other incident may have a later notification.
#[must_use]
pub fn settle(known: &Known, webhook: &Webhook, rules: &Rules<'_>, now: Timestamp) -> Option<Changes> {
    let incident = &known.incident;
    let mut alerts = incident.alerts.clone();
    let mut transitions = Transitions::default();
    for listed in webhook.alerts.iter().filter(|listed| !listed.firing) {
        let found = alerts.binary_search_by(|alert| alert.fingerprint.cmp(&listed.fingerprint));
        let Some(alert) = found.ok().and_then(|at| alerts.get_mut(at)) else { continue };
        if alert.state != AlertState::Resolved && alert.is_over_at(listed.ends_at.unwrap_or(rules.wall(now))) {
            step(alert, listed, rules, now, &mut transitions);
        }
    }
    if incident.key.is_heartbeat()
        || !incident.state.is_open()
        || (transitions.resolved.is_empty() && !transitions.quiet)
    {
        return None;
    }
    let state = state_of(&alerts, incident.doc.truncated > 0);
    let speaks = rules.speaks;
    let notes = if speaks { notes_of(&transitions, false, state, incident.state, incident.flaps) } else { Vec::new() };
    let severity = severity_of(&alerts, rules.display);
    alerts.retain(|alert| find(&incident.alerts, &alert.fingerprint) != Some(alert));
    Some(Changes {
        outcome: if state.is_open() { Outcome::Changed } else { Outcome::Resolved },
        state,
        severity,
        closed_at: (!state.is_open()).then_some(now),
        // The incident no longer matches its own last notification, so that the next one is not a repeat.
        doc: IncidentDoc { content_hash: String::new(), ..incident.doc.clone() },
        alerts,
        visible: true,
        notes,
        ..unchanged(incident)
    })
}

/// The same result as [`update`] without reading the alerts: of a repeat, only the passing of time matters.
fn repeated(known: &Known, webhook: &Webhook, rules: &Rules<'_>, now: Timestamp) -> Changes {
    let notes: Vec<NewNote> = reminder(known, webhook, rules, now).into_iter().filter(|_| rules.speaks).collect();
    let outcome = if notes.is_empty() { Outcome::Unchanged } else { Outcome::Reminded };
    Changes { outcome, notes, ..unchanged(&known.incident) }
}

fn doc_of(webhook: &Webhook) -> IncidentDoc {
    IncidentDoc {
        group_labels: webhook.group_labels.clone(),
        external_url: webhook.external_url.clone(),
        truncated: webhook.truncated,
        content_hash: webhook.content_hash.clone(),
        quiet: false,
    }
}

/// A group without an incident, or whose last incident stays closed.
fn open_new(webhook: &Webhook, rules: &Rules<'_>, now: Timestamp) -> Changes {
    let alerts: Vec<Alert> = webhook.alerts.iter().map(|listed| first_seen(listed, rules, now)).collect();
    let state = state_of(&alerts, leaves_out(webhook));
    // An empty list for an unknown group shows nothing.
    let write = if alerts.is_empty() { IncidentWrite::None } else { IncidentWrite::Insert };
    Changes {
        outcome: match (write, state) {
            (IncidentWrite::None, _) => Outcome::Unchanged,
            (_, IncidentState::Resolved) => Outcome::Resolved,
            _ => Outcome::Opened,
        },
        write,
        state,
        severity: severity_of(&alerts, rules.display),
        closed_at: (!state.is_open()).then_some(now),
        flaps: 0,
        doc: doc_of(webhook),
        visible: write == IncidentWrite::Insert,
        alerts,
        forgotten: Vec::new(),
        notes: Vec::new(),
        reposts: Vec::new(),
    }
}

fn update(known: &Known, webhook: &Webhook, rules: &Rules<'_>, now: Timestamp) -> Changes {
    let incident = &known.incident;
    let mut alerts: BTreeMap<&str, Alert> =
        incident.alerts.iter().map(|alert| (alert.fingerprint.as_str(), alert.clone())).collect();
    let mut transitions = Transitions::default();
    for listed in &webhook.alerts {
        match alerts.get_mut(listed.fingerprint.as_str()) {
            None => {
                if listed.firing {
                    transitions.new.push(listed.fingerprint.clone());
                } else {
                    // An alert that is resolved when first seen counts on the card, but is not announced.
                    transitions.quiet = true;
                }
                alerts.insert(&listed.fingerprint, first_seen(listed, rules, now));
            }
            Some(alert) => step(alert, listed, rules, now, &mut transitions),
        }
    }
    for alert in alerts.values_mut() {
        let listed = webhook.alerts.binary_search_by(|l| l.fingerprint.as_str().cmp(&alert.fingerprint)).is_ok();
        if !listed {
            step_unlisted(alert, webhook, rules, now, &mut transitions);
        }
    }
    let alerts: Vec<Alert> = alerts.into_values().collect();
    conclude(known, webhook, rules, now, alerts, &transitions)
}

/// Whether Alertmanager left out alerts that it does not report as resolved.
fn leaves_out(webhook: &Webhook) -> bool {
    webhook.truncated > 0 && webhook.reason != NotificationReason::AllResolved
}

fn conclude(
    known: &Known,
    webhook: &Webhook,
    rules: &Rules<'_>,
    now: Timestamp,
    mut alerts: Vec<Alert>,
    transitions: &Transitions,
) -> Changes {
    let incident = &known.incident;
    let forgotten = forget(&mut alerts, webhook);
    let state = state_of(&alerts, leaves_out(webhook));
    let reopened = !incident.state.is_open() && state.is_open();
    let begins = !transitions.again.is_empty() || !transitions.new.is_empty();
    // What was gone and is back had not ended.
    let flapped = !transitions.again.is_empty() || (reopened && (begins || incident.state != IncidentState::Gone));
    let flaps = incident.flaps + u32::from(flapped);
    let changed = state != incident.state
        || transitions.quiet
        || [&transitions.new, &transitions.again, &transitions.back, &transitions.resolved]
            .iter()
            .any(|list| !list.is_empty());
    // How many alerts a payload leaves out is on the card, so a change of that alone is an edit.
    let recounted = incident.state.is_open() && state.is_open() && incident.doc.truncated != webhook.truncated;
    let mut notes = if changed { notes_of(transitions, reopened, state, incident.state, flaps) } else { Vec::new() };
    let reminded = if changed { None } else { reminder(known, webhook, rules, now) };
    notes.extend(reminded.clone());
    if !rules.speaks {
        notes.clear();
    }
    let reposts = reposts(known, &notes, rules, now);
    let outcome = match () {
        () if reopened => Outcome::Reopened,
        () if changed && !state.is_open() => Outcome::Resolved,
        () if changed || recounted => Outcome::Changed,
        () if !notes.is_empty() => Outcome::Reminded,
        () => Outcome::Unchanged,
    };
    let severity = severity_of(&alerts, rules.display);
    alerts.retain(|alert| find(&incident.alerts, &alert.fingerprint) != Some(alert));
    Changes {
        outcome,
        write: IncidentWrite::Update,
        state,
        severity,
        closed_at: if state.is_open() { None } else { incident.closed_at.filter(|_| !changed).or(Some(now)) },
        flaps,
        doc: IncidentDoc { quiet: incident.doc.quiet && !begins, ..doc_of(webhook) },
        alerts,
        forgotten,
        visible: changed || recounted,
        notes,
        reposts,
    }
}

/// Drops alerts beyond the bounds, but none of this payload.
fn forget(alerts: &mut Vec<Alert>, webhook: &Webhook) -> Vec<String> {
    let listed = |alert: &Alert| webhook.alerts.binary_search_by(|l| l.fingerprint.cmp(&alert.fingerprint)).is_ok();
    let unlisted = alerts.iter().filter(|alert| !listed(alert));
    let (resolved, live): (Vec<_>, Vec<_>) =
        unlisted.partition(|alert| matches!(alert.state, AlertState::Resolved | AlertState::Gone));
    let mut forgotten = Vec::new();
    for (mut candidates, most) in [(resolved, MAX_RESOLVED), (live, MAX_UNLISTED)] {
        let excess = candidates.len().saturating_sub(most);
        candidates.sort_by_key(|alert| (alert.state == AlertState::Firing, alert.changed_at, &alert.fingerprint));
        forgotten.extend(candidates.into_iter().take(excess).map(|alert| alert.fingerprint.clone()));
    }
    if forgotten.is_empty() {
        return forgotten;
    }
    forgotten.sort();
    alerts.retain(|alert| forgotten.binary_search(&alert.fingerprint).is_err());
    forgotten
}

/// The incident after `changes`, as the store holds it once they are applied.
#[must_use]
pub fn apply(
    known: Option<&Incident>,
    key: &IncidentKey,
    id: &IncidentId,
    changes: &Changes,
    notification: &NotificationId,
    now: Timestamp,
) -> Option<Incident> {
    let mut incident = match changes.write {
        IncidentWrite::None => return known.cloned(),
        IncidentWrite::Update => known?.clone(),
        IncidentWrite::Insert => Incident {
            id: id.clone(),
            key: key.clone(),
            state: changes.state,
            severity: changes.severity,
            opened_at: now,
            last_notified_at: now,
            closed_at: None,
            flaps: 0,
            rev: 0,
            notification: notification.clone(),
            doc: IncidentDoc::default(),
            alerts: Vec::new(),
            left_out: LeftOut::default(),
            taken: Vec::new(),
        },
    };
    incident.state = changes.state;
    incident.severity = changes.severity;
    incident.last_notified_at = now;
    incident.closed_at = changes.closed_at;
    incident.flaps = changes.flaps;
    incident.doc = changes.doc.clone();
    if changes.visible {
        incident.rev += 1;
        incident.notification = notification.clone();
    }
    incident.alerts.retain(|alert| {
        changes.forgotten.binary_search(&alert.fingerprint).is_err()
            && find(&changes.alerts, &alert.fingerprint).is_none()
    });
    incident.alerts.extend(changes.alerts.iter().cloned());
    incident.alerts.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
    Some(incident)
}

#[cfg(test)]
mod tests;
