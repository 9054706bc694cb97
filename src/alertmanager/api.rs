//! What Alertmanager's API v2 says, as far as the receiver reads it. Every field may be missing in some version or in
//! another server that speaks the same API (Mimir, Grafana); unknown ones are ignored.

use crate::model::{Labels, Timestamp};

/// An alert as `GET /api/v2/alerts` and `/alerts/groups` list it. It is not resolved: those are in neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiAlert {
    pub fingerprint: String,
    pub labels: Labels,
    /// The receivers that it is routed to.
    pub receivers: Vec<String>,
    pub starts_at: Option<Timestamp>,
    /// Ids of silences.
    pub silenced_by: Vec<String>,
    /// Fingerprints of alerts.
    pub inhibited_by: Vec<String>,
    /// Names of time intervals; only since 0.28, and only from `/alerts/groups`.
    pub muted_by: Vec<String>,
}

/// A silence as `GET /api/v2/silences` lists it. Times are those of the wall clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiSilence {
    pub id: String,
    pub state: SilenceState,
    pub matchers: Vec<Matcher>,
    pub created_by: String,
    pub comment: String,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SilenceState {
    Active,
    Pending,
    /// Also what cannot be read.
    #[default]
    Expired,
}

/// `name = "value"` and its kin.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Matcher {
    pub name: String,
    pub value: String,
    #[serde(default)]
    pub is_regex: bool,
    #[serde(default = "yes")]
    pub is_equal: bool,
}

fn yes() -> bool {
    true
}

/// What `GET /api/v2/status` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStatus {
    pub version: String,
    /// When it started; `None`: it does not say, so that nothing may be concluded from what it does not list.
    pub up_since: Option<Timestamp>,
    /// `ready`, `settling`, `disabled`; empty if it does not say.
    pub cluster: String,
    /// Its config as YAML; empty if it does not say.
    pub config: String,
}

/// A silence to be made, or with `id` to be extended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSilence {
    pub id: Option<String>,
    pub matchers: Vec<Matcher>,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub created_by: String,
    pub comment: String,
}
