//! Parked ops: the homeserver answers others but not them, so the room goes on without them. The room is searched for
//! their events, ever less often.

use std::{collections::HashMap, time::Duration};

use tokio::sync::watch;

use super::{
    context::RoomContext,
    search::{Found, search_for},
    waiting,
};
use crate::{
    delivery::{gate::Permit, retry},
    model::{Op, Reason, Scope, SendError, Timestamp, TxnId},
    store::StoreError,
};

/// The homeserver may still work on a request for this long after it failed to answer in time.
const SETTLING: Duration = Duration::from_mins(1);
/// The wait before a search is as long as the op is old, within these bounds.
const FIRST_SEARCH: Duration = Duration::from_secs(10);
const LAST_SEARCH: Duration = Duration::from_mins(10);
/// The upper bound for an op that may fail because the homeserver accepts no events at all: it finds out when that is
/// over.
const LAST_SEARCH_UNPROVEN: Duration = Duration::from_mins(1);
/// A parked op is sent again once searches have been inconclusive for this long although the homeserver answered: a
/// repeat is better than a card that never changes again.
const GIVE_UP_SEARCHING: Duration = Duration::from_hours(1);

#[derive(Debug)]
pub(super) struct Parked {
    /// Changes when an outage ends.
    recoveries: watch::Receiver<u64>,
    /// Since when the searches for an op have been inconclusive.
    vain_searches: HashMap<TxnId, Timestamp>,
    /// The parked op that is sent once more: if it fails it is parked again at once, so that the room waits for one try
    /// only.
    last_chance: Option<TxnId>,
}

/// How a parked op goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ParkedNext {
    /// The room has its event.
    Arrived(String),
    /// It is not in the room, and others got through while it failed: the event itself must be the cause.
    FailsAlone,
    /// It goes out again as it is, for this reason.
    SendAgain(String),
    SearchLater,
}

impl Parked {
    pub fn new(recoveries: watch::Receiver<u64>) -> Self {
        Self { recoveries, vain_searches: HashMap::new(), last_chance: None }
    }

    /// Ends once an outage is over that the lane has not seen yet.
    pub async fn recovered(&self) {
        waiting::changed(&self.recoveries).await;
    }

    /// Whether an outage is over that the lane has not seen yet.
    pub fn has_recovered(&self) -> bool {
        self.recoveries.has_changed().unwrap_or(false)
    }

    /// Makes all parked ops and dead letters of the room due if an outage is over.
    pub async fn search_after_outage(&mut self, context: &RoomContext) -> Result<(), StoreError> {
        if self.has_recovered() {
            self.recoveries.mark_unchanged();
            context.store.search_soon(&context.room, context.clock.now()).await?;
        }
        Ok(())
    }

    /// The parked op to search for next, and how long until then. `next`: when that is.
    pub fn next(&mut self, next: Option<(Op, Timestamp)>, now: Timestamp) -> Option<(Op, Duration)> {
        if next.is_none() {
            self.vain_searches.clear();
        }
        next.map(|(op, at)| (op, at.since(now)))
    }

    /// Parks an op, so that the room goes on without it. `alone`: other events got through between its failures;
    /// otherwise the homeserver may accept no event at all.
    pub async fn park(
        &mut self,
        context: &RoomContext,
        op: &Op,
        error: &SendError,
        alone: bool,
    ) -> Result<(), StoreError> {
        context.count(op.kind, "parked");
        let now = context.clock.now();
        let wait = first_wait(error.reason, alone, now.since(op.first_try.unwrap_or(op.since)));
        let again = self.last_chance.take_if(|one| *one == op.txn_id).is_some();
        context.store.park(&op.txn_id, &error.to_string(), now.plus(wait)).await?;
        if again {
            tracing::debug!(op = %op.txn_id, room = %context.name, reason = %error, "a parked event failed again");
        } else {
            tracing::warn!(
                notification = %op.notification, incident = %op.incident, room = %context.name, kind = op.kind.as_str(),
                op = %op.txn_id, reason = %error, attempts = op.attempts, others_get_through = alone,
                "event parked; searching the room for it"
            );
        }
        Ok(())
    }

    /// Whether the room may go on without this op although it is not known whether the homeserver accepts any event.
    /// One op of each room finds that out.
    pub async fn may_park(&self, context: &RoomContext, op: &Op) -> Result<bool, StoreError> {
        Ok(self.last_chance.as_ref() == Some(&op.txn_id)
            || !context.store.is_one_parked_unproven(&context.room).await?)
    }

