//! The end of a lane whose room no route names any more: its cards get their last edit, and what is in doubt is found out
//! first. Bounded, since the room may be one that does not take anything any more.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Lane, Turn};
use crate::{health::State, model::Reason};

/// A room that takes nothing for this long is given up.
const PATIENCE: Duration = Duration::from_mins(10);
/// One that refuses its last edits so often in a row: the account was shown out, or may not write.
const REFUSALS: u32 = 2;

/// A lane that ends when there is nothing left to tell.
#[derive(Debug)]
pub(super) struct Drain {
    /// The room took something, or the lane began to end.
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
    fn left(&self) -> Duration {
        self.patience.saturating_sub(self.since.elapsed())
    }
}

impl Lane {
    /// Takes the config in force for the next turn, and whether the room is still one of it.
    pub(super) fn renew(&mut self) {
        self.settings = self.context.settings.borrow_and_update().clone();
        self.name = self.settings.name_of(&self.room);
        self.digest_above = self.settings.digest_above(&self.room);
        match (self.settings.serves(&self.room), &self.drain) {
            (true, Some(_)) => self.drain = None,
            (false, None) => self.drain = Some(Drain::default()),
            _ => {}
        }
    }

    /// The room took something: there is hope for the rest.
    pub(super) fn note_delivery(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.since = Instant::now();
            drain.refusals = 0;
        }
    }

    /// A turn that the end of all patience cuts short: what it was at is in the store, as after a kill.
    pub(super) async fn bounded_turn(&mut self) -> Turn {
        let Some(left) = self.drain.as_ref().map(Drain::left) else { return self.safe_turn().await };
        timeout(left, self.safe_turn()).await.unwrap_or(Turn::Again)
    }

    /// No longer than there is patience for.
    pub(super) fn bounded(&self, turn: Turn) -> Turn {
        let Some(left) = self.drain.as_ref().map(Drain::left) else { return turn };
        match turn {
            Turn::Again => Turn::Again,
            Turn::Idle => Turn::Wait(left),
            Turn::Wait(wait) => Turn::Wait(wait.min(left)),
            Turn::Held(wait) => Turn::Held(wait.min(left)),
        }
    }

    /// What holds the room alone, its refusals above all, says something of the room; what holds the account does not.
    pub(super) fn note_refusal(&mut self, reason: Reason) {
        if let (Some(drain), Reason::RoomRefused) = (&mut self.drain, reason) {
            drain.refusals = drain.refusals.saturating_add(1);
        }
    }

    /// Whether the lane is to end without having told the room everything. An outage of the homeserver, or of the account,
    /// is waited out: the room may well take its edits then, and waiting costs nothing.
    pub(super) fn must_end(&mut self) -> bool {
        let Some(drain) = &mut self.drain else { return false };
        if drain.left().is_zero() && self.context.health.update(|health| is_account_held(health)) {
            drain.since = Instant::now();
        }
        drain.left().is_zero() || self.is_refused()
    }

    fn is_refused(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.refusals >= REFUSALS)
    }

    pub(super) async fn give_up(&self) {
        let why = if self.is_refused() { "the room refuses events" } else { "nothing could be sent in time" };
        match self.context.store.give_up_room(&self.room, &format!("no longer routed, and {why}")).await {
            Ok(0) => {}
            Ok(cards) => tracing::warn!(
                address = %self.room, cards, reason = why,
                "cards in a room that no route names any more could not be closed; they stay as they are"
            ),
            Err(error) => tracing::warn!(
                address = %self.room, %error,
                "cards in a room that no route names any more could not be closed; tried again at the next start"
            ),
        }
    }
}

fn is_account_held(health: &State) -> bool {
    health.homeserver_fault.is_some() || health.account_hold.is_some() || !health.connected
}
