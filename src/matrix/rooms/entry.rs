//! What is known of one address, and when to try again to enter its room.

use std::time::Duration;

use matrix_sdk::ruma::{OwnedRoomId, RoomId};
use tokio::time::Instant;

use crate::model::{Reason, ResolvedRoom, RoomAddress, SendError};

/// The shortest pause between attempts to join a room.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(30);
const MAX_PAUSE: Duration = Duration::from_mins(5);
/// The pause after a rate limit of joins that states none, and the shortest one.
const LIMITED_PAUSE: Duration = Duration::from_secs(5);
const MIN_LIMITED_PAUSE: Duration = Duration::from_millis(500);

/// What is known of one address.
pub(crate) struct RoomEntry {
    /// Set once the account has been in the room: until then nothing was sent anywhere.
    pub resolved: Option<ResolvedRoom>,
    /// The same, as the store has it.
    pub stored: Option<ResolvedRoom>,
    /// The room that was logged as entered.
    pub logged: Option<OwnedRoomId>,
    /// Whether the alias was resolved since the start, or since the room refused something.
    pub alias_resolved: bool,
    /// When that was last tried.
    pub alias_tried: Option<Instant>,
    /// Whether a request of ours has joined the room, which no sync confirms for a session without keys.
    pub joined: bool,
    /// Whether the homeserver says that the account is not in the room, in spite of the last sync.
    pub lost: bool,
    /// A room that the account cannot enter yet: what an alias or an upgrade leads to.
    pub target: Option<OwnedRoomId>,
    /// A successor that does not name this room as its predecessor.
    pub rejected_successor: Option<OwnedRoomId>,
    /// The last attempt to join, if it failed.
    pub failed: Option<FailedJoin>,
}

impl RoomEntry {
    pub fn new(address: &RoomAddress, known: Option<ResolvedRoom>, stored: Option<ResolvedRoom>) -> Self {
        let given = (!address.is_alias()).then(|| ResolvedRoom::new(address.as_str()));
        Self {
            resolved: known.or(given),
            stored,
            logged: None,
            alias_resolved: !address.is_alias(),
            alias_tried: None,
            joined: false,
            lost: false,
            target: None,
            rejected_successor: None,
            failed: None,
        }
    }

    pub fn concerns(&self, id: &RoomId) -> bool {
        let leads_to = |resolved: &ResolvedRoom| resolved.first == id.as_str() || resolved.current() == id.as_str();
        self.resolved.as_ref().is_some_and(leads_to) || self.target.as_deref() == Some(id)
    }

    /// Whether nobody knows yet which room this is.
    pub fn is_unresolved(&self) -> bool {
        self.resolved.is_none() && self.target.is_none()
    }

    /// Records that the homeserver refused a send to a room that the account seemed to be in.
    pub fn mark_refused(&mut self, address: &RoomAddress) {
        self.joined = false;
        // The next attempt asks whether the account is still in the room.
        self.lost = true;
        // An alias may lead to another room by now.
        if address.is_alias() {
            self.alias_resolved = false;
            self.alias_tried = None;
        }
    }
}

/// Who needs a room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// The account, on its own schedule.
    Round,
    /// A send that waits for it.
    Send,
}

/// A failed attempt to join, and when to try again.
pub(crate) struct FailedJoin {
    at: Instant,
    /// The account tries again by itself after this.
    pub pause: Duration,
    /// Whether something happened since, such as an invitation, that makes an attempt worthwhile at once.
    pub retry_now: bool,
    pub error: SendError,
}

impl FailedJoin {
    fn new(error: &SendError, pause: Duration) -> Self {
        Self { at: Instant::now(), pause, retry_now: false, error: error.clone() }
    }

    /// After one more failure: a room that refuses is tried ever less often, and a changed error is logged.
    pub fn after(before: Option<Self>, error: &SendError, address: &RoomAddress) -> Self {
        if error.reason == Reason::JoinLimited {
            if before.is_none_or(|before| before.error.reason != error.reason) {
                tracing::info!(room = %address, error = error.detail, "join is rate-limited; will retry");
            }
            return Self::new(error, error.retry_after.unwrap_or(LIMITED_PAUSE).max(MIN_LIMITED_PAUSE));
        }
        if error.reason != Reason::RoomRefused {
            // About the account or the homeserver, which is reported elsewhere.
            return Self::new(error, FIRST_PAUSE);
        }
        if before.as_ref().is_none_or(|before| before.error.detail != error.detail) {
            let reason = error.reason.as_str();
            tracing::warn!(room = %address, reason, error = error.detail, "cannot join the room");
        }
        let grown = before.map_or(FIRST_PAUSE, |before| (before.pause * 2).min(MAX_PAUSE));
        Self::new(error, error.retry_after.map_or(grown, |asked| asked.max(FIRST_PAUSE)))
    }

    /// Whether it is too early for another attempt. A send is held back only by the room's own refusal: otherwise it would
    /// report a failure of the homeserver that may be over.
    pub fn holds(&self, trigger: Trigger, now: Instant) -> bool {
        let pause = match trigger {
            Trigger::Round => self.pause,
            Trigger::Send if self.error.reason == Reason::RoomRefused => FIRST_PAUSE,
            Trigger::Send if self.error.reason == Reason::JoinLimited => self.pause,
            Trigger::Send => Duration::ZERO,
        };
        !self.retry_now && now.duration_since(self.at) < pause
    }

    /// Whether the failure is the room's, as opposed to the account's or the homeserver's.
    pub fn is_rooms_own(&self) -> bool {
        matches!(self.error.reason, Reason::RoomRefused | Reason::JoinLimited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::api::errors::send_error;

    #[test]
    fn what_holds_back_whom() {
        let address = RoomAddress::parse("!a:x").unwrap();
        let refused = send_error(Reason::RoomRefused, "not joined");
        let held = |failed: &FailedJoin, after: Duration| {
            let now = failed.at + after;
            (failed.holds(Trigger::Round, now), failed.holds(Trigger::Send, now))
        };
        let first = FailedJoin::after(None, &refused, &address);
        assert_eq!(held(&first, Duration::ZERO), (true, true));
        assert_eq!(held(&first, FIRST_PAUSE), (false, false));
        let mut second = FailedJoin::after(Some(first), &refused, &address);
        assert_eq!(held(&second, FIRST_PAUSE), (true, false));
        assert_eq!(held(&second, FIRST_PAUSE * 2), (false, false));
        second.retry_now = true;
        assert_eq!(held(&second, Duration::ZERO), (false, false));

        let limited = SendError { retry_after: Some(MIN_LIMITED_PAUSE), ..send_error(Reason::JoinLimited, "too many") };
        let limited = FailedJoin::after(None, &limited, &address);
        assert_eq!(held(&limited, Duration::ZERO), (true, true));
        assert_eq!(held(&limited, MIN_LIMITED_PAUSE), (false, false), "as long as was asked");

        let down = FailedJoin::after(Some(second), &send_error(Reason::Unreachable, "down"), &address);
        assert_eq!(held(&down, Duration::ZERO), (true, false));
    }
}
