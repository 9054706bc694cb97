//! Reads what is due and lets the plan choose.

use std::time::Duration;

use super::{arrivals::Arrivals, context::RoomContext, recent_sends::RecentSends};
use crate::{
    delivery::{
        gate::Permit,
        plan::{self, Conditions, Step},
        queue::Priority,
    },
    store::StoreError,
};

/// What a plan depends on besides the store.
pub(super) struct Planning<'a> {
    pub context: &'a RoomContext,
    pub arrivals: &'a mut Arrivals,
    pub recent_sends: &'a RecentSends,
    /// One that was issued at the end of a rate limit.
    pub permit: Option<&'a Permit>,
    pub since_card: Duration,
}

impl Planning<'_> {
    /// The next step, and the priority of all that is due. `takes_answers`: whether an answer may be next, which nobody may
    /// have asked for.
    pub async fn next(self, takes_answers: impl Fn(bool) -> bool) -> Result<(Step, Priority), StoreError> {
        let RoomContext { room, store, settings, clock, gate, .. } = self.context;
        let mut due = store.due(room).await?;
        if !takes_answers(due.unasked) {
            due.answer = None;
        }
        let digest_above = settings.digest_above(room);
        let merges = digest_above > 0 && !due.notes.is_empty();
        let now = clock.now();
        let conditions = Conditions {
            now,
            digest_above,
            limited: self.permit.is_some(),
            edits_turn: self.permit.is_some_and(|permit| permit.edits_turn),
            pace: self.arrivals.pace(&due.new, now, self.since_card),
            ample: gate.is_ample(),
            // `digest_above` may be larger than the list.
            new_beyond: if digest_above > 0 { store.new_beyond(room, &due.new, digest_above).await? } else { 0 },
            live: if merges { store.live_cards(room, digest_above).await? } else { 0 },
        };
        let step = plan::next(&due, &conditions, |card| self.recent_sends.since_edit_of(card));
        Ok((step, plan::priority(&due)))
    }
}
