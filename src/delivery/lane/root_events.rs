//! First events that are gone: redacted by a moderator, purged, or left behind in a room that was replaced. An edit or
//! a reply would refer to nothing, and most homeservers accept it all the same.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::context::RoomContext;
use crate::{
    delivery::{
        compose,
        transport::{EventPresence, RoomChanges},
    },
    model::{CardId, Op, OpKind, Reason, Scope, SendError},
    store::{Snapshot, StoreError},
};

/// A first event that was seen longer ago than this is checked again, since no homeserver announces a purge.
const SEEN_FOR: Duration = Duration::from_hours(1);
/// The most first events that are remembered as seen.
const SEEN: usize = 4_096;

/// Remembers which first events are certainly in the room.
#[derive(Debug, Default)]
pub(super) struct RootEvents {
    /// When the first event of a card was seen last.
    seen: HashMap<CardId, Instant>,
}

/// Whether an edit or a reply may be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RootCheck {
    Passed,
    /// The first event is gone; the card is posted as a new one when there is something to say.
    Orphaned,
    /// The homeserver cannot be asked for now.
    Failed(SendError),
}

impl RootEvents {
    /// Applies what the account has seen in the room since the last turn.
    pub async fn apply_room_changes(&mut self, context: &RoomContext) -> Result<(), StoreError> {
        let RoomChanges { redacted, gap } = context.transport.take_room_changes(&context.room);
        if gap || !redacted.is_empty() {
            // Should the store fail now, each card is checked before the next edit or reply.
            self.seen.clear();
        }
        if !redacted.is_empty() {
            for card in &context.store.orphan_cards(&context.room, redacted).await? {
                report_orphaned(context, card, "redacted");
            }
        }
        Ok(())
    }

    /// Checks that the card's first event is in the room before an edit or a reply refers to it, unless it was seen
    /// lately.
    pub async fn check(
        &mut self,
        context: &RoomContext,
        kind: OpKind,
        snapshot: &Snapshot,
    ) -> Result<RootCheck, StoreError> {
        let card = &snapshot.card.id;
        let Some(root) = snapshot.card.root_event.as_deref().filter(|_| self.needs_look(context, kind, snapshot))
        else {
            return Ok(RootCheck::Passed);
        };
        match context.transport.event_presence(&context.room, root).await {
            Ok(EventPresence::Missing) => {
                context.store.orphan_cards(&context.room, vec![root.to_owned()]).await?;
                report_orphaned(context, card, "not in the room any more");
                return Ok(RootCheck::Orphaned);
            }
            Err(error) if !matches!(error.reason.scope(), Scope::Room | Scope::Event) => {
                return Ok(RootCheck::Failed(error));
            }
            // The room may accept events although it cannot be read.
            Ok(EventPresence::Present | EventPresence::Unknown) | Err(_) => {}
        }
        self.mark_seen(card);
        Ok(RootCheck::Passed)
    }

    /// Whether the homeserver must be asked for the card's first event before an event of this kind.
    pub fn needs_look(&self, context: &RoomContext, kind: OpKind, snapshot: &Snapshot) -> bool {
        snapshot.card.root_event.is_some()
            && refers_to_root(kind)
            && !compose::posts_updates(snapshot, &context.settings.config)
            && !self.is_seen(&snapshot.card.id)
    }

    pub fn mark_seen(&mut self, card: &CardId) {
        if self.seen.len() >= SEEN {
            self.seen.retain(|_, at| at.elapsed() < SEEN_FOR);
        }
        if self.seen.len() < SEEN {
            self.seen.insert(card.clone(), Instant::now());
        }
    }

    fn is_seen(&self, card: &CardId) -> bool {
        self.seen.get(card).is_some_and(|at| at.elapsed() < SEEN_FOR)
    }
}

/// Orphans the card of an op that was refused because the first event it refers to is gone. Homeservers word that
/// differently and have no error code for it, so the room is asked. `false`: the op was refused for another reason.
pub(super) async fn orphan_if_gone(context: &RoomContext, op: &Op, error: &SendError) -> Result<bool, StoreError> {
    if error.reason != Reason::BadEvent || !refers_to_root(op.kind) {
        return Ok(false);
    }
    let Some(root) = context.store.root_event_of(&op.card).await? else { return Ok(false) };
    if context.transport.event_presence(&context.room, &root).await != Ok(EventPresence::Missing) {
        return Ok(false);
    }
    context.store.orphan_card_of(op, &error.to_string()).await?;
    report_orphaned(context, &op.card, &error.detail);
    Ok(true)
}

fn refers_to_root(kind: OpKind) -> bool {
    matches!(kind, OpKind::Edit | OpKind::Reply)
}

fn report_orphaned(context: &RoomContext, card: &CardId, why: &str) {
    context.count(OpKind::Card, "lost");
    tracing::warn!(card = %card, room = %context.name, reason = why, "a card's first event is gone");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_of_first_events_is_remembered() {
        let mut roots = RootEvents::default();
        for n in 0..=SEEN {
            roots.mark_seen(&CardId(n.to_string()));
        }
        assert_eq!(roots.seen.len(), SEEN);
        assert!(roots.is_seen(&CardId("0".to_owned())) && !roots.is_seen(&CardId(SEEN.to_string())));
    }
}
