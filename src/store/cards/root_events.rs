//! Cards whose first event is gone from the room: redacted, purged, or left behind in a room that was replaced.

use sqlx::AnyConnection;

use crate::store::db::statement;
use crate::{
    model::{CardId, Op, OpState, RoomAddress},
    store::{
        Store, StoreError,
        cards::severity,
        db::writer::WriteContext,
        outbox::sql::{Shown, end_op, make_due, release_notes, settle},
    },
};

impl Store {
    /// Those of `events` that began a card of `room` are gone: what happens to its incidents next is shown on a new
    /// event. Returns the cards.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn orphan_cards(&self, room: &RoomAddress, events: Vec<String>) -> Result<Vec<CardId>, StoreError> {
        let room = room.clone();
        self.writer
            .write(move |connection, context| {
                Box::pin(async move {
                    let mut lost = Vec::new();
                    for event in events {
                        let cards: Vec<String> =
                            statement::query_scalar("SELECT id FROM card WHERE room = $1 AND root_event = $2")
                                .bind(room.as_str())
                                .bind(&event)
                                .fetch_all(&mut *connection)
                                .await?;
                        for card in cards.into_iter().map(CardId) {
                            orphan(connection, context, &card).await?;
                            lost.push(card);
                        }
                    }
                    Ok(lost)
                })
            })
            .await
    }

    /// The first event of a card.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn root_event_of(&self, card: &CardId) -> Result<Option<String>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let root = statement::query_scalar::<Option<String>>("SELECT root_event FROM card WHERE id = $1")
            .bind(card.as_str())
            .fetch_optional(&mut *connection)
            .await?;
        Ok(root.flatten())
    }

    /// The homeserver refused `op` since it does not have the card's first event: what still fires is shown on a new one
    /// at once, what does not is left at that.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn orphan_card_of(&self, op: &Op, error: &str) -> Result<(), StoreError> {
        let (op, error, now) = (op.clone(), error.to_owned(), self.clock.now());
        self.write(move |connection, context| {
            Box::pin(async move {
                end_op(connection, context, &op.txn_id, (OpState::Refused, &error), now).await?;
                release_notes(connection, &op.txn_id).await?;
                orphan(connection, context, &op.card).await?;
                count_as_shown(connection, &op.card).await?;
                make_due(connection, &op.card, op.since).await?;
                settle(connection, context, &op.card, Shown::Same).await
            })
        })
        .await
    }
}

async fn orphan(connection: &mut AnyConnection, context: &mut WriteContext, card: &CardId) -> Result<(), StoreError> {
    statement::query("UPDATE card SET root_event = NULL, root_at = NULL, last_reply = NULL WHERE id = $1")
        .bind(card.as_str())
        .execute(&mut *connection)
        .await?;
    let retired =
        statement::query("UPDATE card SET state = 'retired', dirty_since = NULL WHERE id = $1 AND state <> 'live'")
            .bind(card.as_str())
            .execute(&mut *connection)
            .await?
            .rows_affected();
    if retired > 0 {
        return Ok(());
    }
    // What is over and was shown needs no new event; a digest with nothing else stays as it is, and is never due.
    statement::query(
        "DELETE FROM card_incident WHERE card = $1 AND EXISTS (\
           SELECT 1 FROM incident WHERE incident.id = card_incident.incident \
           AND incident.closed_at IS NOT NULL AND incident.rev <= card_incident.shown_rev) \
         AND EXISTS (SELECT 1 FROM card_incident AS other JOIN incident ON incident.id = other.incident \
                     WHERE other.card = $1 AND incident.closed_at IS NULL)",
    )
    .bind(card.as_str())
    .execute(&mut *connection)
    .await?;
    severity::set(connection, card).await?;
    context.behind.add_all();
    Ok(())
}

/// Whatever does not fire.
async fn count_as_shown(connection: &mut AnyConnection, card: &CardId) -> Result<(), StoreError> {
    statement::query(
        "DELETE FROM note WHERE card = $1 AND op IS NULL AND EXISTS \
         (SELECT 1 FROM incident WHERE incident.id = note.incident AND incident.state <> 'firing')",
    )
    .bind(card.as_str())
    .execute(&mut *connection)
    .await?;
    statement::query(
        "UPDATE card_incident SET shown_rev = (SELECT rev FROM incident WHERE incident.id = card_incident.incident) \
         WHERE card = $1 AND EXISTS (SELECT 1 FROM incident WHERE incident.id = card_incident.incident \
                                    AND incident.state <> 'firing') \
         AND shown_rev < (SELECT rev FROM incident WHERE incident.id = card_incident.incident)",
    )
    .bind(card.as_str())
    .execute(connection)
    .await?;
    Ok(())
}
