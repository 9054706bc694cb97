//! What a person wants to see at a glance: open incidents, what waits, dead letters. Each list is bounded.

use crate::{
    model::{AlertState, CardKind, Incident, KnownSilence, RoomAddress, Timestamp},
    store::DeadLetter,
};

#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// When the newest notification was accepted, also one that changed nothing.
    pub last_accepted: Option<Timestamp>,
    /// The most severe open ones.
    pub incidents: Vec<OpenIncident>,
    /// The cards that wait longest.
    pub waiting: Vec<WaitingCard>,
    /// The newest.
    pub dead_letters: Vec<DeadLetter>,
    pub dead_letters_in_all: i64,
}

#[derive(Clone, Debug)]
pub struct OpenIncident {
    pub seen: SeenIncident,
    pub cards: Vec<PlacedCard>,
}

/// An incident of which not all is read.
#[derive(Clone, Debug)]
pub struct SeenIncident {
    /// With a few of its alerts only.
    pub incident: Incident,
    /// How many alerts are in each state, as far as they were counted.
    pub counts: Vec<(AlertState, i64)>,
    /// More than a thousand: the rest was not counted.
    pub has_more: bool,
    /// The silence that holds back all of its alerts that are not over.
    pub silence: Option<KnownSilence>,
}

/// A card as far as it is to be found in its room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedCard {
    pub room: RoomAddress,
    pub kind: CardKind,
    /// `None`: not in the room yet.
    pub event: Option<String>,
}

#[derive(Clone, Debug)]
pub struct WaitingCard {
    pub room: RoomAddress,
    pub since: Timestamp,
    /// The most severe of its incidents.
    pub leads: SeenIncident,
    /// How many it shows beside that one.
    pub others: i64,
}
