//! What follows an event that the homeserver has acknowledged.

use super::{Lane, ahead::Prepared, context::RoomContext, shown, turn::millis};
use crate::{
    delivery::{compose, gate::Permit},
    health::Delivery,
    model::{NotificationId, Op, OpKind},
    store::{NewOp, StoreError},
};

impl Lane {
    /// The homeserver acknowledged the op's event. Returns what was prepared, frozen in the same commit, if it goes next.
    pub(super) async fn finish(
        &mut self,
        op: &Op,
        event: &str,
        permit: &Permit,
        prepared: Option<Prepared>,
    ) -> Result<Option<(Op, Permit)>, StoreError> {
        self.context.gate.passed(permit);
        self.failures.record_delivery(&self.context);
        self.context.count(op.kind, "sent");
        let prepared = prepared
            .filter(|next| next.is_current(&self.context, &self.reloads) && !self.failures.parked.has_recovered());
        // A closed gate may open long after this.
        let prepared = prepared.and_then(|next| Some((next, self.context.gate.try_enter()?)));
        let (covered, next) = self.record(op, event, prepared).await?;
        self.recent_sends.record(op);
        if op.kind == OpKind::Card {
            self.root_events.mark_seen(&op.card);
        }
        let now = self.context.clock.now();
        let took = now.since(op.since);
        self.context.metrics.delivery_seconds.observe(took.as_secs_f64());
        let room = self.context.room.clone();
        let delivery = Delivery { at: now, took, room, kind: op.kind, event: event.to_owned() };
        self.context.health.update(|health| health.delivered(delivery));
        tracing::info!(
            notification = %op.notification, incident = %op.incident, room = %self.context.name,
            kind = op.kind.as_str(), event, also = shown::others(op, &covered), after_ms = millis(took),
            attempts = op.attempts, "shown in the room"
        );
        shown::hand_on(&self.context, &self.recent_sends, op, event, permit.limited).await;
        Ok(next)
    }

    /// Records the answer to an op, and freezes what was prepared in the same commit.
    async fn record(
        &mut self,
        op: &Op,
        event: &str,
        prepared: Option<(Prepared, Permit)>,
    ) -> Result<(Vec<NotificationId>, Option<(Op, Permit)>), StoreError> {
        let RoomContext { room, store, transport, clock, metrics, .. } = &self.context;
        let Some((Prepared { op: next, fallbacks, broken_links, .. }, permit)) = prepared else {
            return Ok((store.finish(op, event).await?, None));
        };
        let next = NewOp { device: transport.device(room), first_try: clock.now(), ..next };
        self.fallbacks.report(metrics, &next, &fallbacks);
        let (covered, next) = store.finish_and_freeze(op, event, next).await?;
        compose::count_broken_links(&broken_links, metrics);
        Ok((covered, Some((next, permit))))
    }
}
