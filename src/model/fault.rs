//! Why a send failed, and how far the fault reaches.

use std::time::Duration;

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
