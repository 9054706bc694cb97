//! The one trait: how a frozen event leaves the house. `matrix/` is the real one; tests script a second.

use std::{future::Future, pin::Pin, time::Duration};

use crate::model::{IncidentId, RoomAddress, SendError, TxnId};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Sends frozen events and finds them again. Implementations never retry by themselves: deciding is the lane's business.
pub trait Transport: Send + Sync + 'static {
    /// Sends `content` (the JSON text of an `m.room.message` content) under `txn_id` and returns the event id.
    ///
    /// # Errors
    /// A [`SendError`] that says how far the fault reaches and whether the event may have arrived all the same.
    fn send<'a>(
        &'a self,
        room: &'a RoomAddress,
        txn_id: &'a TxnId,
        content: &'a str,
    ) -> BoxFuture<'a, Result<String, SendError>>;

    /// The account's own events in `room`, the newest first, back to where `search` ends.
    ///
    /// # Errors
    /// When nothing can be read for now. A room that can never be read is no error but an incomplete [`ReadBack`].
    fn read_back<'a>(&'a self, room: &'a RoomAddress, search: Search<'a>)
    -> BoxFuture<'a, Result<ReadBack, SendError>>;

    /// Whether an event of ours still is in `room`, and says something.
    ///
    /// # Errors
    /// When that cannot be asked for now.
    fn event_presence<'a>(
        &'a self,
        room: &'a RoomAddress,
        event: &'a str,
    ) -> BoxFuture<'a, Result<EventPresence, SendError>>;

    /// What has become known of `room` since this was asked last.
    fn news(&self, room: &RoomAddress) -> RoomChanges;

    /// Ends once the account has got into `room` after it could not: what is held for the room need not wait longer.
    fn entered<'a>(&'a self, _room: &'a RoomAddress) -> BoxFuture<'a, ()> {
        Box::pin(std::future::pending())
    }

    /// Whether the homeserver is known to answer a transaction id with the event that it made, for a day and across its
    /// restarts. Others are asked for the event before it is sent again.
    fn remembers_transactions(&self) -> bool;

    /// The device that sends now or sent last, once it is known. Transaction ids are remembered per device.
    fn device(&self) -> Option<String>;

    /// The device that the next send goes out from, which may be another one after a restart.
    ///
    /// # Errors
    /// When nothing can be sent for now.
    fn connected(&self) -> BoxFuture<'_, Result<String, SendError>>;
}

/// How an event of ours is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventPresence {
    Present,
    /// Redacted, or not in the room that the address stands for now.
    Missing,
    /// The room does not tell.
    Unknown,
}

/// What the account was told of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomChanges {
    /// Events that were redacted, whoever sent them.
    pub redacted: Vec<String>,
    /// Something may have gone unseen: part of the timeline was left out, or the address stands for another room.
    pub gap: bool,
}

/// Where reading a room back may end. Whichever comes first ends it.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// The event of this op, if it is one that is looked for.
    pub wanted: Option<&'a TxnId>,
    /// An event that is older than all that is looked for.
    pub after: Option<&'a str>,
    /// An event that is this old by the homeserver's word. Its clock and ours need not agree on the time of day.
    pub older_than: Duration,
}

/// What was found in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadBack {
    pub events: Vec<OwnEvent>,
    /// Whether reading got to where the search ends, as opposed to a bound or to a room that cannot be read.
    pub complete: bool,
}

/// An event that the receiver sent, or that its account sent and nobody can read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnEvent {
    pub event_id: String,
    /// Whose it is; `None` where that cannot be read: not decrypted, or redacted.
    pub op: Option<TxnId>,
    pub incident: Option<IncidentId>,
    /// Whether it begins a card, as opposed to an edit or a reply.
    pub starts_card: bool,
}
