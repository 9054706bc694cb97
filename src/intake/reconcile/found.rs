//! What a poll of Alertmanager's API changes. It never says anything: no note, no mention, no incident of its own making.

use super::{
    state::{severity_of, state_of, unchanged},
    step::find,
};
use crate::{
    config::Display,
    intake::decode::is_own_fingerprint,
    model::{
        Alert, AlertState, Changes, Conclusion, Finding, Found, Incident, IncidentDoc, IncidentState, Outcome, Seen,
        Timestamp,
    },
};

/// What these findings change in an incident; `None`: nothing, or it is closed. One that polls have closed as gone is open
/// again, without a word, when they find some of it: Alertmanager may not notify of it for hours. `ahead` is how far the
/// wall clock is ahead of `now`, in milliseconds.
#[must_use]
pub fn found(
    incident: &Incident,
    findings: &[Found],
    display: &Display,
    ahead: i64,
    now: Timestamp,
) -> Option<Changes> {
    let mut alerts = incident.alerts.clone();
    for found in findings {
        let at = alerts.binary_search_by(|alert| alert.fingerprint.cmp(&found.fingerprint));
        if let Some(alert) = at.ok().and_then(|at| alerts.get_mut(at)) {
            conclude(alert, found, ahead, now);
        }
    }
    let state = state_of(&alerts, incident.doc.truncated > 0);
    let severity = severity_of(&alerts, display);
    alerts.retain(|alert| find(&incident.alerts, &alert.fingerprint) != Some(alert));
    let may_change = incident.state.is_open() || incident.state == IncidentState::Gone;
    if !may_change || alerts.is_empty() {
        return None;
    }
    Some(Changes {
        outcome: Outcome::Changed,
        state,
        severity,
        closed_at: (!state.is_open()).then_some(now),
        // The incident no longer matches its last notification, so that the next one is not a repeat.
        doc: IncidentDoc { content_hash: String::new(), ..incident.doc.clone() },
        alerts,
        visible: true,
        ..unchanged(incident)
    })
}

fn conclude(alert: &mut Alert, found: &Found, ahead: i64, now: Timestamp) {
    let before = alert.state;
    match (before, &found.conclusion) {
        // Webhooks say when it fires again.
        (AlertState::Resolved, _) => {}
        (_, Conclusion::Listed(finding)) if finding.is_suppressed() => {
            alert.state = AlertState::Absent;
            alert.seen = Some(finding.clone().into());
        }
        (AlertState::Absent, Conclusion::Listed(Finding::Active)) => {
            alert.state = AlertState::Firing;
            // The next webhook that lists it says for how long it was away.
            alert.absent_since = alert.absent_since.or(Some(alert.changed_at));
            alert.seen = Some(Finding::Active.into());
        }
        (AlertState::Gone, Conclusion::Listed(Finding::Active)) => {
            let has_begun_since = found.starts_at.is_some_and(|starts_at| starts_at > alert.changed_at.moved(ahead));
            alert.state = AlertState::Firing;
            // Without `seen` the next webhook that lists it takes it for another outage.
            alert.absent_since = has_begun_since.then_some(alert.changed_at);
            alert.starts_at = found.starts_at.filter(|_| has_begun_since).unwrap_or(alert.starts_at);
            alert.seen = None;
        }
        // Alertmanager does not know the fingerprint, and so cannot say that it is there.
        (_, Conclusion::Gone | Conclusion::Unheard(_)) if is_own_fingerprint(&alert.fingerprint, &alert.doc.labels) => {
        }
        (AlertState::Firing | AlertState::Absent, Conclusion::Gone) => {
            alert.state = AlertState::Gone;
            alert.absent_since = None;
            alert.seen = None;
        }
        (AlertState::Absent, Conclusion::Unheard(since)) => {
            let finding = alert.seen.take().map_or(Finding::Unknown, |seen| seen.finding);
            alert.seen = Some(Seen { finding, unheard_since: Some(*since) });
        }
        _ => {}
    }
    if alert.state != before {
        alert.changed_at = now;
    }
}
