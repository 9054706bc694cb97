//! Answers to what people ask for in a room: frozen like ops, and sent after everything that cards need.

use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use crate::{
    model::{CardId, EvidenceKind, RoomAddress, Timestamp, TxnId},
    store::{Store, StoreError, db::writer::WriteContext},
};

/// An answer about to be frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAnswer {
    /// The act that it answers.
    pub act: String,
    pub room: RoomAddress,
    /// The card that it belongs to, if there is one.
    pub card: Option<CardId>,
    /// `m.room.message` or `m.reaction`.
    pub event_type: String,
    /// The content as JSON text, byte for byte what every try sends. That of a message has the transaction id under
    /// `CONTENT_KEY`, so that it is found when the room is read back.
    pub content: String,
    pub txn_id: TxnId,
    pub at: Timestamp,
    /// What it shows, if it is evidence.
    pub evidence: Option<EvidenceKind>,
    /// After this it is not sent any more; `None`: it waits as long as it takes.
    pub until: Option<Timestamp>,
}

/// An answer that is not in its room yet, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its place among all that was frozen, by the store's counter.
    pub id: i64,
    pub act: String,
    pub room: RoomAddress,
    pub event_type: String,
    pub content: String,
    pub txn_id: TxnId,
    pub at: Timestamp,
    /// The device that made the first try.
    pub device: Option<String>,
    /// An earlier try may have arrived.
    pub in_doubt: bool,
    pub attempts: u32,
    pub evidence: Option<EvidenceKind>,
    pub until: Option<Timestamp>,
}

impl Answer {
    /// Reactions are not encrypted, carry no key of ours, and count once whatever happens.
    #[must_use]
    pub fn is_reaction(&self) -> bool {
        self.event_type == "m.reaction"
    }
}

/// Freezes an answer in the transaction of its act's outcome, and wakes the lanes. Returns its place.
pub(in crate::store) async fn insert_answer(
    connection: &mut SqliteConnection,
    context: &mut WriteContext,
    answer: &NewAnswer,
) -> Result<i64, StoreError> {
    let id = context.next();
    sqlx::query(
        "INSERT INTO answer (id, act, room, card, type, content, txn_id, at, state, evidence, until) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'waiting', $9, $10)",
    )
    .bind(id)
    .bind(&answer.act)
    .bind(answer.room.as_str())
    .bind(answer.card.as_ref().map(CardId::as_str))
    .bind(&answer.event_type)
    .bind(&answer.content)
    .bind(answer.txn_id.as_str())
    .bind(answer.at.0)
    .bind(answer.evidence.map(EvidenceKind::as_str))
    .bind(answer.until.map(|until| until.0))
    .execute(connection)
    .await?;
    context.wake = true;
    Ok(id)
}

