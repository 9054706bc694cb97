//! What one notification changes: the result of reconciling, and all that the store needs to apply.

use super::{
    alert::{Alert, AlertState},
    card::{NoteArgs, NoteKind},
    ids::CardId,
    incident::{Incident, IncidentDoc, IncidentState},
    time::Timestamp,
};

/// What a notification did; the `outcome` label of `notifications_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A new incident.
    Opened,
    /// A closed incident fires again on its card.
    Reopened,
    /// The state of an open incident changed.
    Changed,
    /// The incident is over.
    Resolved,
    /// The same state again, and the card says that it still holds.
    Reminded,
    /// The same state again: a retry, a twin, a repeat.
    Unchanged,
    /// Nothing but heartbeats.
    Beat,
}

impl Outcome {
    pub const ALL: [Self; 7] =
        [Self::Opened, Self::Reopened, Self::Changed, Self::Resolved, Self::Reminded, Self::Unchanged, Self::Beat];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Reopened => "reopened",
            Self::Changed => "changed",
            Self::Resolved => "resolved",
            Self::Reminded => "reminded",
            Self::Unchanged => "unchanged",
            Self::Beat => "beat",
        }
    }

    /// Of a notification that changed other incidents too.
    #[must_use]
    pub fn with_change(self) -> Self {
        match self {
            Self::Unchanged | Self::Reminded | Self::Beat => Self::Changed,
            other => other,
        }
    }
}

/// Which incident row is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncidentWrite {
    /// None at all: nothing to say and no incident to say it of.
    None,
    /// A new incident row.
    Insert,
    /// The incident that was handed in.
    Update,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNote {
    pub kind: NoteKind,
    pub args: NoteArgs,
    /// Only these cards say it; `None`: every live card of the incident.
    pub cards: Option<Vec<CardId>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    pub outcome: Outcome,
    pub write: IncidentWrite,
    pub state: IncidentState,
    pub severity: u32,
    pub closed_at: Option<Timestamp>,
    pub flaps: u32,
    pub doc: IncidentDoc,
    /// Rows that are new or differ from what is stored, and only those.
    pub alerts: Vec<Alert>,
    /// Alerts that are no longer kept (a bound was reached).
    pub forgotten: Vec<String>,
    /// Whether rooms must show something new: the revision grows and cards become due.
    pub visible: bool,
    pub notes: Vec<NewNote>,
    /// Cards so old that a new one supersedes them, which notifies as a first post does.
    pub reposts: Vec<CardId>,
}

impl Changes {
    /// Whether nobody takes care of the incident any more, which was `before`: it closes or reopens, or an alert fires
    /// that it had not known. A flap does not end a taking, nor does an alert that was absent and is back.
    #[must_use]
    pub fn ends_taking(&self, before: &Incident) -> bool {
        let is_new = |alert: &Alert| {
            alert.state == AlertState::Firing
                && before.alerts.binary_search_by(|known| known.fingerprint.cmp(&alert.fingerprint)).is_err()
        };
        self.state.is_open() != before.state.is_open() || self.alerts.iter().any(is_new)
    }

    /// Whether the incident was closed `before` and is open again.
    #[must_use]
    pub fn reopens(&self, before: &Incident) -> bool {
        self.state.is_open() && !before.state.is_open()
    }
}

/// What the store knows of a group: its newest incident, open or closed, and the live cards of it.
#[derive(Clone, Debug)]
pub struct Known {
    pub incident: Incident,
    pub cards: Vec<LiveCard>,
    /// The notification at hand is the very one that left the incident as it is; its alerts have not been read.
    pub repeated: bool,
    /// Somebody takes care of it, so that no reminder is needed.
    pub taken: bool,
}

/// As much of a live card as reminding and reposting need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveCard {
    pub id: CardId,
    /// When it last said something that is not an edit; `None` before its first event is acknowledged.
    pub spoke_at: Option<Timestamp>,
    /// When it was posted, if it shows this incident alone; a digest is never reposted.
    pub posted_at: Option<Timestamp>,
    /// It is about to say something anyway.
    pub notes_waiting: bool,
}
