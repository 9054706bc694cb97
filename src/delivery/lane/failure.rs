//! What becomes of an op whose send failed: it waits, or a plainer form takes its place, or it is set aside.

use std::time::Duration;

use super::{Lane, Turn};
use crate::{
    delivery::{
        compose::{self, Composed},
        gate::Permit,
        poison::Verdict,
        retry,
        transport::BoxFuture,
    },
    health::Hold,
    model::{Op, OpKind, OpState, Reason, Scope, SendError, Timestamp},
    store::{NewOp, StoreError},
};

/// After a fault of the homeserver the lanes that have waited longer try first.
const YIELD: Duration = Duration::from_millis(50);
/// When a dead letter that a fault of the homeserver made is tried again, at the earliest and at the latest.
const FIRST_DEAD_RETRY: Duration = Duration::from_mins(10);
const LAST_DEAD_RETRY: Duration = Duration::from_hours(6);

impl Lane {
    pub(super) async fn failed(&mut self, op: &Op, error: &SendError, permit: &Permit) -> Result<Turn, StoreError> {
        let scope = error.reason.scope();
        let refused = scope == Scope::Event;
        self.count(op, if refused { "refused" } else { "failed" });
        let maybe_arrived = error.reason.in_doubt() || op.state == OpState::InDoubt;
        if refused {
            // The homeserver looked at the event itself, so the way to it is free.
            self.context.gate.opened(permit);
            if self.is_root_missing(op, error).await? {
                return self.orphan_card_of(op, error).await;
            }
            return self.plainer(op, error, permit).await;
        }
        let mut alone = op.alone;
        if error.reason.in_doubt() {
            alone = self.context.store.record_no_answer(&op.txn_id, error.reason.as_str(), &error.to_string()).await?;
        } else if maybe_arrived {
            self.context.store.mark_in_doubt(&op.txn_id, &error.to_string()).await?;
        } else {
            self.context.store.requeue(op).await?;
        }
        match self.verdict(&op.txn_id, error) {
            Verdict::Poisoned if alone || self.may_park(op).await? => self.park(op, error, alone).await,
            // The homeserver takes no events: one that is set aside says so, and the next would only follow it.
            Verdict::Poisoned => Ok(self.hold_after(op, error, permit, Verdict::Homeserver)),
            verdict => Ok(self.hold_after(op, error, permit, verdict)),
        }
    }

    /// The op stays where it is, and what the fault concerns waits.
    pub(super) fn hold_after(&mut self, op: &Op, error: &SendError, permit: &Permit, verdict: Verdict) -> Turn {
        let (wait, turn) = self.hold(error, permit, verdict);
        let in_doubt = error.reason.in_doubt() || op.state == OpState::InDoubt;
        let retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        if error.reason.scope() == Scope::Account {
            // Not of this event, and said by the account or at the gate.
            tracing::debug!(
                notification = %op.notification, incident = %op.incident, room = %self.name, kind = op.kind.as_str(),
                reason = error.reason.as_str(), attempts = op.attempts, in_doubt, retry_in_ms, "waits for the account"
            );
        } else {
            tracing::warn!(
                notification = %op.notification, incident = %op.incident, room = %self.name, kind = op.kind.as_str(),
                reason = %error, attempts = op.attempts, in_doubt, retry_in_ms, "not shown yet, will try again"
            );
        }
        turn
    }

    /// What the fault concerns waits, and for how long.
    pub(super) fn hold(&mut self, error: &SendError, permit: &Permit, verdict: Verdict) -> (Duration, Turn) {
        match (error.reason.scope(), verdict) {
            (Scope::Server, Verdict::Own) => {
                let wait = self.hold_room(error, retry::wait_alone);
                (wait, Turn::Held(wait))
            }
            (Scope::Server, _) => {
                let wait = self.context.gate.close(error);
                (wait, Turn::Held(wait + YIELD))
            }
            // Waited out at the gate.
            (Scope::Account, _) => (self.context.gate.close(error), Turn::Again),
            (Scope::Room | Scope::Event, _) => {
                self.context.gate.opened(permit);
                let wait = self.hold_room(error, |failures, jitter| retry::wait(error, failures, jitter));
                (wait, Turn::Held(wait))
            }
        }
    }

