//! What follows a failed attempt: the op waits, a plainer form takes its place, or it is parked; and what the fault
//! concerns (the op, the room, the account, the homeserver) is held.

use std::time::Duration;

use super::{
    context::RoomContext,
    dead_letters,
    drain::Drain,
    in_doubt::InDoubt,
    parked::Parked,
    room_failures::RoomFailures,
    root_events,
    turn::{Next, Turn, millis},
};
use crate::{
    delivery::{
        gate::Permit,
        poison::{Attempt, PoisonCheck, Verdict},
        retry,
    },
    model::{Op, OpState, Scope, SendError, Timestamp},
    store::{Answer, StoreError},
};

/// After a fault of the homeserver the lane waits this much longer, so that those that have waited longest try first.
const YIELD: Duration = Duration::from_millis(50);

/// The troubles that a room is in.
#[derive(Debug)]
pub(super) struct Failures {
    pub room: RoomFailures,
    pub in_doubt: InDoubt,
    pub parked: Parked,
    /// Set while no route names the room any more.
    pub drain: Option<Drain>,
}

impl Failures {
    pub fn new(context: &RoomContext, started: Timestamp) -> Self {
        Self {
            room: RoomFailures::default(),
            in_doubt: InDoubt::new(started, PoisonCheck::default()),
            parked: Parked::new(context.gate.recoveries()),
            drain: None,
        }
    }

    /// An event of the room was acknowledged.
    pub fn record_delivery(&mut self, context: &RoomContext) {
        self.room.release(context);
        if let Some(drain) = &mut self.drain {
            drain.record_delivery();
        }
    }

    /// Whether the homeserver certainly answers the answer's transaction id with the event that it made, if it made one.
    pub fn remembers(&self, context: &RoomContext, answer: &Answer, device: &str) -> bool {
        // It was tried first when it was frozen, or later.
        context.transport.remembers_transactions()
            && answer.device.as_deref() == Some(device)
            && self.in_doubt.is_recent(answer.at, &context.clock)
    }

    /// Decides what follows a failed send.
    pub async fn after_send(
        &mut self,
        context: &RoomContext,
        op: &Op,
        error: &SendError,
        permit: &Permit,
    ) -> Result<Next, StoreError> {
        if error.reason.scope() == Scope::Event {
            context.count(op.kind, "refused");
            // The homeserver looked at the event, so it can be reached.
            context.gate.open(permit);
            if root_events::orphan_if_gone(context, op, error).await? {
                return Ok(Next::End(Turn::Again));
            }
            return dead_letters::refuse(context, op, error).await;
        }
        context.count(op.kind, "failed");
        let mut alone = op.alone;
        if error.reason.in_doubt() {
            alone = context.store.record_no_answer(&op.txn_id, error.reason.as_str(), &error.to_string()).await?;
        } else if op.state == OpState::InDoubt {
            context.store.mark_in_doubt(&op.txn_id, &error.to_string()).await?;
        } else {
            context.store.requeue(op).await?;
        }
        let mut verdict = self.verdict(context, &Attempt::Op(op.txn_id.clone()), error);
        if verdict == Verdict::Poisoned {
            if alone || self.parked.may_park(context, op).await? {
                self.parked.park(context, op, error, alone).await?;
                self.room.release(context);
                if !alone {
                    // The homeserver may accept no events: all rooms wait as after any fault of it.
                    context.gate.close(error);
                }
                return Ok(Next::End(Turn::Again));
            }
            // The homeserver accepts no events: the parked op finds out when it does, and a second one would not help.
            verdict = Verdict::Homeserver;
        }
        Ok(Next::End(self.hold_op(context, op, error, permit, verdict)))
    }

    /// Decides what follows a failed search for an op in doubt.
    pub fn after_search(&mut self, context: &RoomContext, op: &Op, error: &SendError, permit: &Permit) -> Turn {
        let verdict = self.verdict(context, &Attempt::Op(op.txn_id.clone()), error);
        if verdict == Verdict::Poisoned {
            self.in_doubt.give_up_search(context, op);
            return Turn::Again;
        }
        self.hold_op(context, op, error, permit, verdict)
    }

    /// Decides what follows a failed look into the room. `None`: only looking fails, so the lane goes on without.
    pub fn after_look(
        &mut self,
        context: &RoomContext,
        attempt: &Attempt,
        error: &SendError,
        permit: &Permit,
    ) -> Option<Turn> {
        let verdict = self.verdict(context, attempt, error);
        (verdict != Verdict::Poisoned).then(|| self.hold(context, error, permit, verdict).1)
    }

    pub fn verdict(&mut self, context: &RoomContext, attempt: &Attempt, error: &SendError) -> Verdict {
        if let Attempt::Op(op) = attempt
            && error.reason.in_doubt()
            && self.parked.failed_last_chance(op, context.clock.now())
        {
            return Verdict::Poisoned;
        }
        self.in_doubt.verdict(context, attempt, error)
    }

    /// Leaves the op as it is, and holds what the fault concerns.
    fn hold_op(
        &mut self,
        context: &RoomContext,
        op: &Op,
        error: &SendError,
        permit: &Permit,
        verdict: Verdict,
    ) -> Turn {
        let (wait, turn) = self.hold(context, error, permit, verdict);
        let in_doubt = error.reason.in_doubt() || op.state == OpState::InDoubt;
        if error.reason.scope() == Scope::Account {
            // The account or the gate logs the fault.
            tracing::debug!(
                notification = %op.notification, incident = %op.incident, room = %context.name, kind = op.kind.as_str(),
                reason = error.reason.as_str(), attempts = op.attempts, in_doubt, retry_in_ms = millis(wait),
                "waiting for the account"
            );
        } else {
            tracing::warn!(
                notification = %op.notification, incident = %op.incident, room = %context.name, kind = op.kind.as_str(),
                reason = %error, attempts = op.attempts, in_doubt, retry_in_ms = millis(wait),
                "not shown yet, will try again"
            );
        }
        turn
    }

    /// Holds what the fault concerns, and returns for how long.
    fn hold(
        &mut self,
        context: &RoomContext,
        error: &SendError,
        permit: &Permit,
        verdict: Verdict,
    ) -> (Duration, Turn) {
        let wait = match (error.reason.scope(), verdict) {
            // The next turn waits at the gate.
            (Scope::Account, _) => return (context.gate.close(error), Turn::Again),
            (Scope::Server, Verdict::Homeserver | Verdict::Poisoned) => {
                let wait = context.gate.close(error);
                return (wait, Turn::Held(wait + YIELD));
            }
            (Scope::Server, Verdict::Own) => self.room.hold(context, error, retry::wait_alone),
            (Scope::Room | Scope::Event, _) => {
                context.gate.open(permit);
                self.room.hold(context, error, |failures, jitter| retry::wait(error, failures, jitter))
            }
        };
        if let Some(drain) = &mut self.drain {
            drain.record_failure(error.reason);
        }
        (wait, Turn::Held(wait))
    }
}