    /// Searches the room for a parked op.
    pub async fn search(&mut self, context: &RoomContext, op: &Op) -> Result<ParkedNext, StoreError> {
        let found = match search_for(context, op).await? {
            Ok(Found::Event(event)) => {
                self.vain_searches.remove(&op.txn_id);
                return Ok(ParkedNext::Arrived(event));
            }
            Ok(Found::Absent) => {
                self.vain_searches.remove(&op.txn_id);
                // Unless it fails alone, the homeserver may be the cause, and may have recovered.
                let again = || ParkedNext::SendAgain("not in the room".to_owned());
                return Ok(if op.alone { ParkedNext::FailsAlone } else { again() });
            }
            Ok(Found::Unknown) => "the room history does not show whether it arrived".to_owned(),
            Err(error) => {
                // The other rooms wait only for what certainly concerns them.
                if error.reason.scope() == Scope::Account {
                    context.gate.close(&error);
                }
                if is_outage(context, &error) {
                    self.vain_searches.remove(&op.txn_id);
                }
                error.to_string()
            }
        };
        let now = context.clock.now();
        if now.since(self.vain_since(&op.txn_id, now)) >= GIVE_UP_SEARCHING {
            context.count_possible_duplicate(op);
            return Ok(ParkedNext::SendAgain(found));
        }
        let wait = now.since(op.first_try.unwrap_or(op.since)).clamp(FIRST_SEARCH, LAST_SEARCH);
        tracing::debug!(op = %op.txn_id, room = %context.name, reason = found, "will search for a parked event again");
        context.store.park(&op.txn_id, &found, now.plus(wait)).await?;
        Ok(ParkedNext::SearchLater)
    }

    /// The op is sent once more.
    pub fn give_last_chance(&mut self, op: &Op) {
        self.last_chance = Some(op.txn_id.clone());
    }

    /// Whether the op got its last chance, and so must be parked again. The time of inconclusive searches starts again.
    pub fn failed_last_chance(&mut self, op: &TxnId, now: Timestamp) -> bool {
        let failed = self.last_chance.as_ref() == Some(op);
        if failed && let Some(since) = self.vain_searches.get_mut(op) {
            *since = now;
        }
        failed
    }

    fn vain_since(&mut self, op: &TxnId, now: Timestamp) -> Timestamp {
        *self.vain_searches.entry(op.clone()).or_insert(now)
    }
}

/// How long a parked op waits whose room has no device to send it now. Only what concerns more than this room closes
/// the gate.
pub(super) fn wait_for_device(context: &RoomContext, error: &SendError, permit: &Permit) -> Duration {
    match error.reason.scope() {
        Scope::Account | Scope::Server => context.gate.close(error),
        Scope::Room | Scope::Event => {
            context.gate.open(permit);
            retry::wait(error, 1, rand::random())
        }
    }
}

/// Whether no room can be read, so that an inconclusive search says nothing.
fn is_outage(context: &RoomContext, error: &SendError) -> bool {
    let health = context.health.snapshot();
    error.reason.scope() == Scope::Account || health.sync_fault.is_some() || health.homeserver_fault.is_some()
}

/// How long after parking the room is searched.
fn first_wait(reason: Reason, alone: bool, age: Duration) -> Duration {
    match reason {
        // The request may still be worked on.
        Reason::NoAnswer => SETTLING,
        _ if alone => Duration::ZERO,
        _ => age.clamp(FIRST_SEARCH, LAST_SEARCH_UNPROVEN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(id: &str) -> Op {
        Op { txn_id: TxnId(id.to_owned()), ..crate::delivery::lane::tests::sample_op() }
    }

    #[test]
    fn the_first_search_waits_for_a_request_that_may_still_be_worked_on() {
        let age = Duration::from_secs(30);
        assert_eq!(first_wait(Reason::NoAnswer, true, age), SETTLING);
        assert_eq!(first_wait(Reason::ServerError, true, age), Duration::ZERO);
        assert_eq!(first_wait(Reason::ServerError, false, age), age);
        assert_eq!(first_wait(Reason::ServerError, false, Duration::ZERO), FIRST_SEARCH);
        assert_eq!(first_wait(Reason::ServerError, false, Duration::from_hours(1)), LAST_SEARCH_UNPROVEN);
    }

    #[test]
    fn a_failed_last_chance_starts_the_hour_of_searching_again() {
        let mut parked = Parked::new(watch::channel(0).1);
        let (first, second) = (op("first"), op("second"));
        for op in [&first, &second] {
            assert_eq!(parked.vain_since(&op.txn_id, Timestamp(1)), Timestamp(1));
        }
        assert!(!parked.failed_last_chance(&first.txn_id, Timestamp(2)), "it has had none");
        parked.give_last_chance(&first);
        assert!(!parked.failed_last_chance(&second.txn_id, Timestamp(3)));
        assert!(parked.failed_last_chance(&first.txn_id, Timestamp(4)));
        assert_eq!(parked.vain_since(&first.txn_id, Timestamp(5)), Timestamp(4));
        assert_eq!(parked.vain_since(&second.txn_id, Timestamp(5)), Timestamp(1));
    }
}
