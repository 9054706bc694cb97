//! Ops in doubt: their events may or may not be in the room. While the homeserver remembers an op's transaction id, the
//! op is sent again under it; later the room is searched first.

use std::time::Duration;

use super::{
    context::RoomContext,
    search::{Found, search_for},
};
use crate::{
    clock::Clock,
    delivery::poison::{Attempt, PoisonCheck, ServerSigns, Verdict},
    model::{Op, SendError, Timestamp, TxnId},
    store::StoreError,
};

/// Synapse remembers transaction ids for 24 h; the difference allows for clocks that disagree.
const REMEMBERED: Duration = Duration::from_hours(20);
/// A restart takes less than this. An op or a card that waited for longer before the start may come from an older copy
/// of the store.
pub(super) const RESTART: Duration = Duration::from_mins(10);

#[derive(Debug)]
pub(super) struct InDoubt {
    /// When the lane started.
    started: Timestamp,
    past_search: Option<PastSearch>,
    poison: PoisonCheck,
}

/// The op in doubt that was searched for last; from then on this device sends it again without a search.
#[derive(Debug)]
struct PastSearch {
    op: TxnId,
    device: String,
    at: Timestamp,
}

/// How an op in doubt goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextTry {
    SendAgain,
    /// The room has its event.
    Arrived(String),
    /// The room cannot be read for now.
    SearchFailed(SendError),
}

impl InDoubt {
    pub fn new(started: Timestamp, poison: PoisonCheck) -> Self {
        Self { started, past_search: None, poison }
    }

    /// Whether `device` may send the op again, or the op has arrived.
    pub async fn next_try(&mut self, context: &RoomContext, op: &Op, device: &str) -> Result<NextTry, StoreError> {
        // Other homeservers forget transaction ids when they restart, which the receiver cannot see.
        if context.transport.remembers_transactions() && self.is_remembered(op, device, &context.clock) {
            return Ok(NextTry::SendAgain);
        }
        match search_for(context, op).await? {
            Ok(Found::Event(event)) => return Ok(NextTry::Arrived(event)),
            Ok(Found::Absent) => {}
            Ok(Found::Unknown) => context.count_possible_duplicate(op),
            Err(error) => return Ok(NextTry::SearchFailed(error)),
        }
        self.record_search(op, device.to_owned(), context.clock.now());
        Ok(NextTry::SendAgain)
    }

    /// Whether the homeserver certainly answers the op's transaction id with the event that it made, if it made one.
    fn is_remembered(&self, op: &Op, device: &str, clock: &Clock) -> bool {
        if let Some(search) = self.past_search.as_ref().filter(|past| past.op == op.txn_id && past.device == device) {
            return clock.now().since(search.at) < REMEMBERED;
        }
        op.device.as_deref() == Some(device) && op.first_try.is_some_and(|at| self.is_recent(at, clock))
    }

    /// Whether the homeserver certainly remembers a transaction id that was used first at this time or later.
    pub fn is_recent(&self, first_try: Timestamp, clock: &Clock) -> bool {
        let left_over = self.started.since(first_try) > RESTART;
        // Where only a wall clock knows how long ago it was, it may be longer.
        clock.now().since(first_try) < REMEMBERED && !left_over && clock.has_counted_since(first_try)
    }

    /// From now on `device` sends the op without a search.
    pub fn record_search(&mut self, op: &Op, device: String, at: Timestamp) {
        self.past_search = Some(PastSearch { op: op.txn_id.clone(), device, at });
    }

    /// The room cannot be read although the homeserver answers: the op is sent again without a search.
    pub fn give_up_search(&mut self, context: &RoomContext, op: &Op) {
        context.count_possible_duplicate(op);
        self.past_search = None;
        if let Some(device) = context.transport.device(&context.room) {
            self.record_search(op, device, context.clock.now());
        }
    }

    /// Whether the attempt failed because of the homeserver or because of the op.
    pub fn verdict(&mut self, context: &RoomContext, attempt: &Attempt, error: &SendError) -> Verdict {
        if !error.reason.in_doubt() {
            return Verdict::Homeserver;
        }
        let health = context.health.snapshot();
        let signs = ServerSigns {
            now: context.clock.now(),
            passed: context.gate.passes(),
            last_sync: health.last_sync,
            faulty: health.sync_fault.is_some() || health.homeserver_fault.is_some(),
        };
        self.poison.failed(attempt, &signs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Mark, delivery::lane::tests::sample_op};

    const HOUR: Duration = Duration::from_hours(1);

    /// An op whose first try is an hour old, and a lane that started at the same time.
    fn an_hour_later() -> (Op, InDoubt, Clock) {
        let clock = Clock::manual(Timestamp(1_800_000_000_000));
        let op = Op { first_try: Some(clock.now()), device: Some("A".to_owned()), ..sample_op() };
        let in_doubt = InDoubt::new(clock.now(), PoisonCheck::default());
        clock.advance(HOUR);
        (op, in_doubt, clock)
    }

    #[test]
    fn only_the_device_of_the_first_try_is_remembered_and_for_less_than_a_day() {
        let (op, in_doubt, clock) = an_hour_later();
        assert!(in_doubt.is_remembered(&op, "A", &clock));
        assert!(!in_doubt.is_remembered(&op, "B", &clock));
        clock.advance(19 * HOUR);
        assert!(!in_doubt.is_remembered(&op, "A", &clock));
    }

    #[test]
    fn an_op_from_before_a_restart_may_come_from_an_older_store() {
        let (op, _, clock) = an_hour_later();
        assert!(!InDoubt::new(clock.now(), PoisonCheck::default()).is_remembered(&op, "A", &clock));
    }

    #[test]
    fn a_time_that_no_clock_counted_is_not_trusted() {
        let (op, in_doubt, clock) = an_hour_later();
        assert!(!clock.resume(&Mark { boot: None, ..clock.mark() }).is_sure);
        clock.advance(Duration::from_millis(1));
        assert!(!in_doubt.is_remembered(&op, "A", &clock));
    }

    #[test]
    fn a_search_counts_like_a_first_try_of_its_device() {
        let (op, mut in_doubt, clock) = an_hour_later();
        clock.advance(30 * HOUR);
        in_doubt.record_search(&op, "B".to_owned(), clock.now());
        assert!(in_doubt.is_remembered(&op, "B", &clock));
        assert!(!in_doubt.is_remembered(&op, "A", &clock));
        clock.advance(20 * HOUR);
        assert!(!in_doubt.is_remembered(&op, "B", &clock));
    }
}
