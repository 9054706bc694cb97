//! What the receiver knows of an incident, for whoever asks why.

use super::{Answer, time, title};
use crate::{
    model::{Alert, AlertState, Finding, Incident, KnownSilence, Timestamp},
    render::{card::group::Group, held_back, style::Style, time as words},
};

/// Alerts that have a line; the others are counted.
const MAX_ALERTS: usize = 15;

/// `incident` with its alerts and those who took it, in times of the wall clock. `knows`: whether Alertmanager is asked.
#[must_use]
pub fn why(style: &Style, incident: &Incident, knows: bool, now: Timestamp) -> Answer {
    let counts = [AlertState::Firing, AlertState::Absent, AlertState::Gone, AlertState::Resolved]
        .into_iter()
        .map(|state| (incident.count(state), word(incident, state)))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect::<Vec<_>>()
        .join(", ");
    let counts = if counts.is_empty() { "no alerts".to_owned() } else { counts };
    let mut answer = Answer::new("ℹ️", &format!("{}: {counts}", title(style, incident)));
    for taken in &incident.taken {
        let who = if taken.name.is_empty() { &taken.user } else { &taken.name };
        let said = if taken.text.is_empty() { String::new() } else { format!(": {}", taken.text) };
        answer = answer.line(&format!("👀 taken by {who} ({}) at {}{said}", taken.user, time(style, taken.at, now)));
    }
    if incident.taken.is_empty() && incident.state.is_open() {
        answer = answer.line("Nobody has taken it.");
    }
    let group = Group::new(style, incident);
    let unresolved: Vec<_> = group.alerts.iter().filter(|seen| seen.alert.state != AlertState::Resolved).collect();
    let shown = if unresolved.is_empty() { group.alerts.iter().collect() } else { unresolved };
    for seen in shown.iter().take(MAX_ALERTS) {
        let name = seen.label("alertname").unwrap_or("alert").to_owned();
        let place = group.place(seen);
        let name = if place.is_empty() { name } else { format!("{name} {place}") };
        answer = answer.line(&format!("{name}: {}", state_of(style, incident, seen.alert, now)));
    }
    answer = answer.and_more(shown.len().saturating_sub(MAX_ALERTS));
    for silence in silences(incident).into_iter().take(5) {
        let comment = if silence.comment.is_empty() { String::new() } else { format!(": {}", silence.comment) };
        let until = time(style, silence.until, now);
        answer = answer.code(&format!("🔕 silenced by {} until {until}{comment}", silence.by), &silence.id);
    }
    if incident.key.is_heartbeat() {
        return heartbeat(style, incident, answer, now);
    }
    let heard = time(style, incident.last_notified_at, now);
    let ago = words::words(now.since(incident.last_notified_at));
    answer = answer.line(&format!("Last notification from Alertmanager: {heard}, {ago} ago."));
    if !knows {
        answer = answer.line("Alertmanager is not asked (no [alertmanager] for this route): silences are not known.");
    }
    answer
}

/// Alertmanager knows nothing of it, and no notification is about it.
fn heartbeat(style: &Style, incident: &Incident, answer: Answer, now: Timestamp) -> Answer {
    let Some(alert) = incident.alerts.first() else { return answer };
    let beat = |at| format!("{}, {} ago", time(style, at, now), words::words(now.since(at)));
    let line = match alert.ends_at {
        Some(ends_at) => format!("It beats again since {}.", beat(ends_at)),
        None => format!("Last beat: {}.", beat(alert.starts_at)),
    };
    answer.line(&line).line("This receiver watches the heartbeat itself; Alertmanager knows no such alert.")
}

fn word(incident: &Incident, state: AlertState) -> &'static str {
    match state {
        AlertState::Firing => "firing",
        AlertState::Resolved => "resolved",
        AlertState::Absent => held_back::counted(incident),
        AlertState::Gone if incident.key.is_heartbeat() => "not watched any more",
        AlertState::Gone => "no longer in Alertmanager",
    }
}

fn state_of(style: &Style, incident: &Incident, alert: &Alert, now: Timestamp) -> String {
    let since = |at| format!("since {}", time(style, at, now));
    let found = alert.seen.as_ref().map(|seen| &seen.finding);
    let state = match (alert.state, found) {
        (AlertState::Absent, Some(Finding::Silenced { .. })) => format!("silenced, firing {}", since(alert.starts_at)),
        (AlertState::Absent, Some(Finding::Inhibited { by })) => {
            format!("inhibited by {}, firing {}", by.join(", "), since(alert.starts_at))
        }
        (AlertState::Absent, Some(Finding::Muted { by })) => {
            format!("muted by the time interval {}, firing {}", by.join(", "), since(alert.starts_at))
        }
        (AlertState::Absent, _) => format!("not reported {}", since(alert.absent_since.unwrap_or(alert.changed_at))),
        (AlertState::Firing, _) => format!("firing {}", since(alert.starts_at)),
        (AlertState::Gone, _) if incident.key.is_heartbeat() => {
            format!("not watched any more {}", since(alert.changed_at))
        }
        (AlertState::Gone, _) => format!("no longer in Alertmanager {}", since(alert.changed_at)),
        (AlertState::Resolved, _) => {
            format!("resolved {}", alert.ends_at.map_or_else(|| since(alert.changed_at), since))
        }
    };
    match alert.seen.as_ref().and_then(|seen| seen.unheard_since) {
        Some(at) => format!("{state}; Alertmanager has not answered since {}", time(style, at, now)),
        None => state,
    }
}

/// Each silence once.
fn silences(incident: &Incident) -> Vec<&KnownSilence> {
    let mut found: Vec<&KnownSilence> = Vec::new();
    for alert in &incident.alerts {
        let Some(Finding::Silenced { silences }) = alert.seen.as_ref().map(|seen| &seen.finding) else { continue };
        for silence in silences {
            if !found.iter().any(|known| known.id == silence.id) {
                found.push(silence);
            }
        }
    }
    found
}
