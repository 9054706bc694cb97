//! Dead man's switches: what is known of each, and what one notification says of it.

use super::{
    alert::Labels,
    ids::RouteName,
    incident::{HEARTBEATS, IncidentKey},
    time::Timestamp,
};

/// Which switch: one for each set of labels of a heartbeat of the config.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwitchKey {
    pub route: RouteName,
    /// The heartbeat's name in the config.
    pub name: String,
    /// Values of the labels in `by`; those that the beat lacks are empty.
    pub labels: Labels,
}

impl SwitchKey {
    /// The key of the incident that is open while the heartbeat is missing.
    #[must_use]
    pub fn incident(&self) -> IncidentKey {
        IncidentKey { route: self.route.clone(), receiver: HEARTBEATS.to_owned(), group_key: self.identity() }
    }

    /// `["prometheus",{"cluster":"a"}]`: distinct for distinct switches of a route.
    #[must_use]
    pub fn identity(&self) -> String {
        serde_json::json!([self.name, self.labels]).to_string()
    }
}

/// A switch that is armed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    pub key: SwitchKey,
    /// When the first beat came.
    pub armed_at: Timestamp,
    pub beat_at: Timestamp,
    /// From when its time counts instead, since beats before that may not have been heard; `None`: not since the last beat.
    pub graced_at: Option<Timestamp>,
    /// When Alertmanager said that the alert is over; `None` after a beat.
    pub resolved_at: Option<Timestamp>,
    /// When its alarm was raised; `None` while it beats.
    pub missing_since: Option<Timestamp>,
}

/// What one notification says of a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    pub key: SwitchKey,
    /// `false`: its alert is over, which is a sign of trouble and not a beat.
    pub firing: bool,
}
