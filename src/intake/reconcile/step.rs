//! What one payload does to one alert.

use std::time::Duration;

use super::rules::{DEFAULT_REMIND_AFTER, Rules};
use crate::{
    intake::webhook::{ListedAlert, NotificationReason, Webhook},
    model::{Alert, AlertDoc, AlertState, Timestamp},
};

/// Finds one of `alerts`, which are sorted by fingerprint: with thousands of them a linear search takes seconds.
pub(super) fn find<'a>(alerts: &'a [Alert], fingerprint: &str) -> Option<&'a Alert> {
    let at = alerts.binary_search_by(|alert| alert.fingerprint.as_str().cmp(fingerprint)).ok()?;
    alerts.get(at)
}

pub(super) fn first_seen(listed: &ListedAlert, rules: &Rules<'_>, now: Timestamp) -> Alert {
    let starts_at = listed.starts_at.or(listed.ends_at).unwrap_or(rules.wall(now));
    Alert {
        fingerprint: listed.fingerprint.clone(),
        state: listed.state(),
        starts_at,
        ends_at: (!listed.firing).then(|| listed.ends_at.unwrap_or(rules.wall(now))),
        absent_since: None,
        changed_at: now,
        seen: None,
        doc: alert_doc(listed, rules.wall(now)),
    }
}

pub(super) fn alert_doc(listed: &ListedAlert, now: Timestamp) -> AlertDoc {
    AlertDoc { starts_at: listed.starts_at.map(|at| at.min(now)), ..listed.doc.clone() }
}

/// The fingerprints of alerts by what happened to them.
#[derive(Default)]
pub(super) struct Transitions {
    pub(super) new: Vec<String>,
    pub(super) again: Vec<String>,
    pub(super) back: Vec<String>,
    /// The longest absence of the alerts that are reported again.
    pub(super) gap: Duration,
    pub(super) resolved: Vec<String>,
    /// Whether a card shows a change that nobody is notified of.
    pub(super) quiet: bool,
}

/// Updates a known alert that is listed now.
pub(super) fn step(
    alert: &mut Alert,
    listed: &ListedAlert,
    rules: &Rules<'_>,
    now: Timestamp,
    transitions: &mut Transitions,
) {
    alert.doc = alert_doc(listed, rules.wall(now));
    let earliest = listed.starts_at.map_or(alert.starts_at, |at| at.min(alert.starts_at));
    // A firing that began after the last one ended has its own start.
    let start_after = |over: Option<Timestamp>| match (listed.starts_at, over) {
        (Some(starts_at), Some(over)) if starts_at > over => starts_at,
        _ => earliest,
    };
    match (alert.state, alert.absent_since, listed.firing) {
        (AlertState::Firing, None, true) => alert.starts_at = earliest,
        // A poll found it again that had called it gone, and it had begun since.
        (AlertState::Firing, Some(_), true) if alert.seen.is_none() => {
            transitions.again.push(alert.fingerprint.clone());
        }
        (AlertState::Firing | AlertState::Absent, absent_since, true) => {
            let absent_since = absent_since.unwrap_or(alert.changed_at);
            let gap = now.since(absent_since);
            if gap >= rules.remind_after.unwrap_or(DEFAULT_REMIND_AFTER) {
                transitions.back.push(alert.fingerprint.clone());
                transitions.gap = transitions.gap.max(gap);
            } else if alert.state == AlertState::Absent {
                // Of one that fires by the word of a poll, rooms know already.
                transitions.quiet = true;
            }
            alert.starts_at = start_after(Some(rules.wall(absent_since)));
        }
        (AlertState::Gone, _, true) => {
            let gone_at = rules.wall(alert.changed_at);
            if listed.starts_at.is_some_and(|starts_at| starts_at > gone_at) {
                transitions.again.push(alert.fingerprint.clone());
                alert.starts_at = start_after(Some(gone_at));
            } else {
                transitions.quiet = true;
                alert.starts_at = earliest;
            }
        }
        (AlertState::Resolved, _, true) => {
            transitions.again.push(alert.fingerprint.clone());
            alert.starts_at = start_after(alert.ends_at);
        }
        (AlertState::Firing | AlertState::Absent | AlertState::Gone, _, false) => {
            if alert.state == AlertState::Gone {
                transitions.quiet = true;
            } else {
                transitions.resolved.push(alert.fingerprint.clone());
            }
            alert.starts_at = earliest;
            alert.ends_at = Some(listed.ends_at.unwrap_or(rules.wall(now)));
        }
        (AlertState::Resolved, _, false) => {
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
    alert.seen = None;
    if listed.firing {
        alert.ends_at = None;
        alert.absent_since = None;
    }
}

/// Updates a known alert that the payload does not list.
pub(super) fn step_unlisted(
    alert: &mut Alert,
    webhook: &Webhook,
    rules: &Rules<'_>,
    now: Timestamp,
    transitions: &mut Transitions,
) {
    let truncated = webhook.truncated > 0;
    match alert.state {
        AlertState::Firing | AlertState::Absent | AlertState::Gone
            if truncated && webhook.reason == NotificationReason::AllResolved =>
        {
            if alert.state == AlertState::Gone {
                transitions.quiet = true;
            } else {
                transitions.resolved.push(alert.fingerprint.clone());
            }
            let latest = webhook.alerts.iter().filter_map(|listed| listed.ends_at).max();
            alert.state = AlertState::Resolved;
            alert.ends_at = Some(latest.unwrap_or(rules.wall(now)));
            alert.absent_since = None;
            alert.seen = None;
            alert.changed_at = now;
        }
        AlertState::Firing if !truncated => {
            alert.state = AlertState::Absent;
            // Set already if a poll has called it firing, and no webhook has since.
            alert.absent_since = alert.absent_since.or(Some(now));
            alert.seen = None;
            alert.changed_at = now;
            transitions.quiet = true;
        }
        _ => {}
    }
}
