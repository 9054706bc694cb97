//! An op is a room event that has been frozen: content and transaction id are in the store before the first send.

use super::{
    form::Form,
    ids::{CardId, IncidentId, NotificationId, RoomAddress, TxnId},
    time::Timestamp,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpKind {
    /// A card's first event.
    Card,
    /// A newer state of a card.
    Edit,
    /// A note in a card's thread.
    Reply,
    /// A separate message that says what happened and how things are now, in place of a reply and an edit.
    Post,
    /// One message that names many cards that turn green together.
    Notice,
}

impl OpKind {
    pub const ALL: [Self; 5] = [Self::Card, Self::Edit, Self::Reply, Self::Post, Self::Notice];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Edit => "edit",
            Self::Reply => "reply",
            Self::Post => "post",
            Self::Notice => "notice",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == word)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpState {
    /// Frozen; it may or may not have been sent.
    InFlight,
    /// Sent, and no usable answer came: it may or may not have arrived.
    InDoubt,
    /// Set aside so that others can go on.
    Parked,
    /// Acknowledged; `event_id` is set.
    Done,
    /// Refused for good; a plainer form may have taken its place.
    Refused,
    /// Refused in its plainest form: a dead letter.
    Dead,
}

impl OpState {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::InDoubt => "in_doubt",
            Self::Parked => "parked",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Dead => "dead",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::InFlight, Self::InDoubt, Self::Parked, Self::Done, Self::Refused, Self::Dead]
            .into_iter()
            .find(|s| s.as_str() == word)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    pub txn_id: TxnId,
    pub card: CardId,
    pub room: RoomAddress,
    pub kind: OpKind,
    /// The `m.room.message` content as JSON text, byte for byte what every try sends.
    pub content: String,
    /// The newest incident revision it shows.
    pub rev: i64,
    /// It is the last edit of its card, which then stays as it is.
    pub last_edit: bool,
    /// How much of the card it shows.
    pub form: Form,
    /// Whether it makes phones ring or speaks at all in the thread, as opposed to an edit.
    pub speaks: bool,
    /// The oldest accepted change that it shows; where `delivery_seconds` counts from.
    pub since: Timestamp,
    /// For the log: one notification and one incident that it speaks of.
    pub notification: NotificationId,
    pub incident: IncidentId,
    /// The device that made the first try.
    pub device: Option<String>,
    pub state: OpState,
    pub first_try: Option<Timestamp>,
    pub attempts: u32,
    /// Its place among all that was frozen; 0 for one of a version that did not count. Clocks jump, this does not.
    pub frozen_seq: i64,
    /// Another event got through between two of its failures: the homeserver takes events, and not this one.
    pub alone: bool,
}
