//! The end of a lane whose room no route names any more: its cards get their last edit, and ops in doubt are settled
//! first. Both are bounded, since the room may not accept anything any more.

use std::time::Duration;

use tokio::time::Instant;

use super::context::RoomContext;
use crate::{
    health::{Health, State},
    model::Reason,
    store::StoreError,
};

/// A room that accepts nothing for this long is given up.
const PATIENCE: Duration = Duration::from_mins(10);
/// So is one that refuses this often in a row: the account was removed from it, or may not write there.
const REFUSALS: u32 = 2;

#[derive(Debug)]
pub(super) struct Drain {
    /// When the room last accepted something, or the lane began to drain.
    pub(super) since: Instant,
    pub(super) patience: Duration,
    /// How often in a row the room itself refused.
    pub(super) refusals: u32,
}

impl Default for Drain {
    fn default() -> Self {
        Self { since: Instant::now(), patience: PATIENCE, refusals: 0 }
    }
}

impl Drain {
    /// How long the room still has.
    pub fn left(&self) -> Duration {
        self.patience.saturating_sub(self.since.elapsed())
    }

    /// The room accepted something, so that the rest may succeed as well.
    pub fn record_delivery(&mut self) {
        *self = Self { patience: self.patience, ..Self::default() };
    }

    /// A refusal counts against the room; a fault of the account or the homeserver does not.
    pub fn record_failure(&mut self, reason: Reason) {
        if reason == Reason::RoomRefused {
            self.refusals = self.refusals.saturating_add(1);
        }
    }

    /// Whether the lane must end although its room is not up to date. An outage of the homeserver or the account is
    /// waited out: the room may accept its edits afterwards, and waiting costs nothing.
    pub fn must_end(&mut self, health: &Health) -> bool {
        if self.left().is_zero() && health.update(|health| is_account_held(health)) {
            self.since = Instant::now();
        }
        self.left().is_zero() || self.is_refused()
    }

    fn is_refused(&self) -> bool {
        self.refusals >= REFUSALS
    }

    /// Leaves the room's cards as they are.
    pub async fn give_up(&self, context: &RoomContext) {
        let why = if self.is_refused() { "the room refuses events" } else { "nothing could be sent in time" };
        match context.store.give_up_room(&context.room, &format!("no longer routed, and {why}")).await {
            Ok(0) | Err(StoreError::NotLeader) => {}
            Ok(cards) => {
                let address = &context.room;
                tracing::warn!(%address, cards, reason = why, "could not close cards in an unrouted room");
            }
            Err(error) => {
                tracing::warn!(address = %context.room, %error, "closing an unrouted room failed; retried at start");
            }
        }
    }
}

fn is_account_held(health: &State) -> bool {
    health.homeserver_fault.is_some()
        || health.shared_fault.is_some()
        || health.account_hold.is_some()
        || !health.connected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected() -> Health {
        let health = Health::default();
        health.update(|health| health.connected = true);
        health
    }

    #[test]
    fn only_refusals_of_the_room_itself_end_a_drain() {
        let (mut drain, health) = (Drain::default(), connected());
        for reason in [Reason::KeysNotReady, Reason::ServerError, Reason::BadEvent, Reason::RoomRefused] {
            drain.record_failure(reason);
            assert!(!drain.must_end(&health), "{reason:?}");
        }
        drain.record_failure(Reason::RoomRefused);
        assert!(drain.must_end(&health));
        drain.record_delivery();
        assert!(!drain.must_end(&health), "in a row only");
    }

    #[test]
    fn an_outage_starts_the_patience_again() {
        let health = connected();
        let mut drain = Drain { patience: Duration::ZERO, ..Drain::default() };
        assert!(drain.must_end(&health));
        let began = Instant::now();
        let mut drain = Drain { patience: Duration::from_hours(1), ..Drain::default() };
        drain.since = began.checked_sub(Duration::from_hours(2)).unwrap_or(began);
        health.update(|health| health.homeserver_fault = Some("down".to_owned()));
        assert!(!drain.must_end(&health) && drain.since >= began);
    }
}
