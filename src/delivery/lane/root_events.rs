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
        transport::{Reason, RoomNews, Scope, SendError, Sight},
    },
    model::{CardId, Op, OpKind, TxnId},
    store::{Snapshot, StoreError},
};

/// A purge is told to nobody: a first event that was seen longer ago than this is looked at once more.
const SEEN_FOR: Duration = Duration::from_hours(1);
/// Cards whose first event is remembered as seen.
const SEEN: usize = 4_096;

impl Lane {
    /// What the account heard of the room since the last turn.
    pub(super) async fn heed_news(&mut self) -> Result<(), StoreError> {
        let RoomNews { redacted, gap } = self.parts.transport.news(&self.room);
        if gap || !redacted.is_empty() {
            // Should the store fail now, each card is looked at before it is built upon.
            self.sound.clear();
        }
        if !redacted.is_empty() {
            let lost = self.parts.store.lose_roots(&self.room, redacted).await?;
            for card in &lost {
                self.tell_lost(card, "redacted");
            }
        }
        Ok(())
    }

    /// Before something hangs on a card's first event that was not seen in the room lately, it is looked at. `None`: go
    /// on.
    pub(super) async fn check_root(
        &mut self,
        kind: OpKind,
        snapshot: &Snapshot,
        permit: &Permit,
    ) -> Result<Option<Turn>, StoreError> {
        let card = &snapshot.card.id;
        let Some(root) = snapshot.card.root_event.as_deref() else { return Ok(None) };
        let hangs = matches!(kind, OpKind::Edit | OpKind::Reply) && !compose::posts(snapshot, &self.in_force.config);
        if !hangs || self.sound.get(card).is_some_and(|at| at.elapsed() < SEEN_FOR) {
            return Ok(None);
        }
        match self.parts.transport.look_at(&self.room, root).await {
            Ok(Sight::There | Sight::Unknown) => {}
            Ok(Sight::Gone) => {
                self.parts.store.lose_roots(&self.room, vec![root.to_owned()]).await?;
                self.tell_lost(card, "not in the room any more");
                return Ok(Some(Turn::Again));
            }
            // We cannot look, but perhaps we may send.
            Err(error) if matches!(error.reason.scope(), Scope::Room | Scope::Event) => {}
            Err(error) => {
                let verdict = self.verdict(&TxnId(format!("look {card}")), &error);
                if verdict != Verdict::Hopeless {
                    return Ok(Some(self.hold(&error, permit, verdict).1));
                }
            }
        }
        self.trust_root(card);
        Ok(None)
    }

    pub(super) fn trust_root(&mut self, card: &CardId) {
        if self.sound.len() >= SEEN {
            self.sound.retain(|_, at| at.elapsed() < SEEN_FOR);
        }
        if self.sound.len() < SEEN {
            self.sound.insert(card.clone(), Instant::now());
        }
    }

    /// Whether an event was refused because what it hangs on is not there. Homeservers word that differently and have no
    /// code for it, so the room is asked.
    pub(super) async fn is_root_gone(&self, op: &Op, error: &SendError) -> Result<bool, StoreError> {
        if error.reason != Reason::BadEvent || !matches!(op.kind, OpKind::Edit | OpKind::Reply) {
            return Ok(false);
        }
        let Some(root) = self.parts.store.root_of(&op.card).await? else { return Ok(false) };
        Ok(self.parts.transport.look_at(&self.room, &root).await == Ok(Sight::Gone))
    }

    pub(super) async fn lose_root_of(&self, op: &Op, error: &SendError) -> Result<Turn, StoreError> {
        self.parts.store.lose_root_of(op, &error.to_string()).await?;
        self.tell_lost(&op.card, &error.detail);
        Ok(Turn::Again)
    }

    fn tell_lost(&self, card: &CardId, why: &str) {
        let kind = OpKind::Card.as_str();
        self.parts.metrics.room_events.with_label_values(&[self.name.as_str(), kind, "lost"]).inc();
        tracing::warn!(
            card = %card, room = %self.name, reason = why,
            "a card's first event is gone; its incident gets a new card with its next news"
        );
    }
}
