//! What the answers of one poll say of the alerts of one incident. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{
    api::{ApiAlert, PeerStatus},
    missing::{Memory, Sighting},
};
use crate::model::{
    AlertState, Conclusion, Finding, Found, IncidentId, KnownSilence, PolledAlert, PolledIncident, Timestamp,
};

/// How long a peer must have run before its list counts as whole: alerts are in memory alone, and Prometheus sends them
/// again within minutes.
const SETTLED_AFTER: Duration = Duration::from_mins(5);
/// Silences, inhibiting alerts or time intervals that are kept for one alert.
const KEPT: usize = 3;

/// The alerts that a peer lists for a receiver, by fingerprint.
pub(super) type Listed = HashMap<String, ApiAlert>;

/// What one configured peer said.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// `None`: it was not asked, or did not answer.
    pub listed: Option<Arc<Listed>>,
    /// Whether what it does not list is not there.
    pub is_conclusive: bool,
}

/// What one poll brought for one receiver.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    /// One for each configured peer.
    pub peers: Vec<Peer>,
    /// Active silences by id.
    pub silences: Arc<HashMap<String, KnownSilence>>,
    /// Names of inhibiting alerts by fingerprint.
    pub names: HashMap<String, String>,
}

/// What more must be asked before these incidents can be judged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// The other peers, and since when each runs.
    pub others: bool,
    pub silences: BTreeSet<String>,
    /// Names of the alerts with these fingerprints.
    pub names: BTreeSet<String>,
}

impl Answers {
    fn listed(&self, fingerprint: &str) -> Option<&ApiAlert> {
        self.peers.iter().filter_map(|peer| peer.listed.as_ref()).find_map(|listed| listed.get(fingerprint))
    }

    /// Whether an alert that nobody lists is nowhere.
    fn are_conclusive(&self) -> bool {
        !self.peers.is_empty() && self.peers.iter().all(|peer| peer.listed.is_some() && peer.is_conclusive)
    }

    /// Whether some peer lists an alert of these incidents, and so is the Alertmanager that they come from.
    pub fn knows_some_of(&self, incidents: &[PolledIncident]) -> bool {
        incidents.iter().flat_map(|one| &one.alerts).any(|alert| self.listed(&alert.fingerprint).is_some())
    }

    pub fn needs(&self, incidents: &[PolledIncident]) -> Needs {
        let mut needs = Needs::default();
        for alert in incidents.iter().flat_map(|one| &one.alerts).filter(|alert| may_be_judged(alert)) {
            match self.listed(&alert.fingerprint) {
                None => needs.others |= alert.state != AlertState::Gone,
                Some(listed) if !listed.silenced_by.is_empty() => {
                    needs.silences.extend(listed.silenced_by.iter().cloned());
                }
                Some(listed) => {
                    let unnamed = listed.inhibited_by.iter().take(KEPT).filter(|by| !self.names.contains_key(*by));
                    needs.names.extend(unnamed.cloned());
                }
            }
        }
        needs
    }
}

/// Whether a peer with this status has what it should have, so that what it does not list is not there.
pub(super) fn is_conclusive(status: &PeerStatus, receiver: &str, is_known: bool, wall: Timestamp) -> bool {
    // A server that answers for another tenant knows neither our receiver nor any of our alerts.
    let is_ours = is_known || (!receiver.is_empty() && status.config.contains(receiver));
    let is_up = status.up_since.is_some_and(|up_since| wall.since(up_since) > SETTLED_AFTER);
    is_ours && is_up && status.cluster != "settling"
}

/// The fingerprint may be Alertmanager's: 16 hexadecimal digits.
fn may_be_judged(alert: &PolledAlert) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    alert.fingerprint.len() == 16 && alert.fingerprint.bytes().all(is_digit)
}

