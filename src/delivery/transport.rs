//! The one trait: sends frozen events and finds them again. `matrix/` implements it; the tests script a second one.

use std::{future::Future, pin::Pin, time::Duration};

use tokio::time::Instant;

use crate::{
    model::{IncidentId, Op, RoomAddress, SendError, TxnId},
    store::Answer,
};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Implementations never retry on their own: the lane decides.
pub trait Transport: Send + Sync + 'static {
    /// Sends an event under its transaction id and returns the event id.
    ///
    /// # Errors
    /// A [`SendError`] that says how far the fault reaches and whether the event may have arrived all the same.
    fn send<'a>(&'a self, room: &'a RoomAddress, event: FrozenEvent<'a>) -> BoxFuture<'a, Result<String, SendError>>;

    /// Returns the account's own events in `room`, the newest first, back to where `search` ends.
    ///
    /// # Errors
    /// When nothing can be read for now. For a room that can never be read it returns an incomplete [`ReadBack`].
    fn read_back<'a>(&'a self, room: &'a RoomAddress, search: Search<'a>)
    -> BoxFuture<'a, Result<ReadBack, SendError>>;

    /// Whether an event of the account is still in `room` and has content.
    ///
    /// # Errors
    /// When the homeserver cannot be asked for now.
    fn event_presence<'a>(
        &'a self,
        room: &'a RoomAddress,
        event: &'a str,
    ) -> BoxFuture<'a, Result<EventPresence, SendError>>;

    /// Takes what the account has seen in `room` since the last call.
    fn take_room_changes(&self, room: &RoomAddress) -> RoomChanges;

    /// Whether there is anything for [`Transport::take_room_changes`] to take.
    fn has_room_changes(&self, room: &RoomAddress) -> bool;

    /// Ends once the account has joined `room` after it could not: the lane need not hold the room any longer.
    fn joined<'a>(&'a self, _room: &'a RoomAddress) -> BoxFuture<'a, ()> {
        Box::pin(std::future::pending())
    }

    /// Whether the homeserver is known to answer a transaction id with the event that it made, for a day and across its
    /// restarts. With any other homeserver, the lane searches the room before it sends an event again.
    fn remembers_transactions(&self) -> bool;

    /// The device that sends to `room` now or sent there last, once it is known. Homeservers remember transaction ids per
    /// device. With replicas, plain rooms have the device that all of them share, and encrypted ones this replica's own.
    fn device(&self, room: &RoomAddress) -> Option<String>;

    /// Finds out which device sends to `room`, if that is not known: what is frozen without it is searched for by a
    /// successor, in place of being sent again. A failure is that of the send that follows.
    fn prepare<'a>(&'a self, _room: &'a RoomAddress) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Asks whether the room is encrypted if the next send would ask, unless the homeserver was asked since `enough`. It
    /// takes longer than to freeze an event, so it is done beside that, beside the commit of what is new, or while the
    /// event before is on its way. A failure is that of the send that follows.
    fn ask_ahead<'a>(&'a self, _room: &'a RoomAddress, _enough: Option<Instant>) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Returns the device that makes the next send to `room`; a restart, another replica, or encryption may have changed
    /// it.
    ///
    /// # Errors
    /// When nothing can be sent there for now. Nothing was sent, so no event is in doubt by this.
    fn connected<'a>(&'a self, room: &'a RoomAddress) -> BoxFuture<'a, Result<String, SendError>>;
}

/// For so long after the question an answer that a room is not encrypted counts.
pub const PLAIN_FOR: Duration = Duration::from_millis(250);

/// An event whose content and transaction id are in the store.
#[derive(Clone, Copy, Debug)]
pub struct FrozenEvent<'a> {
    /// [`MESSAGE`] or `m.reaction`.
    pub event_type: &'a str,
    pub txn_id: &'a TxnId,
    /// The content as JSON text.
    pub content: &'a str,
    /// Whether the room is encrypted need not be asked if the homeserver was asked since then, and within [`PLAIN_FOR`].
    /// `None`: it is asked.
    pub asked_since: Option<Instant>,
}

impl<'a> FrozenEvent<'a> {
    #[must_use]
    pub fn of(op: &'a Op) -> Self {
        Self { event_type: MESSAGE, txn_id: &op.txn_id, content: &op.content, asked_since: None }
    }

    #[must_use]
    pub fn of_answer(answer: &'a Answer) -> Self {
        let Answer { event_type, txn_id, content, .. } = answer;
        Self { event_type, txn_id, content, asked_since: None }
    }
}

/// The type of all events but reactions.
pub const MESSAGE: &str = "m.room.message";

/// Whether an event of the account is in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventPresence {
    Present,
    /// Redacted, or not in the room that the address stands for now.
    Missing,
    /// The homeserver does not say.
    Unknown,
}

/// What the account has seen in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomChanges {
    /// Events that were redacted, whoever sent them.
    pub redacted: Vec<String>,
    /// More may have happened: part of the timeline was left out, or the address stands for another room.
    pub gap: bool,
}

/// Where reading a room back ends, whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// At the event of this op, if one op is searched for.
    pub wanted: Option<&'a TxnId>,
    /// At this event, which is older than all that is searched for.
    pub after: Option<&'a str>,
    /// At an event this old by the homeserver's clock, which need not agree with the local one on the time of day.
    pub older_than: Duration,
}

/// What was found in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadBack {
    pub events: Vec<OwnEvent>,
    /// Whether reading reached the end of the search, as opposed to a bound or a room that cannot be read.
    pub complete: bool,
}

/// An event that the receiver sent, or one of its account that cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnEvent {
    pub event_id: String,
    /// The op it belongs to; `None` where the event cannot be read: not decrypted, or redacted.
    pub op: Option<TxnId>,
    pub incident: Option<IncidentId>,
    /// Whether it is a card's first event, as opposed to an edit or a reply.
    pub starts_card: bool,
}
