//! One notification of Alertmanager, as intake reads it.

use crate::model::{AlertDoc, AlertState, Labels, Timestamp};

/// One notification as Alertmanager (or Grafana) sent it. The payload's own `status` and common labels are not here:
/// `max_alerts` makes them lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    pub receiver: String,
    pub group_key: String,
    pub group_labels: Labels,
    pub external_url: String,
    pub truncated: u64,
    pub reason: NotificationReason,
    /// At most one for each fingerprint, sorted by it.
    pub alerts: Vec<ListedAlert>,
    /// Fields that could not be read as meant.
    pub odd: u32,
    /// A hash of all of the above that decides about state or is stored. Of why Alertmanager sent it only what bears on
    /// the state is part: a repeat has another reason than the notification that it repeats.
    pub content_hash: String,
}

/// `notification_reason`, which Alertmanager sends since 0.32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotificationReason {
    /// None given.
    Missing,
    RepeatInterval,
    AllResolved,
    Other,
}

/// One alert as a payload lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedAlert {
    pub fingerprint: String,
    pub firing: bool,
    /// `None`: missing or unreadable.
    pub starts_at: Option<Timestamp>,
    pub ends_at: Option<Timestamp>,
    pub doc: AlertDoc,
}

impl ListedAlert {
    #[must_use]
    pub fn state(&self) -> AlertState {
        if self.firing { AlertState::Firing } else { AlertState::Resolved }
    }
}
