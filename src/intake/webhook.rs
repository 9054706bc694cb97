//! One notification of Alertmanager, as intake reads it.

use crate::model::{AlertDoc, AlertState, Labels, Timestamp};

/// One notification as Alertmanager (or Grafana) sent it. It leaves out the payload's own `status` and common labels,
/// which are wrong when `max_alerts` truncates the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    pub receiver: String,
    pub group_key: String,
    pub group_labels: Labels,
    pub external_url: String,
    pub truncated: u64,
    pub reason: NotificationReason,
    /// At most one alert for each fingerprint, sorted by it.
    pub alerts: Vec<ListedAlert>,
    /// The number of fields that could not be read as intended.
    pub odd: u32,
    /// A hash of everything above that decides about state or is stored. It includes the reason only as far as that
    /// affects the state: a repeat has another reason than the notification it repeats.
    pub content_hash: String,
}

/// `notification_reason`, which Alertmanager sends since 0.32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotificationReason {
    /// The payload has none.
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
    /// `None` if missing or unreadable.
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
