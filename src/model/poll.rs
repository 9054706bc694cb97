//! A poll of Alertmanager's API: what it asks about, and what it concludes.

use super::{
    alert::AlertState,
    ids::IncidentId,
    seen::{Finding, Seen},
    time::Timestamp,
};

/// The last number of the store's counter when a poll began. What it finds says nothing about incidents that have changed
/// since.
#[derive(Clone, Copy, Debug)]
pub struct PollMark(pub i64);

/// As much of an open incident as judging needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolledIncident {
    pub id: IncidentId,
    pub rev: i64,
    /// The last notification about it, or the last time that a poll found it long after that.
    pub heard_at: Timestamp,
    /// Without those that are resolved; sorted by fingerprint.
    pub alerts: Vec<PolledAlert>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolledAlert {
    pub fingerprint: String,
    pub state: AlertState,
    pub seen: Option<Seen>,
    pub absent_since: Option<Timestamp>,
    pub starts_at: Timestamp,
}

/// What a poll concludes about one alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub fingerprint: String,
    pub conclusion: Conclusion,
    /// When it began, by Alertmanager's word of now.
    pub starts_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// Alertmanager has it.
    Listed(Finding),
    /// No peer has it any more.
    Gone,
    /// Nothing is known of it since then; the receiver's own time.
    Unheard(Timestamp),
}
