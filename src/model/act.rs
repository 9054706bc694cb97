//! What somebody asks for in a room, and what became of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    ids::{CardId, IncidentId, RoomAddress, RouteName},
    time::Timestamp,
};

/// What is asked for: a closed set, fit for the metric label `act`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActKind {
    /// To say who takes care of an incident.
    Take,
    /// To end that.
    Untake,
    Silence,
    /// To expire the silences that were made from this card.
    Unsilence,
    /// To undo what a reaction did, by removing it.
    Undo,
    Why,
    Logs,
    Graph,
    Alerts,
    Silences,
    Help,
    /// A command that does not exist or cannot be read; it is answered with what there is.
    Unknown,
}

impl ActKind {
    pub const ALL: [Self; 12] = [
        Self::Take,
        Self::Untake,
        Self::Silence,
        Self::Unsilence,
        Self::Undo,
        Self::Why,
        Self::Logs,
        Self::Graph,
        Self::Alerts,
        Self::Silences,
        Self::Help,
        Self::Unknown,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Take => "take",
            Self::Untake => "untake",
            Self::Silence => "silence",
            Self::Unsilence => "unsilence",
            Self::Undo => "undo",
            Self::Why => "why",
            Self::Logs => "logs",
            Self::Graph => "graph",
            Self::Alerts => "alerts",
            Self::Silences => "silences",
            Self::Help => "help",
            Self::Unknown => "unknown",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Whether it only asks, so that `actions.read` decides.
    #[must_use]
    pub fn only_reads(self) -> bool {
        !matches!(self, Self::Take | Self::Untake | Self::Silence | Self::Unsilence | Self::Undo)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActState {
    /// Committed, and not carried out yet.
    Asked,
    /// Alertmanager may have done it: no answer came.
    InDoubt,
    /// Done, and its effect lasts: an incident is taken, a silence is active.
    Live,
    /// That effect is over.
    Ended,
    /// Done, without a lasting effect.
    Done,
    /// Not done, and answered why.
    Refused,
}

impl ActState {
    pub const ALL: [Self; 6] = [Self::Asked, Self::InDoubt, Self::Live, Self::Ended, Self::Done, Self::Refused];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::InDoubt => "in_doubt",
            Self::Live => "live",
            Self::Ended => "ended",
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// How it was asked for, as JSON in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActArgs {
    /// A reaction asked for it, not a command.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_reaction: bool,
    /// It was written in a thread of ours or as a reply to an event of ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_thread: bool,
    /// The room was encrypted, and the event came with this much proof of its sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
    /// The only alert that the event is about to which it replies, by its fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// The alertname by which a command in a digest's thread names its incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alertname: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// The rest of the command: a reason, or what could not be read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// For [`ActKind::Undo`]: the event that was redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<String>,
    /// Known before it is carried out that it must be refused, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// The thread, or for a command in the room the event, in which it is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// A ULID.
    pub id: String,
    /// The event that asked.
    pub event_id: String,
    /// Session and index of the encrypted event.
    pub megolm: Option<String>,
    pub route: RouteName,
    pub room: RoomAddress,
    pub sender: String,
    /// The sender's display name when it was carried out; empty until then.
    pub name: String,
    pub kind: ActKind,
    pub incident: Option<IncidentId>,
    pub card: Option<CardId>,
    pub args: ActArgs,
    pub state: ActState,
    pub asked_at: Timestamp,
    pub attempts: u32,
}

/// How many of those who took an incident are read for a message; of the others only that there may be more is known.
pub const MAX_TAKEN: usize = 5;

/// Who takes care of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// `@local:server`.
    pub user: String,
    /// The display name; untrusted.
    pub name: String,
    pub at: Timestamp,
    /// What they said with it; untrusted.
    pub text: String,
}

/// How far the sender of an event is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Not encrypted: the homeserver says who sent it.
    Plain,
    /// Encrypted by a device that its owner has signed.
    Signed,
    /// Encrypted by a device that its owner has not signed, or an unknown one.
    Unsigned,
    /// The device or identity does not belong to the sender, or the identity has changed.
    Violated,
}
