//! A card is what a room shows for an incident; a note is something to say in its thread.

use serde::{Deserialize, Serialize};

use super::{
    ids::{CardId, IncidentId, NotificationId, RoomAddress},
    time::Timestamp,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardKind {
    /// One incident.
    Incident,
    /// Several incidents, made in a storm.
    Digest,
}

impl CardKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Incident => "incident",
            Self::Digest => "digest",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "incident" => Self::Incident,
            "digest" => Self::Digest,
            _ => return None,
        })
    }
}

/// What a card still has to do in its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardState {
    /// It shows its incidents as they change.
    Live,
    /// Another card took its place. Once that one is in its room, a last edit says where.
    Superseded,
    /// No route leads its incidents into its room any more. Once it is in the room, a last edit says so.
    Unrouted,
    /// Its last edit is done, or the room is given up: it stays as it is.
    Retired,
}

impl CardState {
    pub const ALL: [Self; 4] = [Self::Live, Self::Superseded, Self::Unrouted, Self::Retired];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Superseded => "superseded",
            Self::Unrouted => "unrouted",
            Self::Retired => "retired",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether the next edit of such a card is its last.
    #[must_use]
    pub fn owes_last_edit(self) -> bool {
        matches!(self, Self::Superseded | Self::Unrouted)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    pub id: CardId,
    pub room: RoomAddress,
    pub kind: CardKind,
    pub state: CardState,
    /// The first event, once the homeserver has acknowledged it.
    pub root_event: Option<String>,
    /// When the first event was frozen; its day is the one that times on the card leave out.
    pub root_at: Option<Timestamp>,
    /// The newest event in the thread.
    pub last_reply: Option<String>,
    /// When the card last said something that is not an edit.
    pub spoke_at: Option<Timestamp>,
    /// The oldest accepted change that the room does not show yet.
    pub dirty_since: Option<Timestamp>,
    /// The card that took its place.
    pub superseded_by: Option<CardId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoteKind {
    /// Alerts never seen before in a live incident; notifies.
    NewFiring,
    /// Alerts that were absent for long and are firing again; notifies.
    Back,
    /// Alerts that were resolved and are firing again; notifies.
    Again,
    /// Some alerts resolved, others not; a notice.
    PartlyResolved,
    /// Everything resolved; a notice.
    Resolved,
    /// Alertmanager repeated itself; notifies, mentions nobody.
    Reminder,
    /// Nobody took the incident for so long that others are called; notifies, and mentions those of the step.
    Escalation,
}

impl NoteKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewFiring => "new_firing",
            Self::Back => "back",
            Self::Again => "again",
            Self::PartlyResolved => "partly_resolved",
            Self::Resolved => "resolved",
            Self::Reminder => "reminder",
            Self::Escalation => "escalation",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "new_firing" => Self::NewFiring,
            "back" => Self::Back,
            "again" => Self::Again,
            "partly_resolved" => Self::PartlyResolved,
            "resolved" => Self::Resolved,
            "reminder" => Self::Reminder,
            "escalation" => Self::Escalation,
            _ => return None,
        })
    }

    /// Whether the reply must make phones ring (`m.text`); an `m.notice` never does.
    #[must_use]
    pub fn notifies(self) -> bool {
        !matches!(self, Self::PartlyResolved | Self::Resolved)
    }

    /// Whether the reply carries the route's mentions: only those about firing alerts do.
    #[must_use]
    pub fn mentions(self) -> bool {
        matches!(self, Self::NewFiring | Self::Again)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteArgs {
    /// The alerts it is about; empty for the whole incident.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fingerprints: Vec<String>,
    /// For [`NoteKind::Again`]: how often the incident has flapped, this time included.
    #[serde(default)]
    pub flaps: u32,
    /// For [`NoteKind::Back`]: how long the longest absence of these alerts was, in milliseconds. `None` in notes that an
    /// older receiver left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_ms: Option<u64>,
    /// For [`NoteKind::Escalation`]: which entry of `routes.X.escalate`, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub id: i64,
    pub card: CardId,
    pub incident: IncidentId,
    pub kind: NoteKind,
    pub at: Timestamp,
    pub notification: NotificationId,
    pub args: NoteArgs,
}