    /// The homeserver does not take this event: a plainer one, and at last none.
    pub(super) async fn plainer(&mut self, op: &Op, error: &SendError, permit: &Permit) -> Result<Turn, StoreError> {
        let plainer = if op.plainness < compose::PLAINEST { self.plainer_form(op).await? } else { None };
        if let Some(plainer) = plainer {
            tracing::warn!(
                notification = %op.notification, incident = %op.incident, room = %self.name,
                kind = op.kind.as_str(), reason = %error, plainness = plainer.plainness,
                "the homeserver refuses the event; a plainer form follows"
            );
            let plainer = self.context.store.replace(op, plainer, &error.to_string()).await?;
            self.send_boxed(plainer, permit).await
        } else {
            tracing::error!(
                notification = %op.notification, incident = %op.incident, room = %self.name,
                kind = op.kind.as_str(), reason = %error, op = %op.txn_id,
                "the homeserver refuses the event in every form; it is set aside"
            );
            self.context.metrics.dead_letters.with_label_values(&[error.reason.as_str()]).inc();
            let retry_at = (error.reason.scope() == Scope::Server).then(|| self.try_dead_again_at(op));
            self.context.store.mark_dead(op, &error.to_string(), retry_at).await?;
            Ok(Turn::Again)
        }
    }

    /// Whether the room may go on without this op, although it is not known whether the homeserver takes any event. One
    /// op for each room finds that out.
    async fn may_park(&self, op: &Op) -> Result<bool, StoreError> {
        Ok(self.last_chance.as_ref() == Some(&op.txn_id)
            || !self.context.store.is_one_parked_unproven(&self.room).await?)
    }

    /// What a fault of the homeserver has killed is tried again after as long again as it is old, within bounds.
    fn try_dead_again_at(&self, op: &Op) -> Timestamp {
        let now = self.context.clock.now();
        now.plus(now.since(op.since).clamp(FIRST_DEAD_RETRY, LAST_DEAD_RETRY))
    }

    /// A dead letter that a fault of the homeserver made, once its time has come: `None`, or how long until then.
    pub(super) async fn retry_dead_letters(&mut self) -> Result<Option<Duration>, StoreError> {
        let Some((letter, at)) = self.context.store.next_dead_letter(&self.room).await? else { return Ok(None) };
        let wait = at.since(self.context.clock.now());
        if !wait.is_zero() {
            return Ok(Some(wait));
        }
        if !self.context.gate.is_open() {
            // The end of the outage wakes the lane.
            return Ok(None);
        }
        if let Some((letter, _)) = self.context.store.retry_dead_letter(&letter).await? {
            tracing::info!(
                op = %letter.op.txn_id, incident = %letter.op.incident, room = %self.name, reason = letter.error,
                "dead letter of a fault of the homeserver is tried again with the newest state of its card"
            );
        }
        Ok(Some(Duration::ZERO))
    }

    async fn plainer_form(&self, op: &Op) -> Result<Option<NewOp>, StoreError> {
        let input = self.input(op.plainness + 1);
        let composed = if op.kind == OpKind::Notice {
            let green = self.context.store.said_green(&op.txn_id).await?;
            compose::compose_green(&green, &self.room, input)
        } else {
            let Some(snapshot) = self.context.store.snapshot_for(&op.card, &op.txn_id).await? else { return Ok(None) };
            match compose::compose(op.kind, &snapshot, input) {
                Composed::Op { op: plainer, .. } => Some(*plainer),
                Composed::Overfull(_) | Composed::VainSearch(_) | Composed::Nothing => None,
            }
        };
        Ok(composed.map(|plainer| NewOp { since: op.since, ..plainer }))
    }

    /// A plainer form is sent from within a send.
    fn send_boxed<'a>(&'a mut self, op: Op, permit: &'a Permit) -> BoxFuture<'a, Result<Turn, StoreError>> {
        Box::pin(self.send(op, permit))
    }

    pub(super) fn count(&self, op: &Op, outcome: &str) {
        self.context.metrics.room_events.with_label_values(&[self.name.as_str(), op.kind.as_str(), outcome]).inc();
    }

    fn hold_room(&mut self, error: &SendError, backoff: impl Fn(u32, f64) -> Duration) -> Duration {
        self.refusals = self.refusals.saturating_add(1);
        self.note_refusal(error.reason);
        let wait = backoff(self.refusals, rand::random());
        let now = self.context.clock.now();
        self.context.health.update(|health| {
            if let Some(room) = health.rooms.get_mut(&self.room) {
                let since = room.hold.as_ref().map_or(now, |hold| hold.since);
                let until = Some(now.plus(wait));
                room.hold = Some(Hold {
                    reason: error.to_string(),
                    rate_limit: error.reason == Reason::JoinLimited,
                    since,
                    until,
                });
            }
        });
        wait
    }

    pub(super) fn release_room(&mut self) {
        if std::mem::take(&mut self.refusals) > 0 {
            tracing::info!(room = %self.name, "the room takes events again");
        }
        self.context.health.update(|health| {
            if let Some(room) = health.rooms.get_mut(&self.room) {
                room.hold = None;
            }
        });
    }
}
