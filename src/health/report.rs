//! How the receiver is: the status of each part and why, and what that is judged from. Plain data.

use super::State;
use crate::model::{NoKeys, RoomAddress, RoomName, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    Ok,
    /// Delivery is held or late.
    Degraded,
    /// Webhooks cannot be committed.
    Failing,
}

impl Status {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        }
    }
}

/// Whether the report may name rooms, users and events as Matrix does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixIds {
    Blanked,
    Shown,
}

/// What the store says of the rooms that the config names.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// Cards whose room is behind.
    pub waiting: i64,
    pub waiting_by_room: Vec<(String, i64)>,
    /// The oldest accepted change that a room does not show.
    pub oldest: Option<Timestamp>,
    /// Parked events, if there are any.
    pub parked: Option<i64>,
    pub last_dead: Option<Timestamp>,
}

/// What the report is made of.
#[derive(Clone, Debug)]
pub struct Input {
    pub state: State,
    /// `None`: the store does not answer reads in time.
    pub numbers: Option<Numbers>,
    /// By the receiver's own time.
    pub now: Timestamp,
    pub wall: Timestamp,
    /// The rooms of each route, in the order of the config.
    pub routes: Vec<(String, Vec<RoomAddress>)>,
    pub ids: MatrixIds,
}

/// A fact that stands beside a part's reason. Times are those of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    Waiting(i64),
    Keys(NoKeys),
    Since(Option<Timestamp>),
    Until(Option<Timestamp>),
    /// The last success.
    Last(Option<Timestamp>),
    /// The end of the certificate.
    NotAfter(Timestamp),
}

/// One part of the receiver, or one room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub status: Status,
    /// Empty for a room that is not held.
    pub reason: String,
    pub facts: Vec<Fact>,
    /// What the operator should know besides.
    pub notice: Option<String>,
}

impl Part {
    pub(super) fn new(status: Status, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), facts: Vec::new(), notice: None }
    }

    pub(super) fn ok(reason: impl Into<String>) -> Self {
        Self::new(Status::Ok, reason)
    }

    pub(super) fn degraded(reason: impl Into<String>) -> Self {
        Self::new(Status::Degraded, reason)
    }

    pub(super) fn with(mut self, facts: impl IntoIterator<Item = Fact>) -> Self {
        self.facts.extend(facts);
        self
    }
}

/// A room of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomPart {
    pub address: RoomAddress,
    pub name: RoomName,
    pub part: Part,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePart {
    pub name: String,
    pub status: Status,
    pub rooms: Vec<RoomPart>,
}

#[derive(Clone, Debug)]
pub struct Report {
    pub status: Status,
    /// Why webhooks cannot be committed.
    pub failing: Option<String>,
    pub store: Part,
    /// What rooms do not show yet, whether or not webhooks are accepted.
    pub backlog: Part,
    pub homeserver: Part,
    pub sync: Part,
    pub encryption: Part,
    pub config: Part,
    /// `None`: no other replica shares the store.
    pub replica: Option<Part>,
    /// `None`: webhooks come by plain HTTP.
    pub certificate: Option<Part>,
    /// `None`: no route has one.
    pub alertmanager: Option<Part>,
    /// `None`: no route has one.
    pub heartbeats: Option<Part>,
    pub routes: Vec<RoutePart>,
    /// Why delivery should page somebody.
    pub undelivered: Vec<String>,
    pub has_recent_dead_letter: bool,
    /// The state that was judged, without holds that are over.
    pub state: State,
}
