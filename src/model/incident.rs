//! One incident: one Alertmanager group on one route, from first firing until every alert is resolved.

use serde::{Deserialize, Serialize};

use super::{
    act::Taken,
    alert::{Alert, AlertState, Labels},
    ids::{IncidentId, NotificationId, RouteName},
    time::Timestamp,
};

/// The receiver of the incidents that missing heartbeats are. No payload has it; decoding sees to that.
pub const HEARTBEATS: &str = "(heartbeats)";

/// What makes two notifications speak of the same group. `externalURL` is left out on purpose: it differs between
/// the peers of one Alertmanager cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IncidentKey {
    pub route: RouteName,
    pub receiver: String,
    pub group_key: String,
}

impl IncidentKey {
    /// Whether it is a missing heartbeat, of which Alertmanager knows nothing.
    #[must_use]
    pub fn is_heartbeat(&self) -> bool {
        self.receiver == HEARTBEATS
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncidentState {
    /// At least one alert is firing.
    Firing,
    /// Nothing is firing, something is absent: open, since a silence may end.
    Quiet,
    /// All known alerts are resolved, but Alertmanager left some out of the payload: open.
    Unlisted,
    /// Every alert is resolved: closed.
    Resolved,
    /// Not heard of for `stale_after`: closed, but never called resolved.
    Stale,
    /// No alert is left that Alertmanager has: closed, but never called resolved.
    Gone,
}

impl IncidentState {
    pub const ALL: [Self; 6] = [Self::Firing, Self::Quiet, Self::Unlisted, Self::Resolved, Self::Stale, Self::Gone];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Quiet => "quiet",
            Self::Unlisted => "unlisted",
            Self::Resolved => "resolved",
            Self::Stale => "stale",
            Self::Gone => "gone",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Firing | Self::Quiet | Self::Unlisted)
    }
}

/// What the last notification of a group said besides its alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentDoc {
    pub group_labels: Labels,
    pub external_url: String,
    /// How many alerts Alertmanager left out of its last payload (`max_alerts`).
    #[serde(default)]
    pub truncated: u64,
    /// The content hash of that notification; see [`Incident::is_repeated_by`].
    #[serde(default, rename = "digest", skip_serializing_if = "String::is_empty")]
    pub content_hash: String,
    /// Its room knows all that fires from the incident before, which was closed as gone: its card is a notice without
    /// mentions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quiet: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    pub id: IncidentId,
    pub key: IncidentKey,
    pub state: IncidentState,
    /// Index into `display.severities` of the most severe alert that is not resolved, or of the most severe of all
    /// when all are; one past the end for none of them. 0 is the most severe.
    pub severity: u32,
    pub opened_at: Timestamp,
    /// The last notification about it, also one that changed nothing.
    pub last_notified_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    /// How often something that was resolved has fired again.
    pub flaps: u32,
    /// Grows with every change that a room must show; taken from one counter for the whole store.
    pub rev: i64,
    /// The last notification that changed something.
    pub notification: NotificationId,
    pub doc: IncidentDoc,
    /// Sorted by fingerprint.
    pub alerts: Vec<Alert>,
    /// The alerts that `alerts` leaves out: none, unless the incident was read for a message about many.
    pub left_out: LeftOut,
    /// Who takes care of it, the first one first. Only read for messages.
    pub taken: Vec<Taken>,
}

/// How many alerts of each state were not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    pub firing: usize,
    pub resolved: usize,
    pub absent: usize,
    pub gone: usize,
}

impl LeftOut {
    #[must_use]
    pub fn of(self, state: AlertState) -> usize {
        match state {
            AlertState::Firing => self.firing,
            AlertState::Resolved => self.resolved,
            AlertState::Absent => self.absent,
            AlertState::Gone => self.gone,
        }
    }

    pub fn of_mut(&mut self, state: AlertState) -> &mut usize {
        match state {
            AlertState::Firing => &mut self.firing,
            AlertState::Resolved => &mut self.resolved,
            AlertState::Absent => &mut self.absent,
            AlertState::Gone => &mut self.gone,
        }
    }
}

impl Incident {
    /// Whether a notification with this content hash repeats the last one of an open incident. A repeat changes none of
    /// its alerts, so that they need not be read.
    #[must_use]
    pub fn is_repeated_by(&self, content_hash: &str) -> bool {
        self.state.is_open() && !content_hash.is_empty() && self.doc.content_hash == content_hash
    }

    /// With its own times as a wall clock shows them that is so far ahead of the line on which they were taken. When its
    /// alerts began and ended, Alertmanager has said by a wall clock.
    #[must_use]
    pub fn shown(mut self, ahead_ms: i64) -> Self {
        self.opened_at = self.opened_at.moved(ahead_ms);
        self.last_notified_at = self.last_notified_at.moved(ahead_ms);
        self.closed_at = self.closed_at.map(|at| at.moved(ahead_ms));
        for taken in &mut self.taken {
            taken.at = taken.at.moved(ahead_ms);
        }
        for alert in &mut self.alerts {
            alert.changed_at = alert.changed_at.moved(ahead_ms);
            alert.absent_since = alert.absent_since.map(|at| at.moved(ahead_ms));
            if let Some(seen) = &mut alert.seen {
                seen.unheard_since = seen.unheard_since.map(|at| at.moved(ahead_ms));
            }
        }
        self
    }

    /// Of all its alerts, also those that were not read.
    #[must_use]
    pub fn count(&self, state: AlertState) -> usize {
        self.alerts.iter().filter(|a| a.state == state).count() + self.left_out.of(state)
    }

    /// All its alerts, also those that were not read.
    #[must_use]
    pub fn total(&self) -> usize {
        let LeftOut { firing, resolved, absent, gone } = self.left_out;
        self.alerts.len() + firing + resolved + absent + gone
    }
}
