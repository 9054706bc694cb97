//! What can be shown beside a card.

use std::time::Duration;

use super::{
    ids::{CardId, IncidentId, RoomAddress, RouteName},
    time::Timestamp,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvidenceKind {
    Logs,
    Graph,
}

impl EvidenceKind {
    pub const ALL: [Self; 2] = [Self::Logs, Self::Graph];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Graph => "graph",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A card of one incident whose first event the homeserver has just acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownCard {
    pub card: CardId,
    pub room: RoomAddress,
    pub incident: IncidentId,
    pub route: RouteName,
    /// The card's first event.
    pub root: String,
    /// The oldest accepted change that it shows.
    pub since: Timestamp,
}

impl ShownCard {
    /// What nobody asked for is not shown later than this after the notification that made its card.
    pub const TOO_LATE: Duration = Duration::from_mins(2);

    /// When it is too late for evidence.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.since.plus(Self::TOO_LATE)
    }
}
