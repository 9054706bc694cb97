//! Answers to what people ask for in a room: frozen like ops, and sent after everything that cards need.

use sqlx::{AnyConnection, Row as _, any::AnyRow};

use crate::store::db::statement;
use crate::{
    model::{CardId, EvidenceKind, IncidentId, RoomAddress, RouteName, Timestamp, TxnId},
    store::{Store, StoreError, db::writer::WriteContext},
};

/// What makes an answer one that nobody asked for: evidence beside a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unasked {
    pub kind: EvidenceKind,
    /// By which it is counted.
    pub route: RouteName,
    /// After this it is not sent any more.
    pub until: Timestamp,
}

/// An answer about to be frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAnswer {
    /// The act that it answers; of what nobody asked for the first event of its card.
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
    /// `None`: somebody asked for it, and it waits as long as it takes.
    pub unasked: Option<Unasked>,
}

/// An answer that is not in its room yet, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its place among all that was frozen, by the store's counter.
    pub id: i64,
    pub act: String,
    pub room: RoomAddress,
    pub card: Option<CardId>,
    pub event_type: String,
    pub content: String,
    pub txn_id: TxnId,
    pub at: Timestamp,
    /// The device that made the first try.
    pub device: Option<String>,
    /// An earlier try may have arrived.
    pub in_doubt: bool,
    pub attempts: u32,
    pub unasked: Option<Unasked>,
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
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    answer: &NewAnswer,
) -> Result<i64, StoreError> {
    let id = context.next();
    statement::query(
        "INSERT INTO answer (id, act, room, card, type, content, txn_id, at, state, evidence, until, route) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'waiting', $9, $10, $11)",
    )
    .bind(id)
    .bind(&answer.act)
    .bind(answer.room.as_str())
    .bind(answer.card.as_ref().map(CardId::as_str))
    .bind(&answer.event_type)
    .bind(&answer.content)
    .bind(answer.txn_id.as_str())
    .bind(answer.at.0)
    .bind(answer.unasked.as_ref().map(|unasked| unasked.kind.as_str()))
    .bind(answer.unasked.as_ref().map(|unasked| unasked.until.0))
    .bind(answer.unasked.as_ref().map(|unasked| unasked.route.as_str()))
    .execute(connection)
    .await?;
    context.behind.add_all();
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

    /// Freezes evidence of `kind` for the thread of a card whose first event is `answer.act`; once for each first event,
    /// and not if the card has another one by now. It goes to the room that the card is in by now. Returns whether it did.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn freeze_evidence(&self, answer: NewAnswer, kind: EvidenceKind) -> Result<bool, StoreError> {
        self.writer
            .write(move |connection, context| {
                Box::pin(async move {
                    let room: Option<String> = statement::query_scalar(
                        "SELECT room FROM card WHERE id = $1 AND root_event = $2 AND NOT EXISTS \
                         (SELECT 1 FROM answer WHERE answer.act = $2 AND answer.evidence = $3)",
                    )
                    .bind(answer.card.as_ref().map(CardId::as_str))
                    .bind(&answer.act)
                    .bind(kind.as_str())
                    .fetch_optional(&mut *connection)
                    .await?;
                    let Some(room) = room.and_then(|room| RoomAddress::parse(&room).ok()) else { return Ok(false) };
                    insert_answer(connection, context, &NewAnswer { room, ..answer }).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Incident and route of a card of one incident; `None`: it is a digest, or not there any more.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn only_incident(&self, card: &CardId) -> Result<Option<(IncidentId, RouteName)>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let row = statement::query(
            "SELECT incident.id, incident.route FROM card JOIN card_incident ON card_incident.card = card.id \
             JOIN incident ON incident.id = card_incident.incident WHERE card.id = $1 AND card.kind = 'incident'",
        )
        .bind(card.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let route = RouteName::parse(row.try_get("route")?).ok();
        let id = IncidentId(row.try_get("id")?);
        Ok(route.map(|route| (id, route)))
    }

    /// The next answer of `room`; what nobody asked for comes after all others.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn next_answer(&self, room: &RoomAddress) -> Result<Option<Answer>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let row = statement::query(
            "SELECT id, act, room, card, type, content, txn_id, at, device, state, attempts, evidence, until, route \
             FROM answer WHERE room = $1 AND state IN ('waiting', 'in_doubt') ORDER BY until IS NOT NULL, id LIMIT 1",
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
        let rooms: Vec<String> = statement::query_scalar(
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
                statement::query(
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
                statement::query("UPDATE answer SET state = 'waiting', device = NULL WHERE id = $1")
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

    /// The answer will never be in the room, and another one takes its place.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn replace_answer(&self, answer: &Answer, by: NewAnswer) -> Result<(), StoreError> {
        let (id, now) = (answer.id, self.clock.now());
        self.writer
            .write(move |connection, context| {
                Box::pin(async move {
                    end_one(connection, id, "refused", None, now).await?;
                    insert_answer(connection, context, &by).await?;
                    Ok(())
                })
            })
            .await
    }

    async fn end_answer(&self, id: i64, state: &'static str, event_id: Option<String>) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.write(move |connection, _| Box::pin(async move { end_one(connection, id, state, event_id, now).await }))
            .await
    }
}

async fn end_one(
    connection: &mut AnyConnection,
    id: i64,
    state: &str,
    event_id: Option<String>,
    now: Timestamp,
) -> Result<(), StoreError> {
    statement::query("UPDATE answer SET state = $2, event_id = $3, ended_at = $4, content = '' WHERE id = $1")
        .bind(id)
        .bind(state)
        .bind(event_id)
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// When the next answer of a room was frozen, and until when it is to be sent if nobody asked for it.
pub(in crate::store) const NEXT_WAITING: &str = "SELECT at, until FROM answer WHERE room = $1 \
     AND state IN ('waiting', 'in_doubt') ORDER BY until IS NOT NULL, id LIMIT 1";

/// Prunes answers that ended long ago, and gives up those that nobody waits for any more: their room is no longer routed.
pub(in crate::store) async fn prune_answers(
    connection: &mut AnyConnection,
    before: Timestamp,
    limit: i64,
) -> Result<u64, StoreError> {
    let mut pruned = 0;
    for sql in [
        "DELETE FROM answer WHERE id IN (SELECT id FROM answer WHERE ended_at < $1 LIMIT $2)",
        "DELETE FROM answer WHERE id IN (SELECT id FROM answer WHERE state IN ('waiting', 'in_doubt') AND at < $1 LIMIT $2)",
    ] {
        let done = statement::query(sql).bind(before.0).bind(limit).execute(&mut *connection).await?;
        pruned += done.rows_affected();
    }
    Ok(pruned)
}

fn answer_of(row: &AnyRow, room: &RoomAddress) -> Result<Answer, StoreError> {
    let attempts: i64 = row.try_get("attempts")?;
    Ok(Answer {
        id: row.try_get("id")?,
        act: row.try_get("act")?,
        room: room.clone(),
        card: row.try_get::<Option<String>, _>("card")?.map(CardId),
        event_type: row.try_get("type")?,
        content: row.try_get("content")?,
        txn_id: TxnId(row.try_get("txn_id")?),
        at: Timestamp(row.try_get("at")?),
        device: row.try_get("device")?,
        in_doubt: row.try_get::<&str, _>("state")? == "in_doubt",
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        unasked: unasked_of(row)?,
    })
}

fn unasked_of(row: &AnyRow) -> Result<Option<Unasked>, StoreError> {
    let kind = row.try_get::<Option<&str>, _>("evidence")?.and_then(EvidenceKind::parse);
    let route = row.try_get::<Option<&str>, _>("route")?.and_then(|route| RouteName::parse(route).ok());
    let until = row.try_get::<Option<i64>, _>("until")?.map(Timestamp);
    let (Some(kind), Some(route), Some(until)) = (kind, route, until) else { return Ok(None) };
    Ok(Some(Unasked { kind, route, until }))
}
