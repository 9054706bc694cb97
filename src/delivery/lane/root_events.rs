//! First events that are gone: redacted by a moderator, purged, or left behind in a room that was replaced. Edits and
//! replies would hang on nothing, and mostly no homeserver says so.

use std::time::Duration;

use tokio::time::Instant;

use super::{Lane, Turn};
use crate::{
    delivery::{
        compose,
        gate::Permit,
        poison::Verdict,
        transport::{EventPresence, RoomChanges},
    },
    model::{CardId, Op, OpKind, Reason, Scope, SendError, TxnId},
    store::{Snapshot, StoreError},
};

/// A purge is told to nobody: a first event that was seen longer ago than this is looked at once more.
const SEEN_FOR: Duration = Duration::from_hours(1);
/// Cards whose first event is remembered as seen.
const SEEN: usize = 4_096;

impl Lane {
    /// What the account heard of the room since the last turn.
    pub(super) async fn apply_room_changes(&mut self) -> Result<(), StoreError> {
        let RoomChanges { redacted, gap } = self.context.transport.news(&self.room);
        if gap || !redacted.is_empty() {
            // Should the store fail now, each card is looked at before it is built upon.
            self.seen_roots.clear();
        }
        if !redacted.is_empty() {
            let lost = self.context.store.orphan_cards(&self.room, redacted).await?;
            for card in &lost {
                self.report_orphaned(card, "redacted");
            }
        }
        Ok(())
    }

    /// Before something hangs on a card's first event that was not seen in the room lately, it is looked at. `None`: go
    /// on.
    pub(super) async fn check_root_event(
        &mut self,
        kind: OpKind,
        snapshot: &Snapshot,
        permit: &Permit,
    ) -> Result<Option<Turn>, StoreError> {
        let card = &snapshot.card.id;
        let Some(root) = snapshot.card.root_event.as_deref() else { return Ok(None) };
        let hangs = matches!(kind, OpKind::Edit | OpKind::Reply) && !compose::posts(snapshot, &self.settings.config);
        if !hangs || self.seen_roots.get(card).is_some_and(|at| at.elapsed() < SEEN_FOR) {
            return Ok(None);
        }
        match self.context.transport.event_presence(&self.room, root).await {
            Ok(EventPresence::Present | EventPresence::Unknown) => {}
            Ok(EventPresence::Missing) => {
                self.context.store.orphan_cards(&self.room, vec![root.to_owned()]).await?;
                self.report_orphaned(card, "not in the room any more");
                return Ok(Some(Turn::Again));
            }
            // We cannot look, but perhaps we may send.
            Err(error) if matches!(error.reason.scope(), Scope::Room | Scope::Event) => {}
            Err(error) => {
                let verdict = self.verdict(&TxnId(format!("look {card}")), &error);
                if verdict != Verdict::Poisoned {
                    return Ok(Some(self.hold(&error, permit, verdict).1));
                }
            }
        }
        self.mark_root_seen(card);
        Ok(None)
    }

    pub(super) fn mark_root_seen(&mut self, card: &CardId) {
        if self.seen_roots.len() >= SEEN {
            self.seen_roots.retain(|_, at| at.elapsed() < SEEN_FOR);
        }
        if self.seen_roots.len() < SEEN {
            self.seen_roots.insert(card.clone(), Instant::now());
        }
    }

    /// Whether an event was refused because what it hangs on is not there. Homeservers word that differently and have no
    /// code for it, so the room is asked.
    pub(super) async fn is_root_missing(&self, op: &Op, error: &SendError) -> Result<bool, StoreError> {
        if error.reason != Reason::BadEvent || !matches!(op.kind, OpKind::Edit | OpKind::Reply) {
            return Ok(false);
        }
        let Some(root) = self.context.store.root_event_of(&op.card).await? else { return Ok(false) };
        Ok(self.context.transport.event_presence(&self.room, &root).await == Ok(EventPresence::Missing))
    }

    pub(super) async fn orphan_card_of(&self, op: &Op, error: &SendError) -> Result<Turn, StoreError> {
        self.context.store.orphan_card_of(op, &error.to_string()).await?;
        self.report_orphaned(&op.card, &error.detail);
        Ok(Turn::Again)
    }

    fn report_orphaned(&self, card: &CardId, why: &str) {
        let kind = OpKind::Card.as_str();
        self.context.metrics.room_events.with_label_values(&[self.name.as_str(), kind, "lost"]).inc();
        tracing::warn!(
            card = %card, room = %self.name, reason = why,
            "a card's first event is gone; its incident gets a new card with its next news"
        );
    }
}
