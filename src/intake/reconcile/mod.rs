//! What a notification changes. The rules of "Reading a payload" in the design, as pure functions.

use std::{collections::BTreeMap, time::Duration};

use super::webhook::{ListedAlert, NotificationReason, Webhook};
use crate::{
    config::{Display, Route, Updates},
    model::{
        Alert, AlertDoc, AlertState, CardId, Changes, Incident, IncidentDoc, IncidentId, IncidentKey, IncidentState,
        IncidentWrite, Known, LeftOut, LiveCard, NewNote, NoteArgs, NoteKind, NotificationId, Outcome, Timestamp,
    },
};

/// The most resolved alerts that an open incident keeps for its card; beyond it the oldest are dropped.
const MAX_RESOLVED: usize = 500;
/// The most alerts that an open incident keeps although its last payload does not list them and they are not resolved:
/// absent, or left out by Alertmanager. Beyond it the longest unchanged are dropped, absent ones first.
const MAX_UNLISTED: usize = 10_000;
/// What counts as "long absent" where reminders are off.
const DEFAULT_REMIND_AFTER: Duration = Duration::from_mins(30);

/// The settings of a route that decide.
#[derive(Clone, Debug)]
pub struct Rules<'a> {
    pub remind_after: Option<Duration>,
    pub reopen_after: Duration,
    /// The age at which a new firing alert makes the receiver post the card again; `None` never does.
    pub repost_after: Option<Duration>,
    /// Whether cards notify after their first event; false with `updates = "edit"`.
    pub speaks: bool,
    /// How far the wall clock, which Alertmanager's times refer to, is ahead of `now`, in milliseconds.
    pub ahead: i64,
    pub display: &'a Display,
}

impl<'a> Rules<'a> {
    #[must_use]
    pub fn of(route: &Route, display: &'a Display) -> Self {
        Self {
            remind_after: route.remind_after,
            reopen_after: route.reopen_after,
            // A post of its own is visible anyway, and with edits alone nothing should ring after the first event.
            repost_after: route.repost_after.filter(|_| matches!(route.updates, Updates::Thread | Updates::Reply)),
            speaks: route.updates != Updates::Edit,
            ahead: 0,
            display,
        }
    }

    /// Converts a time of ours to the wall clock.
    fn wall(&self, at: Timestamp) -> Timestamp {
        at.moved(self.ahead)
    }
}

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
        IncidentState::Resolved if firing => {
            let closed_at = incident.closed_at.unwrap_or(incident.last_notified_at);
            if now.since(closed_at) < rules.reopen_after {
                update(known, webhook, rules, now)
            } else {
                open_new(webhook, rules, now)
            }
        }
        IncidentState::Stale if firing => open_new(webhook, rules, now),
        IncidentState::Stale if !webhook.alerts.is_empty() => update(known, webhook, rules, now),
        IncidentState::Resolved if webhook.alerts.iter().any(|alert| is_unseen(incident, alert, rules)) => {
            open_new(webhook, rules, now)
        }
        IncidentState::Resolved | IncidentState::Stale => unchanged(incident),
    }
}

/// Whether a resolved alert reports an outage that began after the incident closed, and so was never shown.
fn is_unseen(incident: &Incident, listed: &ListedAlert, rules: &Rules<'_>) -> bool {
    let stored = find(&incident.alerts, &listed.fingerprint);
    let closed_at = rules.wall(incident.closed_at.unwrap_or(incident.last_notified_at));
    let over = stored.and_then(|alert| alert.ends_at).unwrap_or(closed_at);
    // It must have ended later as well: an alert that claims to begin after its end would be unseen in every payload.
    listed.starts_at.is_some_and(|starts_at| starts_at > over) && listed.ends_at.is_some_and(|ends_at| ends_at > over)
}

/// Finds one of `alerts`, which are sorted by fingerprint: with thousands of them a linear search takes seconds.
fn find<'a>(alerts: &'a [Alert], fingerprint: &str) -> Option<&'a Alert> {
    let at = alerts.binary_search_by(|alert| alert.fingerprint.as_str().cmp(fingerprint)).ok()?;
    alerts.get(at)
}

