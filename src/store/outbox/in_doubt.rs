//! Ops that may or may not have arrived: what helps to find them in the room, parking, and what a store that was
//! restored from an older copy does not know.

use sqlx::AnyConnection;

use super::sql::{Shown, settle};
use crate::store::db::statement;
use crate::{
    model::{CardId, IncidentId, RoomAddress, Timestamp, TxnId},
    store::{Store, StoreError, cards::superseded::point_to, db::writer::WriteContext},
};

/// Later events that [`Store::recorded`] names at most, and answers beside them.
const LATER: i64 = 5_000;
const ANSWERS: i64 = 500;

/// The acknowledged events of a room around the first try of an op.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The last one before.
    pub before: Option<String>,
    /// Those since.
    pub later: Vec<String>,
}

/// A card's first event that was found in the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRoot {
    pub event_id: String,
    pub op: TxnId,
    pub incident: IncidentId,
}

impl Store {
    /// The acknowledged events of `room` before and since something was frozen as the `frozen_seq`th, and tried first
    /// `at`. The store's counter tells which: a clock that jumps must not put an event before one that it follows, or
    /// reading back would end too early.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn recorded(&self, room: &RoomAddress, frozen_seq: i64, at: Timestamp) -> Result<Recorded, StoreError> {
        let mut connection = self.readers.acquire().await?;
        // Ops of versions that did not count have their times alone.
        let before = statement::query_scalar(
            "SELECT event_id FROM op WHERE room = $1 AND state = 'done' AND event_id IS NOT NULL \
             AND ended_seq <= $2 AND (ended_seq > 0 OR ended_at <= $3) ORDER BY ended_seq DESC, ended_at DESC LIMIT 1",
        )
        .bind(room.as_str())
        .bind(frozen_seq)
        .bind(at.0)
        .fetch_optional(&mut *connection)
        .await?;
        // For one that was not counted: all that was, and what its time tells of the others.
        let first = if frozen_seq > 0 { frozen_seq + 1 } else { 0 };
        let mut later: Vec<String> = statement::query_scalar(
            "SELECT event_id FROM op WHERE room = $1 AND state = 'done' AND event_id IS NOT NULL \
             AND ended_seq >= $2 AND (ended_seq > 0 OR ended_at > $3) ORDER BY ended_seq, ended_at LIMIT $4",
        )
        .bind(room.as_str())
        .bind(first)
        .bind(at.0)
        .bind(LATER)
        .fetch_all(&mut *connection)
        .await?;
        // Answers are not ordered among ops: the last ones may have come before or since.
        let answers: Vec<String> = statement::query_scalar(
            "SELECT event_id FROM answer WHERE room = $1 AND event_id IS NOT NULL ORDER BY id DESC LIMIT $2",
        )
        .bind(room.as_str())
        .bind(ANSWERS)
        .fetch_all(&mut *connection)
        .await?;
        later.extend(answers);
        Ok(Recorded { before, later })
    }

    /// The last acknowledged event of `room`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn last_recorded(&self, room: &RoomAddress) -> Result<Option<String>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let last = statement::query_scalar(
            "SELECT event_id FROM op WHERE room = $1 AND state = 'done' AND event_id IS NOT NULL \
             ORDER BY ended_seq DESC, ended_at DESC LIMIT 1",
        )
        .bind(room.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        Ok(last)
    }

    /// Sets an op aside so that the room can go on; it is looked for in the room from now on.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn park(&self, txn_id: &TxnId, error: &str, next_look: Timestamp) -> Result<(), StoreError> {
        let (txn_id, error) = (txn_id.clone(), error.to_owned());
        self.write(move |connection, _| {
            Box::pin(async move {
                statement::query("UPDATE op SET state = 'parked', error = $2, next_try = $3 WHERE txn_id = $1")
                    .bind(txn_id.as_str())
                    .bind(error)
                    .bind(next_look.0)
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Whether an op of `room` is parked for which no other event has spoken yet: the homeserver may take none at all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn is_one_parked_unproven(&self, room: &RoomAddress) -> Result<bool, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let found: i64 = statement::query_scalar(
            "SELECT count(*) FROM op WHERE room = $1 AND state = 'parked' AND state NOT IN ('done', 'refused') \
             AND alone = 0",
        )
        .bind(room.as_str())
        .fetch_one(&mut *connection)
        .await?;
        Ok(found != 0)
    }

    /// The parked ops of `room` are looked for at once: an outage is over, and they may have been its victims.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn search_soon(&self, room: &RoomAddress, now: Timestamp) -> Result<(), StoreError> {
        let room = room.clone();
        self.write(move |connection, _| {
            Box::pin(async move {
                statement::query(
                    "UPDATE op SET next_try = $2 WHERE room = $1 AND state IN ('parked', 'dead') \
                     AND state NOT IN ('done', 'refused') AND (state = 'parked' OR reason IS NOT NULL)",
                )
                .bind(room.as_str())
                .bind(now.0)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Adopts the first events of cards that have none and whose ops this store has never seen: it was restored from a
    /// copy that is older than they are. Returns the cards with their events.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn adopt_roots(
        &self,
        room: &RoomAddress,
        found: Vec<FoundRoot>,
    ) -> Result<Vec<(CardId, FoundRoot)>, StoreError> {
        let (room, now) = (room.clone(), self.clock.now());
        self.writer
            .write(move |connection, context| {
                Box::pin(async move {
                    let mut adopted = Vec::new();
                    for root in found {
                        if let Some(card) = adopt_root(connection, context, &room, &root, now).await? {
                            adopted.push((card, root));
                        }
                    }
                    Ok(adopted)
                })
            })
            .await
    }
}

async fn adopt_root(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    room: &RoomAddress,
    found: &FoundRoot,
    now: Timestamp,
) -> Result<Option<CardId>, StoreError> {
    let card: Option<String> = statement::query_scalar(
        "SELECT card.id FROM card JOIN card_incident ON card_incident.card = card.id \
         WHERE card.room = $1 AND card_incident.incident = $2 AND card.root_event IS NULL AND card.state = 'live' \
         AND NOT EXISTS (SELECT 1 FROM op WHERE op.txn_id = $3 \
                         OR (op.card = card.id AND op.state IN ('in_flight', 'in_doubt', 'parked'))) LIMIT 1",
    )
    .bind(room.as_str())
    .bind(found.incident.as_str())
    .bind(found.op.as_str())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(card) = card.map(CardId) else { return Ok(None) };
    // What it shows is not known, so `shown_rev` stays: an edit brings it up to date.
    statement::query("UPDATE card SET root_event = $2, root_at = $3, spoke_at = $3, last_reply = NULL WHERE id = $1")
        .bind(card.as_str())
        .bind(&found.event_id)
        .bind(now.0)
        .execute(&mut *connection)
        .await?;
    point_to(connection, context, &card, now).await?;
    settle(connection, context, &card, Shown::Same).await?;
    Ok(Some(card))
}