impl Store {
    /// Freezes an answer by itself.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn freeze_answer(&self, answer: NewAnswer) -> Result<i64, StoreError> {
        self.writer
            .write(move |connection, context| {
                Box::pin(async move { insert_answer(connection, context, &answer).await })
            })
            .await
    }

    /// The next answer of `room`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn next_answer(&self, room: &RoomAddress) -> Result<Option<Answer>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let row = sqlx::query(
            "SELECT id, act, room, type, content, txn_id, at, device, state, attempts, evidence, until FROM answer \
             WHERE room = $1 AND state IN ('waiting', 'in_doubt') ORDER BY id LIMIT 1",
        )
        .bind(room.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        row.as_ref().map(|row| answer_of(row, room)).transpose()
    }

    /// The rooms that are behind with their cards, or have an op on its way.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn rooms_due(&self) -> Result<Vec<RoomAddress>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let rooms: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT room FROM card WHERE dirty_since IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM op WHERE op.card = card.id AND op.state = 'parked') \
             UNION SELECT room FROM op WHERE state IN ('in_flight', 'in_doubt')",
        )
        .fetch_all(&mut *connection)
        .await?;
        Ok(rooms.iter().filter_map(|room| RoomAddress::parse(room).ok()).collect())
    }

    /// Writes down that a try is about to be made. A crash from here on leaves the answer in doubt.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn record_answer_try(&self, answer: &Answer, device: String) -> Result<(), StoreError> {
        let id = answer.id;
        self.write(move |connection, _| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE answer SET state = 'in_doubt', attempts = attempts + 1, device = coalesce(device, $2) \
                     WHERE id = $1",
                )
                .bind(id)
                .bind(device)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// The try has surely not arrived, and neither has one before: the answer waits as if it had never been tried.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn requeue_answer(&self, answer: &Answer) -> Result<(), StoreError> {
        let id = answer.id;
        self.write(move |connection, _| {
            Box::pin(async move {
                sqlx::query("UPDATE answer SET state = 'waiting', device = NULL WHERE id = $1")
                    .bind(id)
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// The answer is in the room.
    ///
    /// # Errors
    /// When it cannot be committed. The answer then stays in doubt.
    pub async fn finish_answer(&self, answer: &Answer, event_id: &str) -> Result<(), StoreError> {
        self.end_answer(answer.id, "done", Some(event_id.to_owned())).await
    }

    /// The answer will never be in the room.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn refuse_answer(&self, answer: &Answer) -> Result<(), StoreError> {
        self.end_answer(answer.id, "refused", None).await
    }

    async fn end_answer(&self, id: i64, state: &'static str, event_id: Option<String>) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.write(move |connection, _| {
            Box::pin(async move {
                sqlx::query("UPDATE answer SET state = $2, event_id = $3, ended_at = $4, content = '' WHERE id = $1")
                    .bind(id)
                    .bind(state)
                    .bind(event_id)
                    .bind(now.0)
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }
}

/// When the oldest answer that waits in `room` was frozen.
pub(in crate::store) async fn oldest_waiting(
    connection: &mut SqliteConnection,
    room: &RoomAddress,
) -> Result<Option<Timestamp>, StoreError> {
    let at: Option<i64> = sqlx::query_scalar(
        "SELECT at FROM answer WHERE room = $1 AND state IN ('waiting', 'in_doubt') ORDER BY id LIMIT 1",
    )
    .bind(room.as_str())
    .fetch_optional(connection)
    .await?;
    Ok(at.map(Timestamp))
}

/// Prunes answers that ended long ago, and gives up those that nobody waits for any more: their room is no longer routed.
pub(in crate::store) async fn prune_answers(
    connection: &mut SqliteConnection,
    before: Timestamp,
    limit: i64,
) -> Result<u64, StoreError> {
    let mut pruned = 0;
    for sql in [
        "DELETE FROM answer WHERE id IN (SELECT id FROM answer WHERE ended_at < $1 LIMIT $2)",
        "DELETE FROM answer WHERE id IN (SELECT id FROM answer WHERE state IN ('waiting', 'in_doubt') AND at < $1 LIMIT $2)",
    ] {
        let done = sqlx::query(sql).bind(before.0).bind(limit).execute(&mut *connection).await?;
        pruned += done.rows_affected();
    }
    Ok(pruned)
}

fn answer_of(row: &SqliteRow, room: &RoomAddress) -> Result<Answer, StoreError> {
    let attempts: i64 = row.try_get("attempts")?;
    Ok(Answer {
        id: row.try_get("id")?,
        act: row.try_get("act")?,
        room: room.clone(),
        event_type: row.try_get("type")?,
        content: row.try_get("content")?,
        txn_id: TxnId(row.try_get("txn_id")?),
        at: Timestamp(row.try_get("at")?),
        device: row.try_get("device")?,
        in_doubt: row.try_get::<&str, _>("state")? == "in_doubt",
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        evidence: row.try_get::<Option<&str>, _>("evidence")?.and_then(EvidenceKind::parse),
        until: row.try_get::<Option<i64>, _>("until")?.map(Timestamp),
    })
}