fn unchanged(incident: &Incident) -> Changes {
    Changes {
        outcome: Outcome::Unchanged,
        write: IncidentWrite::Update,
        state: incident.state,
        severity: incident.severity,
        closed_at: incident.closed_at,
        flaps: incident.flaps,
        doc: incident.doc.clone(),
        alerts: Vec::new(),
        forgotten: Vec::new(),
        visible: false,
        notes: Vec::new(),
        reposts: Vec::new(),
    }
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
    if !incident.state.is_open() || transitions.resolved.is_empty() {
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

fn first_seen(listed: &ListedAlert, rules: &Rules<'_>, now: Timestamp) -> Alert {
    let starts_at = listed.starts_at.or(listed.ends_at).unwrap_or(rules.wall(now));
    Alert {
        fingerprint: listed.fingerprint.clone(),
        state: listed.state(),
        starts_at,
        ends_at: (!listed.firing).then(|| listed.ends_at.unwrap_or(rules.wall(now))),
        absent_since: None,
        changed_at: now,
        doc: alert_doc(listed, rules.wall(now)),
    }
}

fn alert_doc(listed: &ListedAlert, now: Timestamp) -> AlertDoc {
    AlertDoc { starts_at: listed.starts_at.map(|at| at.min(now)), ..listed.doc.clone() }
}

/// The fingerprints of alerts by what happened to them.
#[derive(Default)]
struct Transitions {
    new: Vec<String>,
    again: Vec<String>,
    back: Vec<String>,
    /// The longest absence of the alerts that are reported again.
    gap: Duration,
    resolved: Vec<String>,
    /// Whether a card shows a change that nobody is notified of.
    quiet: bool,
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

/// Updates a known alert that is listed now.
fn step(alert: &mut Alert, listed: &ListedAlert, rules: &Rules<'_>, now: Timestamp, transitions: &mut Transitions) {
    alert.doc = alert_doc(listed, rules.wall(now));
    let earliest = listed.starts_at.map_or(alert.starts_at, |at| at.min(alert.starts_at));
    // A firing that began after the last one ended has its own start.
    let start_after = |over: Option<Timestamp>| match (listed.starts_at, over) {
        (Some(starts_at), Some(over)) if starts_at > over => starts_at,
        _ => earliest,
    };
    match (alert.state, listed.firing) {
        (AlertState::Firing, true) => alert.starts_at = earliest,
        (AlertState::Absent, true) => {
            let absent_since = alert.absent_since.unwrap_or(alert.changed_at);
            let gap = now.since(absent_since);
            if gap >= rules.remind_after.unwrap_or(DEFAULT_REMIND_AFTER) {
                transitions.back.push(alert.fingerprint.clone());
                transitions.gap = transitions.gap.max(gap);
            } else {
                transitions.quiet = true;
            }
            alert.starts_at = start_after(Some(rules.wall(absent_since)));
        }
        (AlertState::Resolved, true) => {
            transitions.again.push(alert.fingerprint.clone());
            alert.starts_at = start_after(alert.ends_at);
        }
        (AlertState::Firing | AlertState::Absent, false) => {
            transitions.resolved.push(alert.fingerprint.clone());
            alert.starts_at = earliest;
            alert.ends_at = Some(listed.ends_at.unwrap_or(rules.wall(now)));
        }
        (AlertState::Resolved, false) => {
            // An unreported firing and resolving in between changes the times, not the state.
            alert.starts_at = start_after(alert.ends_at);
            alert.ends_at = alert.ends_at.max(listed.ends_at);
        }
    }
    if alert.state != listed.state() {
        alert.state = listed.state();
        alert.changed_at = now;
        alert.absent_since = None;
    }
    if listed.firing {
        alert.ends_at = None;
    }
}

/// Updates a known alert that the payload does not list.
fn step_unlisted(
    alert: &mut Alert,
    webhook: &Webhook,
    rules: &Rules<'_>,
    now: Timestamp,
    transitions: &mut Transitions,
) {
    let truncated = webhook.truncated > 0;
    match alert.state {
        AlertState::Firing | AlertState::Absent if truncated && webhook.reason == NotificationReason::AllResolved => {
            let latest = webhook.alerts.iter().filter_map(|listed| listed.ends_at).max();
            alert.state = AlertState::Resolved;
            alert.ends_at = Some(latest.unwrap_or(rules.wall(now)));
            alert.absent_since = None;
            alert.changed_at = now;
            transitions.resolved.push(alert.fingerprint.clone());
        }
        AlertState::Firing if !truncated => {
            alert.state = AlertState::Absent;
            alert.absent_since = Some(now);
            alert.changed_at = now;
            transitions.quiet = true;
        }
        _ => {}
    }
}

/// Whether Alertmanager left out alerts that it does not report as resolved.
fn leaves_out(webhook: &Webhook) -> bool {
    webhook.truncated > 0 && webhook.reason != NotificationReason::AllResolved
}

fn state_of(alerts: &[Alert], some_left_out: bool) -> IncidentState {
    let any = |state| alerts.iter().any(|alert| alert.state == state);
    if any(AlertState::Firing) {
        IncidentState::Firing
    } else if any(AlertState::Absent) {
        IncidentState::Quiet
    } else if some_left_out {
        IncidentState::Unlisted
    } else {
        IncidentState::Resolved
    }
}

fn severity_of(alerts: &[Alert], display: &Display) -> u32 {
    let rank = |alert: &Alert| display.rank(alert.doc.labels.get("severity").map(String::as_str));
    let live = alerts.iter().filter(|alert| alert.state != AlertState::Resolved).map(rank).min();
    live.or_else(|| alerts.iter().map(rank).min()).unwrap_or_else(|| display.rank(None))
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
    let flaps = incident.flaps + u32::from(reopened || !transitions.again.is_empty());
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
        doc: doc_of(webhook),
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
    let (resolved, live): (Vec<_>, Vec<_>) = unlisted.partition(|alert| alert.state == AlertState::Resolved);
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

fn notes_of(
    transitions: &Transitions,
    reopened: bool,
    state: IncidentState,
    before: IncidentState,
    flaps: u32,
) -> Vec<NewNote> {
    let mut notes = Vec::new();
    let mut say = |kind, fingerprints: Vec<String>| {
        let flaps = if kind == NoteKind::Again { flaps } else { 0 };
        let gap = (kind == NoteKind::Back).then(|| u64::try_from(transitions.gap.as_millis()).unwrap_or(u64::MAX));
        notes.push(NewNote { kind, args: NoteArgs { fingerprints, flaps, gap_ms: gap }, cards: None });
    };
    if reopened && state == IncidentState::Firing {
        // On a card that was green, everything that fires does so again, whichever alert of the group it is.
        let mut firing = transitions.again.clone();
        firing.extend(transitions.new.iter().cloned());
        say(NoteKind::Again, firing);
    } else {
        for (kind, list) in [
            (NoteKind::NewFiring, &transitions.new),
            (NoteKind::Again, &transitions.again),
            (NoteKind::Back, &transitions.back),
        ] {
            if !list.is_empty() {
                say(kind, list.clone());
            }
        }
    }
    if state == IncidentState::Resolved && before != state {
        say(NoteKind::Resolved, Vec::new());
    } else if !transitions.resolved.is_empty() {
        say(NoteKind::PartlyResolved, transitions.resolved.clone());
    }
    notes
}

/// The cards that are too old for a reply or an edit to be seen.
fn reposts(known: &Known, notes: &[NewNote], rules: &Rules<'_>, now: Timestamp) -> Vec<CardId> {
    let Some(repost_after) = rules.repost_after else { return Vec::new() };
    if !known.incident.state.is_open() || !notes.iter().any(|note| note.kind.mentions()) {
        return Vec::new();
    }
    let is_old = |card: &&LiveCard| card.posted_at.is_some_and(|posted_at| now.since(posted_at) >= repost_after);
    known.cards.iter().filter(is_old).map(|card| card.id.clone()).collect()
}

/// A reminder for cards that have been silent for long, if the payload is unchanged and sent only because time passed.
fn reminder(known: &Known, webhook: &Webhook, rules: &Rules<'_>, now: Timestamp) -> Option<NewNote> {
    let remind_after = rules.remind_after?;
    let repeated = matches!(webhook.reason, NotificationReason::RepeatInterval | NotificationReason::Missing);
    if !repeated || !webhook.alerts.iter().any(|alert| alert.firing) {
        return None;
    }
    let silent = |card: &&LiveCard| {
        !card.notes_waiting && card.spoke_at.is_some_and(|spoke_at| now.since(spoke_at) >= remind_after)
    };
    let cards: Vec<CardId> = known.cards.iter().filter(silent).map(|card| card.id.clone()).collect();
    (!cards.is_empty()).then(|| NewNote { kind: NoteKind::Reminder, args: NoteArgs::default(), cards: Some(cards) })
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
