//! What a poll of Alertmanager's API changes. It never says anything: no note, no mention, no incident of its own making.

use super::{
    state::{severity_of, state_of, unchanged},
    step::find,
};
use crate::{
    config::Display,
    intake::decode::is_own_fingerprint,
    model::{Alert, AlertState, Changes, Conclusion, Finding, Found, Incident, IncidentDoc, Outcome, Seen, Timestamp},
};

/// What these findings change in an incident; `None`: nothing, or it is closed.
#[must_use]
pub fn found(incident: &Incident, findings: &[Found], display: &Display, now: Timestamp) -> Option<Changes> {
    let mut alerts = incident.alerts.clone();
    for Found { fingerprint, conclusion } in findings {
        let at = alerts.binary_search_by(|alert| alert.fingerprint.cmp(fingerprint));
        if let Some(alert) = at.ok().and_then(|at| alerts.get_mut(at)) {
            conclude(alert, conclusion, now);
        }
    }
    let state = state_of(&alerts, incident.doc.truncated > 0);
    let severity = severity_of(&alerts, display);
    alerts.retain(|alert| find(&incident.alerts, &alert.fingerprint) != Some(alert));
    if !incident.state.is_open() || alerts.is_empty() {
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

fn conclude(alert: &mut Alert, conclusion: &Conclusion, now: Timestamp) {
    let before = alert.state;
    match (before, conclusion) {
        // Webhooks say when it fires again, and so is one that is gone: only they know whether it was away.
        (AlertState::Resolved, _) | (AlertState::Gone, Conclusion::Listed(Finding::Active | Finding::Unknown)) => {}
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
