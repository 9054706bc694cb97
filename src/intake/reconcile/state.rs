//! What follows for an incident from its alerts.

use crate::{
    config::Display,
    model::{Alert, AlertState, Changes, Incident, IncidentState, IncidentWrite, Outcome},
};

pub(super) fn state_of(alerts: &[Alert], some_left_out: bool) -> IncidentState {
    let any = |state| alerts.iter().any(|alert| alert.state == state);
    if any(AlertState::Firing) {
        IncidentState::Firing
    } else if any(AlertState::Absent) {
        IncidentState::Quiet
    } else if some_left_out {
        IncidentState::Unlisted
    } else if any(AlertState::Gone) {
        IncidentState::Gone
    } else {
        IncidentState::Resolved
    }
}

pub(super) fn severity_of(alerts: &[Alert], display: &Display) -> u32 {
    let rank = |alert: &Alert| display.rank(alert.doc.labels.get("severity").map(String::as_str));
    let is_over = |alert: &&Alert| matches!(alert.state, AlertState::Resolved | AlertState::Gone);
    let live = alerts.iter().filter(|alert| !is_over(alert)).map(rank).min();
    live.or_else(|| alerts.iter().map(rank).min()).unwrap_or_else(|| display.rank(None))
}

/// No change at all; the base of those that change little.
pub(super) fn unchanged(incident: &Incident) -> Changes {
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