/// What changes for the alerts of an incident.
pub(super) fn judge(incident: &PolledIncident, answers: &Answers, memory: &mut Memory, now: Timestamp) -> Vec<Found> {
    let is_conclusive = answers.are_conclusive();
    let alerts = incident.alerts.iter().filter(|alert| may_be_judged(alert));
    let judged = alerts.filter_map(|alert| {
        let listed = answers.listed(&alert.fingerprint);
        let conclusion = match listed {
            Some(listed) => {
                memory.is_there(&incident.id, &alert.fingerprint);
                listed_as(alert, listed, answers)?
            }
            None => missing_as(&incident.id, alert, is_conclusive, memory, now)?,
        };
        let starts_at = listed.and_then(|listed| listed.starts_at);
        Some(Found { fingerprint: alert.fingerprint.clone(), conclusion, starts_at })
    });
    judged.collect()
}

/// What changes for the alerts of an incident while no peer answers.
pub(super) fn unheard(incident: &PolledIncident, since: Timestamp) -> Vec<Found> {
    let alerts = incident.alerts.iter().filter(|alert| may_be_judged(alert) && can_be_unheard(alert));
    let found = |alert: &PolledAlert| Found {
        fingerprint: alert.fingerprint.clone(),
        conclusion: Conclusion::Unheard(since),
        starts_at: None,
    };
    alerts.map(found).collect()
}

fn can_be_unheard(alert: &PolledAlert) -> bool {
    alert.state == AlertState::Absent && alert.seen.as_ref().is_none_or(|seen| seen.unheard_since.is_none())
}

fn listed_as(alert: &PolledAlert, listed: &ApiAlert, answers: &Answers) -> Option<Conclusion> {
    let finding = finding_of(alert, listed, answers);
    let is_known = match &finding {
        Finding::Active | Finding::Unknown => alert.state == AlertState::Firing,
        suppressed => {
            let known = alert.seen.as_ref().filter(|seen| seen.unheard_since.is_none());
            alert.state == AlertState::Absent && known.is_some_and(|seen| seen.finding == *suppressed)
        }
    };
    (!is_known).then_some(Conclusion::Listed(finding))
}

fn finding_of(alert: &PolledAlert, listed: &ApiAlert, answers: &Answers) -> Finding {
    if !listed.silenced_by.is_empty() {
        // What the last poll knew, where the silences cannot be read now.
        let before = match alert.seen.as_ref().map(|seen| &seen.finding) {
            Some(Finding::Silenced { silences }) => silences.as_slice(),
            _ => &[],
        };
        let known = |id: &String| {
            let silence = answers.silences.get(id).or_else(|| before.iter().find(|silence| silence.id == *id));
            silence.cloned()
        };
        let mut silences: Vec<KnownSilence> = listed.silenced_by.iter().filter_map(known).collect();
        silences.sort_by(|a, b| b.until.cmp(&a.until).then_with(|| a.id.cmp(&b.id)));
        silences.dedup_by(|a, b| a.id == b.id);
        silences.truncate(KEPT);
        Finding::Silenced { silences }
    } else if !listed.inhibited_by.is_empty() {
        let by: BTreeSet<&String> =
            listed.inhibited_by.iter().filter_map(|fingerprint| answers.names.get(fingerprint)).collect();
        let mut by: Vec<String> = by.into_iter().take(KEPT).cloned().collect();
        if let (true, Some(Finding::Inhibited { by: before })) =
            (by.is_empty(), alert.seen.as_ref().map(|seen| &seen.finding))
        {
            by.clone_from(before);
        }
        Finding::Inhibited { by }
    } else if !listed.muted_by.is_empty() {
        Finding::Muted { by: listed.muted_by.iter().take(KEPT).cloned().collect() }
    } else {
        Finding::Active
    }
}

fn missing_as(
    incident: &IncidentId,
    alert: &PolledAlert,
    is_conclusive: bool,
    memory: &mut Memory,
    now: Timestamp,
) -> Option<Conclusion> {
    if alert.state == AlertState::Gone {
        return None;
    }
    let was_suppressed =
        alert.state == AlertState::Absent || alert.seen.as_ref().is_some_and(|seen| seen.finding.is_suppressed());
    match memory.is_missing(incident, &alert.fingerprint, is_conclusive, was_suppressed, now) {
        Sighting::Gone => Some(Conclusion::Gone),
        Sighting::Unheard(since) if can_be_unheard(alert) => Some(Conclusion::Unheard(since)),
        Sighting::Unheard(_) | Sighting::Early => None,
    }
}

#[cfg(test)]
mod tests;
