//! What Alertmanager's API says of an alert, beside what its webhooks say.

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// What the last poll found of an alert. `state` of the alert already takes it into account: an alert that is suppressed
/// is [`super::AlertState::Absent`], one that no peer has any more is [`super::AlertState::Gone`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    #[serde(flatten)]
    pub finding: Finding,
    /// When Alertmanager last answered, if it does not answer now; the receiver's own time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unheard_since: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Finding {
    /// Firing, and nothing holds back its notifications.
    Active,
    /// The silence that ends last comes first.
    Silenced { silences: Vec<KnownSilence> },
    /// By alerts of these names.
    Inhibited { by: Vec<String> },
    /// By these time intervals.
    Muted { by: Vec<String> },
    /// It cannot be known what became of it.
    Unknown,
}

impl From<Finding> for Seen {
    fn from(finding: Finding) -> Self {
        Self { finding, unheard_since: None }
    }
}

impl Finding {
    /// Whether Alertmanager holds back the alert's notifications.
    #[must_use]
    pub fn is_suppressed(&self) -> bool {
        matches!(self, Self::Silenced { .. } | Self::Inhibited { .. } | Self::Muted { .. })
    }
}

/// As much of a silence as a card shows. All texts are untrusted until rendered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownSilence {
    pub id: String,
    /// Whoever made it; for a silence made from a room, the display name of the person who asked.
    pub by: String,
    /// By the wall clock.
    pub until: Timestamp,
    /// Without the receiver's own marker.
    pub comment: String,
}
