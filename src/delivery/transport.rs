//! The one trait: how a frozen event leaves the house. `matrix/` is the real one; tests script a second.

use std::{future::Future, pin::Pin, time::Duration};

use crate::model::{IncidentId, RoomAddress, TxnId};

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
    fn look_at<'a>(&'a self, room: &'a RoomAddress, event: &'a str) -> BoxFuture<'a, Result<Sight, SendError>>;

    /// What has become known of `room` since this was asked last.
    fn news(&self, room: &RoomAddress) -> RoomNews;

    /// Ends once the account has got into `room` after it could not: what is held for the room need not wait longer.
    fn entered<'a>(&'a self, _room: &'a RoomAddress) -> BoxFuture<'a, ()> {
        Box::pin(std::future::pending())
    }

    /// Whether the homeserver is known to answer a transaction id with the event that it made, for a day and across its
    /// restarts. Others are asked for the event before it is sent again.
    fn remembers(&self) -> bool;

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
pub enum Sight {
    There,
    /// Redacted, or not in the room that the address stands for now.
    Gone,
    /// The room does not tell.
    Unknown,
}

/// What the account was told of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomNews {
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
    pub begins: bool,
}

/// How far a fault reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// This event only.
    Event,
    /// Every event to this room.
    Room,
    /// Everything this account sends.
    Account,
    /// Everything on this homeserver.
    Server,
}

/// Why a send failed: a closed set, fit for a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// 429.
    RateLimited,
    /// No connection could be made.
    Unreachable,
    /// No answer within the timeout, or the connection broke before the answer.
    NoAnswer,
    /// 5xx, or a resource limit of the homeserver.
    ServerError,
    /// A success without a readable event id.
    Unreadable,
    /// No session yet: the receiver has not logged in since it started.
    NotReady,
    /// The access token is not (or no longer) good.
    TokenRejected,
    /// The account is locked, suspended, deactivated or must consent to something first.
    AccountRefused,
    /// Not in the room, not allowed to send there, or no such room.
    RoomRefused,
    /// The homeserver limits how often rooms are entered, and this one is not yet.
    JoinLimited,
    /// The room is encrypted and its keys cannot be had.
    KeysNotReady,
    /// 413.
    TooLarge,
    /// Any other 4xx: the homeserver does not take this content.
    BadEvent,
}

impl Reason {
    pub const ALL: [Self; 13] = [
        Self::RateLimited,
        Self::Unreachable,
        Self::NoAnswer,
        Self::ServerError,
        Self::Unreadable,
        Self::NotReady,
        Self::TokenRejected,
        Self::AccountRefused,
        Self::RoomRefused,
        Self::JoinLimited,
        Self::KeysNotReady,
        Self::TooLarge,
        Self::BadEvent,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Unreachable => "unreachable",
            Self::NoAnswer => "no_answer",
            Self::ServerError => "server_error",
            Self::Unreadable => "unreadable",
            Self::NotReady => "not_ready",
            Self::TokenRejected => "token_rejected",
            Self::AccountRefused => "account_refused",
            Self::RoomRefused => "room_refused",
            Self::JoinLimited => "join_limited",
            Self::KeysNotReady => "keys_not_ready",
            Self::TooLarge => "too_large",
            Self::BadEvent => "bad_event",
        }
    }

    /// How far a fault with this reason reaches.
    #[must_use]
    pub fn scope(self) -> Scope {
        match self {
            Self::TooLarge | Self::BadEvent => Scope::Event,
            Self::RoomRefused | Self::JoinLimited | Self::KeysNotReady => Scope::Room,
            Self::RateLimited | Self::NotReady | Self::TokenRejected | Self::AccountRefused => Scope::Account,
            Self::Unreachable | Self::NoAnswer | Self::ServerError | Self::Unreadable => Scope::Server,
        }
    }

    /// Whether the event may have arrived although the send failed.
    #[must_use]
    pub fn in_doubt(self) -> bool {
        matches!(self, Self::NoAnswer | Self::ServerError | Self::Unreadable)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.as_str())]
pub struct SendError {
    pub reason: Reason,
    /// How long the homeserver asked us to wait, if it did.
    pub retry_after: Option<Duration>,
    /// In words for the operator, without secrets: the errcode and the homeserver's own text where there is one.
    pub detail: String,
}
